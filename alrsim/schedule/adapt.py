"""Fit a schedule from elsewhere to a problem: other tools have no loss tasks, no updates, and their own gradients."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from alrsim.schedule.merge import merge_gradients
from alrsim.schedule.schedule import Lane, Schedule
from alrsim.tasks.problem import Problem
from alrsim.tasks.token import NONE, Kind, TaskId

_SHOWN = 4


@dataclass(frozen=True)
class Fitted:
    """A schedule beside the problem that it solves.

    Attributes:
        problem: The problem asked about; its I and W are one B wherever the schedule runs them as one.
        notes: What was changed on either side, for people.
    """

    schedule: Schedule
    problem: Problem
    notes: tuple[str, ...] = ()


def fit(problem: Problem, schedule: Schedule, *, fill: bool = True) -> Fitted:
    """Adapt what has one obvious meaning and note it; everything else is left for ``check`` to refuse.

    * ``B`` where the problem has I and W: the problem's two become one (:mod:`alrsim.schedule.merge`);
    * ``B`` where it has only W (a model's first stage) or only I (no parameters): that one;
    * ``I`` where it has only W: dropped, nobody asks for that gradient;
    * losses, loss gradients and updates that are missing altogether (with ``fill``): after the last stage's forward,
      and after the last task of their stage.
    """
    notes: list[str] = []
    schedule = _rename(problem, schedule, notes)
    index = problem.tasks.index
    tokens = [task for lane in schedule.lanes for task in lane.tasks]
    full = {t for t in tokens if t.kind == "B" and t not in index and _has(problem, t, "I") and _has(problem, t, "W")}
    if full:
        notes.append(f"{len(full)} full backwards take the place of an I and a W each: {_some(full)}")
        problem = merge_gradients(problem, full)
    if fill:
        schedule = _fill(problem, schedule, notes)
    return Fitted(schedule, problem, tuple(notes))


def _has(problem: Problem, task: TaskId, kind: Kind) -> bool:
    return task._replace(kind=kind) in problem.tasks.index


def _rename(problem: Problem, schedule: Schedule, notes: list[str]) -> Schedule:
    name: dict[TaskId, TaskId | None] = {}
    for lane in schedule.lanes:
        for task in lane.tasks:
            if task in problem.tasks.index:
                continue
            inputs, weights = _has(problem, task, "I"), _has(problem, task, "W")
            if task.kind == "B" and inputs != weights:
                name[task] = task._replace(kind="I" if inputs else "W")
            elif task.kind == "I" and weights:
                name[task] = None
    renamed = [task for task, new in name.items() if new is not None]
    dropped = [task for task, new in name.items() if new is None]
    if renamed:
        notes.append(f"{len(renamed)} full backwards are the only gradient of their stage: {_some(renamed)}")
    if dropped:
        notes.append(f"{len(dropped)} input gradients dropped, the model has no use for them: {_some(dropped)}")
    if not name:
        return schedule
    lanes = tuple(
        Lane(lane.unit, tuple(new for task in lane.tasks if (new := name.get(task, task)) is not None))
        for lane in schedule.lanes
    )
    pairs = [(name.get(a, a), name.get(b, b)) for a, b in schedule.overlaps]
    overlaps = tuple((a, b) for a, b in pairs if a is not None and b is not None)
    return replace(schedule, lanes=lanes, overlaps=overlaps)


def _fill(problem: Problem, schedule: Schedule, notes: list[str]) -> Schedule:
    """Insert loss and update tasks, if the schedule has none of that kind for the stage."""
    last = problem.tasks.stages
    have = set(schedule.unit_of)
    rows = {(task.stage, task.kind) for task in have}
    missing = [task.id for task in problem.tasks.tasks if task.id not in have]
    losses = [t for t in missing if t.stage == last and t.kind != "U" and (last, t.kind) not in rows]
    updates = [t for t in missing if t.kind == "U"]
    if not losses and not updates:
        return schedule
    if losses:
        notes.append(f"{len(losses)} loss tasks placed after the last stage's forward: {_some(losses)}")
    if updates:
        notes.append(f"{len(updates)} updates placed after the last task of their stage: {_some(updates)}")
    after: dict[TaskId, list[TaskId]] = {}
    for task in losses:
        after.setdefault(TaskId(last - 1, "F", task.microbatch, task.group), []).append(task)
    final = {task.stage: task for lane in schedule.lanes for task in lane.tasks}
    for task in updates:
        anchor = final.get(task.stage, final.get(last - 1))
        if anchor is not None:
            after.setdefault(anchor, []).append(task)
    partner = dict(schedule.overlaps)
    for first, second in partner.items():  # nothing may come between two overlapped tasks
        if first in after:
            after[second] = after.pop(first) + after.get(second, [])
    lanes = tuple(replace(lane, tasks=_with(lane.tasks, after)) for lane in schedule.lanes)
    return replace(schedule, lanes=lanes)


def _with(tasks: Iterable[TaskId], after: dict[TaskId, list[TaskId]]) -> tuple[TaskId, ...]:
    return tuple(out for task in tasks for out in (task, *after.get(task, ())))


def _some(tasks: Iterable[TaskId]) -> str:
    every = sorted(tasks, key=lambda task: (task.microbatch if task.microbatch != NONE else 0, task))
    return ", ".join(map(str, every[:_SHOWN])) + (", ..." if len(every) > _SHOWN else "")
