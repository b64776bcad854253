"""Lanes of gpipe, 1f1b and lr-fixed as columns, for steps of more tasks than there is room for objects.

They are those of the schedulers of the same names, item by item (tests/properties/test_columns.py). The dispatcher
behind those decides by the clock; here the order is written down, so a problem whose order depends on more than the
following is refused: one stage on a unit; the loss module on the last stage's unit or on one of its own, reading the
last stage's output alone; no loss cells that fill gaps (gpipe); and for lr-fixed a pipeline of forwards that never
starves (each stage at least as slow as those before it), so that all forwards run before the first gradient.
"""

from collections.abc import Container
from dataclasses import dataclass

import numpy as np

from alrsim.errors import OptionError, ScheduleError
from alrsim.schedule.lane_columns import Index, offsets
from alrsim.schedule.lower import Delays
from alrsim.schedule.lowered_columns import LaneColumns
from alrsim.tasks.repeated import RepeatedProblem
from alrsim.tasks.token import NONE

NAMES = ("gpipe", "1f1b", "lr-fixed")
_GRADIENTS = frozenset("BIWGC")


def column_lanes(problem: RepeatedProblem, name: str) -> LaneColumns:
    """The lanes of a scheduler.

    Args:
        name: One of :data:`NAMES`.

    Raises:
        OptionError: another name.
        ScheduleError: the order depends on the clock; see the module.
    """
    if name not in NAMES:
        raise OptionError(f"no columns for scheduler {name!r}", fix=f"choose one of {', '.join(NAMES)}")
    pipeline = _pipeline(problem, name)
    lanes = [np.empty(0, dtype=np.int32)] * len(problem.one.machine.units)
    for stage in range(pipeline.stages):
        lanes[problem.units[stage]] = _stage_lane(pipeline, stage, name)
    if pipeline.own_loss:
        lanes[problem.units[-1]] = _loss_lane(pipeline)
    if name == "lr-fixed":
        _require_fed(pipeline)
    return LaneColumns(offsets([len(lane) for lane in lanes]), np.concatenate(lanes), name)


@dataclass(frozen=True)
class _Pipeline:
    """Rows of a micro-batch by what they are, in reference order.

    Attributes:
        forwards: Per stage; where the last stage's unit runs the loss module, its losses (and loss cells) stand behind
            the forwards that they belong to.
        gradients: Per stage.
        losses: On a unit of their own, loss cells behind the losses that they belong to.
        once: Per stage, the loss module last.
    """

    problem: RepeatedProblem
    forwards: list[list[int]]
    gradients: list[list[int]]
    losses: list[int]
    once: list[list[int]]
    own_loss: bool

    @property
    def stages(self) -> int:
        return self.problem.graph.stages

    @property
    def depth(self) -> int:
        return self.stages + self.own_loss


def _pipeline(problem: RepeatedProblem, name: str) -> _Pipeline:
    placed, loss_unit, stages = problem.units[:-1], problem.units[-1], problem.graph.stages
    if loss_unit in placed[:-1]:
        raise _refused(name, "the loss module shares a unit with a stage that is not the last")
    own_loss = loss_unit != placed[-1]
    forwards, gradients, losses, cells, once = _sorted_rows(problem)
    if cells and name != "1f1b":
        raise _refused(name, "loss cells fill gaps whenever the clock leaves some")
    _require_used(problem, losses, once, gradients, own_loss, name)
    cell_of = {_only_source(problem, row, name, "L"): row for row in cells}
    behind: dict[int, list[int]] = {}
    for row in losses:
        source = _only_source(problem, row, name, "F")
        if problem.graph.tasks[source].id.stage != stages - 1 or source in behind:
            raise _refused(name, "a loss does not read the last stage's output alone")
        behind[source] = [row, cell_of[row]] if row in cell_of else [row]
    if own_loss and list(behind) != sorted(behind):
        raise _refused(name, "losses are not ready in reference order")
    if not own_loss:
        forwards[-1] = [one for row in forwards[-1] for one in (row, *behind.get(row, []))]
        return _Pipeline(problem, forwards, gradients, [], once, own_loss)
    return _Pipeline(problem, forwards, gradients, [one for row in behind.values() for one in row], once, own_loss)


def _sorted_rows(
    problem: RepeatedProblem,
) -> tuple[list[list[int]], list[list[int]], list[int], list[int], list[list[int]]]:
    """Forwards and gradients per stage, losses, loss cells, and per stage what is there once."""
    stages = problem.graph.stages
    forwards: list[list[int]] = [[] for _ in range(stages)]
    gradients: list[list[int]] = [[] for _ in range(stages)]
    once: list[list[int]] = [[] for _ in range(stages + 1)]
    losses: list[int] = []
    cells: list[int] = []
    for row, task in enumerate(problem.graph.tasks):
        stage, kind = task.id.stage, task.id.kind
        if row >= problem.rows:
            once[stage].append(row)
        elif stage == stages:
            (losses if kind == "L" else cells).append(row)
        else:
            (gradients if kind in _GRADIENTS else forwards)[stage].append(row)
    return forwards, gradients, losses, cells, once


def _require_used(
    problem: RepeatedProblem,
    losses: list[int],
    once: list[list[int]],
    gradients: list[list[int]],
    own_loss: bool,
    name: str,
) -> None:
    """Refuse losses whose place behind their forward is not certain, and a loss update that may fill a gap."""
    graph, unit = problem.graph, problem.unit
    cells = {task.id.group for task in graph.tasks if task.id.stage == graph.stages and task.id.kind == "B"}
    used = {other for row in range(problem.rows) for other, _ in graph.dependencies(row)}
    if once[-1] and any(graph.tasks[row].id.group not in cells for row in losses):
        raise _refused(name, "the loss module's update may fill a gap")
    if any(row not in used for row in losses):
        raise _refused(name, "a loss that no gradient needs may run after an update")
    if own_loss:
        delays = {delay for row in losses for _, delay in _sources(problem, row) if delay is not None}
        if len(delays) > 1:
            raise _refused(name, "losses may overtake each other on their way")
    elif once[-1] and any(unit[other] != unit[row] for row in gradients[-1] for other, _ in graph.dependencies(row)):
        raise _refused(name, "the loss module's update may fill a gap")


def _stage_lane(pipeline: _Pipeline, stage: int, name: str) -> Index:
    copies = pipeline.problem.microbatches
    forwards = _items(pipeline, pipeline.forwards[stage])
    gradients = _items(pipeline, pipeline.gradients[stage])
    ahead = copies if name != "1f1b" else min(pipeline.depth - stage, copies)
    once = pipeline.once[stage]
    if stage == pipeline.stages - 1 and not pipeline.own_loss:
        once = [*once, *pipeline.once[-1]]
    turns = np.hstack([gradients[: copies - ahead], forwards[ahead:]])
    parts = [forwards[:ahead].ravel(), turns.ravel(), gradients[copies - ahead :].ravel(), _singles(pipeline, once)]
    return np.concatenate(parts)


def _loss_lane(pipeline: _Pipeline) -> Index:
    return np.concatenate([_items(pipeline, pipeline.losses).ravel(), _singles(pipeline, pipeline.once[-1])])


def _items(pipeline: _Pipeline, rows: list[int]) -> Index:
    """Items of rows, one line for each micro-batch."""
    copies = pipeline.problem.microbatches
    return np.array(rows, dtype=np.int32)[None, :] * np.int32(copies) + np.arange(copies, dtype=np.int32)[:, None]


def _singles(pipeline: _Pipeline, rows: list[int]) -> Index:
    problem = pipeline.problem
    return np.array([problem.rows * problem.microbatches + row - problem.rows for row in rows], dtype=np.int32)


def _sources(problem: RepeatedProblem, row: int, there: Container[int] = ()) -> list[tuple[int, int | None]]:
    """What a row waits for: ``(row, ticks on the way)``, no ticks on the same unit or without data.

    Args:
        there: Buffers that have come for another task before.
    """
    graph, unit = problem.graph, problem.unit
    found: list[tuple[int, int | None]] = []
    delays = Delays(problem.one)
    for other, buffer in graph.dependencies(row):
        far = buffer not in there and buffer != NONE and unit[other] != unit[row]
        found.append((other, delays.between(buffer, unit[other], unit[row]) if far else None))
    return found


def _only_source(problem: RepeatedProblem, row: int, name: str, kind: str) -> int:
    """The one row of a kind that a row of the loss module waits for (a loss cell: its loss)."""
    graph = problem.graph
    sources = {other for other, _ in graph.dependencies(row)}
    known = {other for other in sources if graph.tasks[other].id.kind == kind}
    if len(known) != 1 or (kind == "F" and known != sources):
        raise _refused(name, "the loss module reads more than the last stage's output")
    return known.pop()


def _require_fed(pipeline: _Pipeline) -> None:
    """Prove that no unit runs out of forwards before the last, and that gradients are ready in reference order.

    Where that is so, forward n of a row ends at ``base + n period + offset``; both sides of "the next input is there
    when this one ends" are linear in n, so the first and the last micro-batch decide.
    """
    problem, graph = pipeline.problem, pipeline.problem.graph
    final = problem.microbatches - 1
    duration = problem.duration
    end_of: dict[int, tuple[int, int]] = {}  # row: (end in micro-batch 0, period)
    for rows in pipeline.forwards:
        period = int(sum(duration[row] for row in rows))
        now: int | None = None
        for place, row in enumerate(rows):
            inputs = [(*end_of[other], delay or 0) for other, delay in _sources(problem, row) if other in end_of]
            if now is None:
                now = max((end + delay for end, _, delay in inputs), default=0)
                first = now
            checked = {0, final} if place else {1, final} - {0}
            for copy in checked & set(range(final + 1)):
                begin = (now if place else first) + copy * period
                if any(end + copy * step + delay > begin for end, step, delay in inputs):
                    raise _refused("lr-fixed", f"{graph.tasks[row].id} waits for its input, so a gradient may go first")
            now += int(duration[row])
            end_of[row] = now, period
    for forwards, rows in zip(pipeline.forwards, pipeline.gradients, strict=True):
        _require_ordered(pipeline, forwards, rows)


def _require_ordered(pipeline: _Pipeline, forwards: list[int], rows: list[int]) -> None:
    """Gradients begin when all forwards of their unit have run, so what those read is there."""
    problem, graph = pipeline.problem, pipeline.problem.graph
    signals: list[list[tuple[int, int]]] = []
    # What a micro-batch ends with: its losses, or, where a loss is no task of its own, the last stage's forwards.
    ends = {row for row, task in enumerate(graph.tasks[: problem.rows]) if task.id.kind == "L"}
    ends = ends or set(pipeline.forwards[-1])
    there = {buffer for row in forwards for buffer in graph.tasks[row].reads}
    for row in rows:
        far = [(other, delay) for other, delay in _sources(problem, row, there) if delay is not None]
        if graph.tasks[row].id.kind == "C" or not {other for other, _ in far} <= ends:
            raise _refused("lr-fixed", f"{graph.tasks[row].id} waits for more than losses")
        signals.append(far)
    for earlier, later in zip(signals, [*signals[1:], *signals[:1]], strict=True):
        wraps = later is signals[0]
        for loss, delay in earlier:
            if not any((wraps or other >= loss) and longer >= delay for other, longer in later):
                raise _refused("lr-fixed", "gradients may overtake each other")


def _refused(name: str, why: str) -> ScheduleError:
    return ScheduleError(
        f"the lanes of {name} depend on the clock: {why}",
        where="columns of lanes",
        fix=f"use scheduler {name} on the task graph of objects",
    )
