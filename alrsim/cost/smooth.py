"""Which stages' noise passes a step function on its way to the loss.

Two-point noise (Rademacher) stands for a derivative only where the loss is smooth on the scale of the noise. Behind a
step it must have a density (Gaussian, Laplace, uniform): the expected loss is smooth then, whatever the loss is.
"""

from collections.abc import Collection, Sequence

from alrsim.cost.injection_points import is_mark
from alrsim.cost.operators import cost_function
from alrsim.cost.parts import FLOATS
from alrsim.graph.graph import DIFFERENTIABLE, Graph, Op

_COMPARISONS = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
STEPS = frozenset((*_COMPARISONS, "ArgMax", "ArgMin", "Ceil", "Floor", "Round", "Sign", "ThresholdedRelu"))
"""ONNX operators that are step functions of a real input."""


def is_step(graph: Graph, op: Op) -> bool:
    """Whether an operator's result jumps where its real inputs move: a step function, a cast of real numbers to whole
    ones, or a custom operator without a derivative (nobody knows that it is smooth)."""
    real = any(value and graph.tensors[value].dtype in FLOATS for value in op.inputs)
    if op.domain:
        return real and (op.attributes.get(DIFFERENTIABLE) == 0 or cost_function(op) is None)
    whole = op.kind in ("Cast", "CastLike") and graph.tensors[op.outputs[0]].dtype not in FLOATS
    return real and (op.kind in STEPS or whole)


def discontinuous_stages(
    graph: Graph, cut: Sequence[Sequence[str]], weight_noise: Collection[int] = ()
) -> tuple[int, ...]:
    """Stages whose noise passes a step function before the loss.

    Args:
        cut: Operator names per stage.
        weight_noise: Stages whose noise lies on their parameters; elsewhere it lies on the stage's marked values, or,
            if it has none, on the values that leave it.
    """
    producer = {value: op for op in graph.ops for value in op.outputs if value}
    readers: dict[str, list[Op]] = {}
    for op in graph.ops:
        for value in op.inputs:
            readers.setdefault(value, []).append(op)
    jumps: set[str] = set()
    for op in reversed(graph.ops):
        if is_step(graph, op) or not jumps.isdisjoint(op.outputs):
            jumps.update(op.inputs)
    found = []
    for index, names in enumerate(cut):
        inside = set(names)
        values = [value for value in producer if producer[value].name in inside]
        marks = [value for value in values if is_mark(producer[value])]
        leaving = [value for value in values if any(op.name not in inside for op in readers.get(value, ()))]
        starts = marks or leaving
        if index in weight_noise:
            starts = [
                value for op in graph.ops if op.name in inside for value in op.inputs if value in graph.parameters
            ]
        if not jumps.isdisjoint(starts):
            found.append(index)
    return tuple(found)
