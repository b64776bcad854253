"""Element-wise operators. One FLOP is one addition, multiplication, division, comparison or special function.

(exp, log, tanh, erf, sqrt and powers are special functions.) The tables give FLOPs per output element; when an input
is broadcast, its gradient is also summed, one more FLOP per output element. What a gradient reads again is what
PyTorch saves for it, which for some activations is the input although the output would do.
"""

from typing import Literal, NamedTuple

from alrsim.cost.parts import CostFunction, Gradient, OpView, Parts
from alrsim.graph.work import Work


class Unary(NamedTuple):
    """FLOPs per element, forward and gradient, and what the gradient reads again: input, output, a mask, nothing."""

    forward: int
    gradient: int
    saves: Literal["x", "y", "mask", ""]


UNARY_FLOPS: dict[str, Unary] = {
    "Abs": Unary(1, 1, "x"),
    "Acos": Unary(1, 4, "x"),
    "Asin": Unary(1, 4, "x"),
    "Atan": Unary(1, 3, "x"),
    "Celu": Unary(4, 3, "x"),
    "Clip": Unary(2, 2, "x"),
    "Cos": Unary(1, 2, "x"),
    "CumSum": Unary(1, 1, ""),
    "Dropout": Unary(2, 1, "mask"),
    "Elu": Unary(4, 3, "x"),
    "Erf": Unary(1, 4, "x"),
    "Exp": Unary(1, 1, "y"),
    "Gelu": Unary(5, 8, "x"),
    "HardSigmoid": Unary(4, 2, "x"),
    "HardSwish": Unary(5, 4, "x"),
    "LeakyRelu": Unary(2, 2, "x"),
    "Log": Unary(1, 1, "x"),
    "Mish": Unary(4, 8, "x"),
    "Neg": Unary(1, 1, ""),
    "Reciprocal": Unary(1, 2, "y"),
    "Relu": Unary(1, 1, "y"),
    "Selu": Unary(5, 4, "x"),
    "Shrink": Unary(3, 1, "x"),
    "Sigmoid": Unary(4, 3, "y"),
    "Sin": Unary(1, 2, "x"),
    "Softplus": Unary(3, 3, "x"),
    "Softsign": Unary(3, 3, "x"),
    "Sqrt": Unary(1, 2, "y"),
    "Swish": Unary(5, 6, "x"),
    "Tan": Unary(1, 3, "y"),
    "Tanh": Unary(1, 3, "y"),
    "ThresholdedRelu": Unary(1, 1, "x"),
    "Trilu": Unary(1, 1, ""),
}

_NO_GRADIENT = [
    "And",
    "ArgMax",
    "ArgMin",
    "Bernoulli",
    "BitShift",
    "BitwiseAnd",
    "BitwiseNot",
    "BitwiseOr",
    "BitwiseXor",
    "Ceil",
    "DequantizeLinear",
    "Equal",
    "EyeLike",
    "Floor",
    "Greater",
    "GreaterOrEqual",
    "IsInf",
    "IsNaN",
    "Less",
    "LessOrEqual",
    "Mod",
    "Multinomial",
    "NonZero",
    "Not",
    "OneHot",
    "Or",
    "QuantizeLinear",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Range",
    "Round",
    "Sign",
    "Xor",
]


def unary(view: OpView) -> Parts:
    """One input, one output of the same shape."""
    flops = UNARY_FLOPS[view.op.kind]
    saves = {"x": view.op.inputs[:1], "y": view.op.outputs[:1]}.get(flops.saves, ())
    gradient = view.gradient(0, elementwise=flops.gradient * view.size(0), saves=saves)
    kept = view.size(0) if flops.saves == "mask" else 0
    return Parts(view.forward(elementwise=flops.forward * view.size(0)), {0: gradient}, kept=kept)


def addition(view: OpView) -> Parts:
    """``Add``, ``Sub``, ``Sum``, ``Mean``: the gradient is passed on as it is (negated for the subtrahend)."""
    terms = [position for position in range(len(view.op.inputs)) if view.has(position)]
    flops = view.out_size * (len(terms) - (view.op.kind != "Mean"))
    gradients: dict[int, Gradient] = {}
    for position in terms:
        scaled = view.op.kind == "Mean" or (view.op.kind == "Sub" and position == 1)
        summed = view.size(position) < view.out_size
        if scaled or summed:
            gradients[position] = view.gradient(position, elementwise=view.out_size * (scaled + summed))
        else:
            gradients[position] = Gradient(Work())
    return Parts(view.forward(elementwise=flops), gradients)


def product(view: OpView) -> Parts:
    """``Mul``, ``Div``, ``Pow``, ``PRelu``: each gradient reads the other operand, the divisor's both."""
    per_element = {"Mul": (1, 1), "Div": (1, 3), "Pow": (3, 3), "PRelu": (2, 2)}[view.op.kind]
    both = view.op.inputs[:2]
    saves = {
        "Mul": ((both[1],), (both[0],)),
        "Div": ((both[1],), both),
        "Pow": (both, (*both, view.op.outputs[0])),
        "PRelu": (both, (both[0],)),
    }[view.op.kind]
    gradients = {
        position: view.gradient(
            position,
            elementwise=view.out_size * (per_element[position] + (view.size(position) < view.out_size)),
            saves=saves[position],
        )
        for position in (0, 1)
    }
    return Parts(view.forward(elementwise=view.out_size * (2 if view.op.kind == "PRelu" else 1)), gradients)


def selection(view: OpView) -> Parts:
    """``Where``, ``Max``, ``Min``: one comparison per element and further operand, gradients masked by the choice."""
    first = 1 if view.op.kind == "Where" else 0
    terms = range(first, len(view.op.inputs))
    saves = view.op.inputs[:1] if view.op.kind == "Where" else view.op.inputs
    gradients = {
        position: view.gradient(
            position, elementwise=view.out_size * (1 + (view.size(position) < view.out_size)), saves=saves
        )
        for position in terms
    }
    return Parts(view.forward(elementwise=view.out_size * max(1, len(terms) - 1)), gradients)


def without_gradient(view: OpView) -> Parts:
    """Comparisons, logic, rounding, random numbers: 1 FLOP per element of the larger side, no gradient."""
    largest = max([view.out_size, *(view.size(position) for position in range(len(view.op.inputs)))])
    return Parts(view.forward(elementwise=largest))


ELEMENTWISE: dict[str, CostFunction] = {
    **dict.fromkeys(UNARY_FLOPS, unary),
    **dict.fromkeys(("Add", "Mean", "Sub", "Sum"), addition),
    **dict.fromkeys(("Div", "Mul", "PRelu", "Pow"), product),
    **dict.fromkeys(("Max", "Min", "Where"), selection),
    **dict.fromkeys(_NO_GRADIENT, without_gradient),
}
