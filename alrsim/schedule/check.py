"""Refuse a schedule that does not fit its problem, in linear time."""

from collections import Counter
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import pairwise

from alrsim.allocation import collector_paused
from alrsim.errors import ScheduleError
from alrsim.schedule.deadlock import explain_deadlock, order_items
from alrsim.schedule.lower import Lowered, lower
from alrsim.schedule.schedule import Schedule
from alrsim.tasks.problem import Problem
from alrsim.tasks.taskgraph import TaskGraph
from alrsim.tasks.token import KIND_NAMES, TaskId

_SHOWN = 8


def check(problem: Problem, schedule: Schedule) -> None:
    """Prove that a schedule can be carried out: every task once, on the machine's lanes, without a deadlock.

    Raises:
        ScheduleError: a lane is missing, double, unknown or out of machine order; a task is missing, double or
            unknown; an overlap does not join two independent neighbours of one lane; data must move where no link is.
        DeadlockError: the lanes wait for each other; the message names the cycle and prints the lanes.
    """
    check_and_lower(problem, schedule)


@collector_paused()
def check_and_lower(problem: Problem, schedule: Schedule, *, overlap: Fraction = Fraction(1)) -> Lowered:
    """:func:`check`, and the lowered schedule that it had to make anyway.

    Raises:
        ScheduleError, DeadlockError: see :func:`check`.
    """
    check_lanes(problem, schedule)
    check_tokens(problem.tasks, schedule)
    check_overlaps(problem.tasks, schedule)
    lowered = lower(problem, schedule, overlap=overlap)
    _, stuck = order_items(lowered)
    if stuck:
        raise explain_deadlock(problem, lowered, stuck)
    return lowered


def check_lanes(problem: Problem, schedule: Schedule) -> None:
    """One lane for each unit, in machine order."""
    units = [unit.name for unit in problem.machine.units]
    lanes = [lane.unit for lane in schedule.lanes]
    if lanes == units:
        return
    counts = Counter(lanes)
    faults = [
        _fault("double lane", [lane for lane, count in counts.items() if count > 1]),
        _fault("unknown lane", [lane for lane in counts if lane not in set(units)]),
        _fault("missing lane", [unit for unit in units if unit not in counts]),
    ]
    found = "; ".join(filter(None, faults)) or f"lanes are not in machine order: {_some(lanes)}"
    raise ScheduleError(
        found,
        where=_name(schedule),
        fix=f"give one lane for each unit of {problem.machine.name}, empty ones too, in this order: {_some(units)}",
    )


def check_tokens(tasks: TaskGraph, schedule: Schedule) -> None:
    """Every task of the problem exactly once, and nothing else."""
    seen: dict[TaskId, str] = {}
    unknown: list[str] = []
    double: list[str] = []
    for lane in schedule.lanes:
        for position, task in enumerate(lane.tasks):
            place = f"{task} ({lane.unit}[{position}])"
            if task not in tasks.index:
                unknown.append(place)
            elif task in seen:
                double.append(f"{task} ({seen[task]} and {lane.unit}[{position}])")
            else:
                seen[task] = f"{lane.unit}[{position}]"
    missing = [str(task.id) for task in tasks.tasks if task.id not in seen]
    faults = [_fault("missing", missing), _fault("double", double), _fault("unknown", unknown)]
    if any(faults):
        raise ScheduleError("; ".join(filter(None, faults)), where=_name(schedule), fix=_advice(tasks, schedule))


def check_overlaps(tasks: TaskGraph, schedule: Schedule) -> None:
    """Overlapped pairs are neighbours in one lane, in that order, joined once, and do not need each other."""
    if not schedule.overlaps:
        return
    follower: dict[TaskId, TaskId] = {}
    for lane in schedule.lanes:
        follower.update(pairwise(lane.tasks))
    used: set[TaskId] = set()
    for first, second in schedule.overlaps:
        pair = f"overlap {first} + {second}"
        if follower.get(first) != second:
            raise ScheduleError(
                f"{pair}: {second} does not come right after {first} in one lane",
                where=_name(schedule),
                fix="overlapped tasks must be neighbours in one lane",
            )
        if first in used or second in used:
            raise ScheduleError(f"{pair}: a task can be in one overlap only", where=_name(schedule))
        used |= {first, second}
        if any(other == tasks.index[first] for other, _ in tasks.dependencies(tasks.index[second])):
            raise ScheduleError(
                f"{pair}: {second} needs {first}, so they cannot run at the same time", where=_name(schedule)
            )


def _advice(tasks: TaskGraph, schedule: Schedule) -> str:
    unknown = {task.kind for lane in schedule.lanes for task in lane.tasks if task not in tasks.index}
    if "X" in unknown:
        return "leave transfers (X) out: they follow from the placement of the tasks"
    kinds = sorted({task.id.kind for task in tasks.tasks})
    return (
        f"the problem (rule {tasks.rule}) has {tasks.stages} stages, {tasks.microbatches} micro-batches and kinds "
        + ", ".join(f"{kind} ({KIND_NAMES[kind]})" for kind in kinds)
    )


def _fault(what: str, items: Sequence[str]) -> str:
    if not items:
        return ""
    number = "" if len(items) <= 1 else f"{len(items)} "
    plural = "s" if len(items) > 1 and what.endswith("lane") else ""
    return f"{number}{what}{plural}: {_some(items)}"


def _some(items: Iterable[str]) -> str:
    every = list(items)
    more = f", and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more


def _name(schedule: Schedule) -> str:
    return f"schedule {schedule.name}" if schedule.name else "schedule"
