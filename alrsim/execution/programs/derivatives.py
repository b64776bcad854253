"""Gradients that would have to pass an operator without a derivative are refused, with the operator's name.

LR needs derivatives only from its noise back to the parameters of the stage that it lies on: a black box or a step
function between stages is as good as any other operator. Backpropagation through a black box stops with an error;
through a step function of torch it gives zeros, which the rules say in a note.
"""

from collections.abc import Iterable, Iterator

import torch
from torch.fx import Node

from alrsim.errors import ExecutionError
from alrsim.execution.programs.operators import is_filled, operator_name
from alrsim.execution.programs.program import Program
from alrsim.execution.programs.staged_graph import Source
from alrsim.frontend.custom_ops import is_custom, is_differentiable
from alrsim.frontend.inject import INJECT
from alrsim.rules.options import RuleOptions
from alrsim.rules.segmentation import Segmentation

STEPS = frozenset({"ceil", "floor", "heaviside", "round", "sgn", "sign", "trunc"})
"""Operators with real results whose derivative is zero; results that are not real numbers have none, either."""


def refuse_without_derivative(program: Program, options: RuleOptions, segmentation: Segmentation) -> None:
    """Check every segment of a step.

    Raises:
        ExecutionError: a black box without a derivative between a parameter and where its segment's gradient comes
            from; under LR also a parameter that only step functions connect with the noise.
    """
    codes, source = program.at(1), program.source
    for segment in dict.fromkeys(segmentation.segment):
        stages = [stage for stage, other in enumerate(segmentation.segment) if other == segment]
        owned = {name for stage in stages for name in codes[stage].parameters}
        exact = all(segmentation.is_exact(stage) for stage in stages)
        if not owned or (not exact and all(stage in options.weight_noise for stage in stages)):
            continue
        inside = set(stages)
        starts = list(_starts(source, inside))
        every, smooth = (_behind(source, inside, starts, smooth=flag) for flag in (False, True))
        where = f"{program.name}, stage {stages[0]}" + (f" to {stages[-1]}" if len(stages) > 1 else "")
        for node in every:
            if not is_custom(node) or has_derivative(node):
                continue
            if any(above in source.parameters for above in _behind(source, inside, [node], smooth=False)):
                raise ExecutionError(
                    f"operator {node.target} has no derivative, and the gradient of a parameter would have to pass it",
                    where=where,
                    fix="use an lr method on stages that start at it (`cut=layer`), or give it a derivative with "
                    "register_autograd",
                )
        lost = sorted(owned - {source.parameters[node] for node in smooth if node in source.parameters})
        if lost and not exact:
            raise ExecutionError(
                f"only step functions lead from parameter {lost[0]} to the noise, so that LR would leave it as it is",
                where=where,
                fix="end the stage at its layer, so that the noise lies in front of the step (`cut=layer`)",
            )


def has_derivative(node: Node) -> bool:
    """Whether autograd carries a gradient from a node's result to its inputs."""
    if is_custom(node):
        return is_differentiable(node.target)  # type: ignore[arg-type]
    value = node.meta["val"]
    items = value if isinstance(value, tuple | list) else [value]
    real = any(isinstance(item, torch.Tensor) and item.dtype.is_floating_point for item in items)
    return real and operator_name(node) not in STEPS and not is_filled(node)


def _starts(source: Source, stages: set[int]) -> Iterator[Node]:
    """Where a segment's gradient comes from: values that leave it, and marked values."""
    for node in source.body:
        if source.stage.get(node) in stages:
            leaves = any(source.stage.get(user, -1) not in stages and user in source.stage for user in node.users)
            if leaves or node is source.output or str(node.target).startswith(INJECT.replace("::", ".")):
                yield node


def _behind(source: Source, stages: set[int], starts: Iterable[Node], *, smooth: bool) -> dict[Node, None]:
    """Nodes and parameters that lead to the starts inside the segment; ``smooth``: along derivatives only."""
    found: dict[Node, None] = {}
    waiting = list(starts)
    while waiting:
        node = waiting.pop()
        if node in found:
            continue
        found[node] = None
        if node.op == "call_function" and not is_filled(node) and (has_derivative(node) or not smooth):
            waiting += [value for value in node.all_input_nodes if source.stage.get(value, -1) in {*stages, -1}]
    return found
