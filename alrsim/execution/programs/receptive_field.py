"""Which losses a noise element can reach: losses that it cannot reach say nothing about it and only add variance.

Where a model classifies positions (the nodes of a graph, the tokens of a text), the noise at a position of a value is
weighed with the losses at the positions that it can influence. The dropped terms have mean zero, so that the estimate
keeps its expectation.

What reaches what is found by probing: one position of a value is moved, stage by stage the rest of the model runs, and
the positions whose logits are not bit for bit what they were are reached. That needs no derivative (spiking units have
none) and no rule per operator, and sees zeros in a constant matrix (an adjacency, a causal mask), which a structural
walk over the operators does not. Moves of several sizes and both signs, on several samples, are united, so that a unit
that is saturated or switched off for one of them hides nothing. Values have their positions in axis 1, logits behind
their classes in axis 2, and a value without such an axis counts as one position. A structure that changes with the data
(attention over positions chosen by content) is probed on the first micro-batch only, and should not be masked.
"""

from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor

from alrsim.errors import ExecutionError
from alrsim.execution.job import Job
from alrsim.execution.kernels.noising import noise_shapes
from alrsim.graph.stages import MODEL_INPUT

SIZES = (0.03, 0.3, 3.0)
"""Moves, in standard deviations of the value."""

_TOGETHER = 32
"""Positions that are moved at a time, each in a stacked copy of its own."""


def find_receptive_fields(job: Job, inputs: Mapping[str, Tensor]) -> Mapping[int, tuple[Tensor, ...]]:
    """For every noised value of every stage: fp32 0/1 ``(positions, loss positions)``.

    Args:
        inputs: The model's inputs for one micro-batch.

    Raises:
        ExecutionError: the model has one loss per sample.
    """
    program = job.program
    if len(program.shapes[program.output]) < 3:
        raise ExecutionError(
            "a mask needs losses per position, and this model has one loss per sample",
            field="mask",
            fix="use mask none",
        )
    stages = [code.index for code in program.at(1) if job.exits(code.index)]
    return {stage: _reach_of(job, inputs, stage) for stage in stages}


def _reach_of(job: Job, inputs: Mapping[str, Tensor], stage: int) -> tuple[Tensor, ...]:
    losses = prod(job.program.shapes[job.program.output][2:])
    found = []
    for value, shape in enumerate(noise_shapes(job, stage)):
        positions = shape[_axis(job, stage, value) - 1] if len(shape) > 1 else 1
        reached = torch.zeros(positions, losses, dtype=torch.bool, device=job.program.device)
        for first in range(0, positions, _TOGETHER):
            moved = range(first, min(first + _TOGETHER, positions))
            clean = _logits(job, inputs, stage, value, moved, 0.0)
            for size in (*SIZES, *(-size for size in SIZES)):
                changed = _logits(job, inputs, stage, value, moved, size) != clean
                reached[first : moved.stop] |= changed.flatten(3).any(2).any(1)
        found.append(reached.to(torch.float32))
    return tuple(found)


def position_weights(job: Job, stage: int, parts: Tensor) -> list[Tensor]:
    """What weighs the noise of every value of a stage, with as many dimensions as it takes to broadcast from the left.

    Args:
        parts: ``(rows, samples, loss positions)``, every position's part of the weight.

    Returns:
        ``(rows, samples)`` of a value without positions, else ``(rows, samples, [1,] positions)``.
    """
    found = []
    for value, reach in enumerate(job.receptive_fields[stage]):
        weights = torch.einsum("rsl,pl->rsp", parts, reach)
        if len(noise_shapes(job, stage)[value]) < 2:
            weights = weights[..., 0]
        elif _axis(job, stage, value) == 2:
            weights = weights[:, :, None]
        found.append(weights)
    return found


def _axis(job: Job, stage: int, value: int) -> int:
    """The axis of a value's positions."""
    logits = not job.segmentation.inside(stage) and job.segmentation.noised[stage][value][0] == job.program.output
    return 2 if logits else 1


def _logits(job: Job, inputs: Mapping[str, Tensor], stage: int, value: int, moved: range, size: float) -> Tensor:
    """Logits ``(moved, samples, classes, positions)``, one position of one value moved in each copy."""
    program, copies = job.program, len(moved)
    values = {name: given.repeat(copies, *(1,) * (given.dim() - 1)) for name, given in inputs.items()}
    raw: dict[str, Tensor] = {}
    with torch.no_grad():
        for code in program.at(copies):
            read = {}
            for edge in program.stages.incoming(code.index):
                joined = edge.source != MODEL_INPUT and job.segmentation.joined(edge.source, code.index)
                read[edge.value] = raw.get(edge.value, values[edge.value]) if joined else values[edge.value]
            parameters = [program.parameters[name].detach() for name in code.parameters]
            held = [*(read[name] for name in code.inputs), *parameters]
            held += [program.buffers[name] for name in code.buffers]
            if code.index == stage and job.segmentation.inside(stage) and code.points is not None:
                nothing = torch.zeros((), device=program.device)
                marks = code.points.cut(*held, *[nothing] * len(code.points.shapes))
                added = [nothing] * len(marks)
                added[value] = _move(marks[value], 1, moved, size)
                outputs = code.points.noisy(*held, *added)
            else:
                outputs = tuple(code.function(*held)[: len(code.outputs)])
            values.update(zip(code.outputs, outputs, strict=True))
            if code.index == stage and not job.segmentation.inside(stage):
                name = job.segmentation.noised[stage][value][0]
                raw[name] = values[name]
                values[name] = values[name] + _move(values[name], _axis(job, stage, value), moved, size)
    logits = values[program.output]
    return logits.view(copies, -1, *logits.shape[1:]).flatten(3)


def _move(value: Tensor, axis: int, moved: range, size: float) -> Tensor:
    """``size`` standard deviations times fixed random numbers, at the position of each copy."""
    rows = value.reshape(len(moved), -1, *value.shape[1:])
    drawn = torch.randn(rows.shape[1:], generator=torch.Generator().manual_seed(0))
    spread = float(value.to(torch.float64).std()) if value.numel() > 1 else 0.0
    change = torch.zeros(rows.shape, device=value.device)
    step = (drawn * (size * (spread or 1.0))).to(value.device)
    for copy, position in enumerate(moved):
        if rows.dim() > 3:
            change[copy].select(axis, position).copy_(step.select(axis, position))
        else:
            change[copy].copy_(step)
    return change.flatten(0, 1)
