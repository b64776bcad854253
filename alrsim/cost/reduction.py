"""Pooling and reductions, in FLOPs (see :mod:`alrsim.cost.elementwise` for what a FLOP is)."""

from math import prod

from alrsim.cost.parts import CostFunction, Gradient, OpView, Parts


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
}
