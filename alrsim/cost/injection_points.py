"""Marked places inside a stage, and whether noise on them tells everything about the stage's parameters.

Noise on a set of values gives the gradient of a parameter if every path from the parameter to what leaves the stage
meets one of them: then the gradient is the sum over the values of (loss per value) x (value per parameter, the other
values held), by the chain rule on a vertex cut. A path that avoids all of them is missing from that sum.
"""

from collections.abc import Collection, Iterable, Sequence

from alrsim.graph.graph import Graph, Op

MARK = "Inject"
"""Kind of the operator that marks a value (see :mod:`alrsim.frontend.inject`)."""

_SHAPES = ("Shape", "Size")
"""Operators whose result does not depend on the values that they read."""


def is_mark(op: Op) -> bool:
    """Whether an operator marks its value as a place for noise."""
    return op.kind == MARK and op.domain == "alrsim"


def marked_points(graph: Graph, ops: Sequence[Op], parameters: Iterable[str]) -> tuple[tuple[str, int], ...]:
    """Marked values of a stage that depend on its parameters, ``(name, elements)`` in topological order.

    Noise on the others would tell nothing about the stage and is left out.
    """
    behind = _depending(ops, parameters, ())
    values = [op.outputs[0] for op in ops if is_mark(op)]
    return tuple((value, graph.tensors[value].elements) for value in values if value in behind)


def uncut_path(ops: Sequence[Op], parameters: Iterable[str], points: Collection[str], outputs: Iterable[str]) -> str:
    """In words, a path from a parameter to an output that avoids every point; empty if there is none.

    A path follows values, whether or not there is a derivative along it: noise sees through steps and rounding.

    Args:
        ops: The stage's operators in topological order.
        points: Marked values.
        outputs: Values that leave the stage.
    """
    came = _depending(ops, parameters, points)
    for value in outputs:
        if value in came:
            steps = [value]
            while came[steps[-1]]:
                steps.append(came[steps[-1]])
            middle = f" through {steps[len(steps) // 2]!r}" if len(steps) > 2 else ""
            return f"parameter {steps[-1]!r} reaches {value!r}{middle}"
    return ""


def _depending(ops: Sequence[Op], sources: Iterable[str], stops: Collection[str]) -> dict[str, str]:
    """Values that depend on a source, with the input through which they do (sources: empty); ``stops`` end a path."""
    found = dict.fromkeys(sources, "")
    for op in ops:
        first = next((value for value in op.inputs if value in found), None)
        if first is not None and op.kind not in _SHAPES:
            found.update((value, first) for value in op.outputs if value and value not in stops and value not in found)
    return found
