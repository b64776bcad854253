"""Which values cannot be negative, by their operators alone: their threshold code takes one bit, not two.

Missing one is safe: it is then priced at two bits.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from alrsim.graph.graph import Op

_ALWAYS = ("Abs", "Exp", "Relu", "Sigmoid", "HardSigmoid", "Softmax", "Softplus", "Sqrt", "OneHot")
_KEEPS_FIRST = (
    "AveragePool",
    "Dropout",
    "Expand",
    "Flatten",
    "Gather",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Identity",
    "Inject",
    "MaxPool",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceSum",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
)
_KEEPS_ALL = ("Add", "Concat", "Max", "Mean", "Mul", "Sum")
_COMPARISONS = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "And", "Or")

_RULES: Mapping[str, Callable[[Sequence[bool]], bool]] = {
    **dict.fromkeys((*_ALWAYS, *_COMPARISONS), lambda _: True),
    **dict.fromkeys((*_KEEPS_FIRST, "Cast"), lambda inputs: inputs[0]),
    **dict.fromkeys(_KEEPS_ALL, all),
}


def nonnegative(ops: Iterable[Op], signed: Collection[str] = ()) -> frozenset[str]:
    """Values of the operators that are at least 0 whatever they read; inputs from elsewhere may have any sign.

    Args:
        ops: In topological order.
        signed: Values that may have any sign because noise is added to them.
    """
    found: set[str] = set()
    for op in ops:
        rule = _RULES.get(op.kind) if not op.domain or op.kind == "Inject" else None
        if rule is not None and rule([value in found for value in op.inputs if value] or [False]):
            found.update(filter(None, op.outputs))
        found.difference_update(value for value in op.outputs if value in signed)
    return frozenset(found)
