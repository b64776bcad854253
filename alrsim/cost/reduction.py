"""Pooling, reductions, normalisations and softmax, in FLOPs (see :mod:`alrsim.cost.elementwise` for what one is)."""

from math import prod

from alrsim.cost.parts import CostFunction, Gradient, OpView, Parts
from alrsim.graph.work import Work


def max_pool(view: OpView) -> Parts:
    """One comparison per window element; the gradient scatters 1 addition per output through kept indices.

    PyTorch keeps the input and 64-bit indices; an index counts as two elements.
    """
    window = prod(view.integers("kernel_shape")) or 1
    gradient = view.gradient(0, elementwise=view.out_size, saves=view.op.inputs[:1])
    return Parts(view.forward(elementwise=window * view.out_size), {0: gradient}, kept=2 * view.out_size)


def average_pool(view: OpView) -> Parts:
    """One addition per window element (the division included); the gradient spreads the same number.

    PyTorch keeps the input, although the gradient needs its shape only.
    """
    window = prod(view.integers("kernel_shape")) or 1
    flops = window * view.out_size
    gradient = view.gradient(0, elementwise=flops)
    return Parts(view.forward(elementwise=flops), {0: Gradient(gradient.work, view.op.inputs[:1])})


def reduction(view: OpView) -> Parts:
    """Sums, means and norms: 1 FLOP per input element (2 where each is transformed first), the gradient 1 or 2."""
    per_element = {"ReduceL2": 2, "ReduceSumSquare": 2, "ReduceLogSumExp": 4, "ReduceL1": 2, "ReduceLogSum": 1}
    flops = per_element.get(view.op.kind, 1) * view.size(0)
    linear = view.op.kind in ("ReduceSum", "ReduceMean", "GlobalAveragePool")
    saves = () if linear else (view.op.inputs[0], view.op.outputs[0])
    gradient = view.gradient(0, elementwise=view.size(0) * (1 if linear else 2), saves=saves)
    return Parts(view.forward(elementwise=flops), {0: gradient})


def top_k(view: OpView) -> Parts:
    """One comparison per input element; the gradient goes back to the chosen elements through kept indices."""
    return Parts(view.forward(elementwise=view.size(0)), {0: view.gradient(0)}, kept=view.out_size)


_PER_ELEMENT = {"RMSNormalization": 5, "MeanVarianceNormalization": 6, "LpNormalization": 3}
"""Otherwise 8: mean 1, variance 3, normalise 2, scale and shift 2."""


def normalization(view: OpView) -> Parts:
    """Batch, layer, instance, group and RMS normalisation in training mode.

    The backward pass first reduces ``sum dy`` and ``sum dy xhat`` (5 FLOPs per element; they are the gradients of
    shift and scale), then combines them into the input's gradient (6 per element). The reductions are interior work:
    every gradient needs them. Means and variances are kept besides the input.
    """
    size, data = view.size(0), view.op.inputs[0]
    reduce = Work(elementwise=5 * size, activation_reads=2 * size, launches=1)
    gradients = {0: view.gradient(0, elementwise=6 * size, saves=(data,))}
    for position in (1, 2):
        if view.has(position):
            gradients[position] = Gradient(Work(param_writes=view.size(position) if view.is_weight(position) else 0))
    return Parts(
        view.forward(elementwise=_PER_ELEMENT.get(view.op.kind, 8) * size),
        gradients,
        interior=reduce,
        interior_saves=(data,),
        kept=2 * _groups(view),
    )


def _groups(view: OpView) -> int:
    """How many means (and variances) there are."""
    shape = view.shape(0)
    if view.op.kind == "BatchNormalization":
        return shape[1]
    if view.op.kind == "InstanceNormalization":
        return shape[0] * shape[1]
    if view.op.kind == "GroupNormalization":
        return shape[0] * int(view.number("num_groups", 1))
    return prod(shape[: int(view.number("axis", -1)) % len(shape)])


def softmax(view: OpView) -> Parts:
    """Forward 5: maximum, subtract, exponential, sum, divide. Gradient ``y (dy - sum y dy)``: 4."""
    size = view.size(0)
    return Parts(
        view.forward(elementwise=5 * size), {0: view.gradient(0, elementwise=4 * size, saves=view.op.outputs[:1])}
    )


def local_response(view: OpView) -> Parts:
    """``LRN``: square 1, window sum ``size``, scale and shift 2, power 1, divide 1; the gradient one more."""
    size, window = view.size(0), int(view.number("size", 5))
    saves = (view.op.inputs[0], view.op.outputs[0])
    gradient = view.gradient(0, elementwise=(window + 6) * size, saves=saves)
    return Parts(view.forward(elementwise=(window + 5) * size), {0: gradient}, kept=size)


_REDUCTIONS = [
    "GlobalAveragePool",
    "GlobalLpPool",
    "GlobalMaxPool",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
]


REDUCTION: dict[str, CostFunction] = {
    "AveragePool": average_pool,
    "LpPool": average_pool,
    "MaxPool": max_pool,
    "TopK": top_k,
    **dict.fromkeys(_REDUCTIONS, reduction),
    **dict.fromkeys(
        ("BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization"), normalization
    ),
    **dict.fromkeys(("LpNormalization", "MeanVarianceNormalization", "RMSNormalization"), normalization),
    **dict.fromkeys(("Hardmax", "LogSoftmax", "Softmax"), softmax),
    "LRN": local_response,
}
