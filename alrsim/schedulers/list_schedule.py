"""List scheduling, for any rule and any DAG: of what is ready, run what has the highest priority."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from alrsim.compiled import available
from alrsim.errors import ScheduleError
from alrsim.schedule.bounds import placed_inputs, tails
from alrsim.schedule.schedule import Schedule
from alrsim.schedulers.caps import Caps, Gate, caps_of, timed
from alrsim.schedulers.dispatch import Key, Plan, dispatch, schedule_of
from alrsim.schedulers.placement import Placement, contiguous_blocks
from alrsim.schedulers.search import SearchOptions, Solution
from alrsim.tasks.problem import Problem
from alrsim.tasks.token import NONE

FAST_FROM = 20_000
"""Tasks from which loading compiled loops pays off; the result is the same."""

_HOME_FIRST = {"L": 0, "B": 1, "I": 1, "G": 2, "C": 2, "W": 3, "F": 4, "U": 5}


def list_schedule(problem: Problem) -> Schedule:
    """Contiguous blocks of stages on the units; priority = longest path to the end, transfers included.

    A greedy work-conserving order: where nothing is transferred, at most
    work of the units + critical path long (Graham 1966).
    """
    return _ungated(problem, contiguous_blocks(problem), "critical-path", "list")


def _ungated(problem: Problem, placement: Placement, priority: str, name: str) -> Schedule:
    """Without caps; large problems in machine code, with the same result."""
    fast = len(problem.durations) >= FAST_FROM and available()
    if fast and (lanes := _fast_lanes(problem, placement, priority)) is not None:
        return schedule_of(problem, lanes, name)
    return _gated(problem, placement, PRIORITIES[priority](problem, placement), None, name)


def _fast_lanes(problem: Problem, placement: Placement, priority: str) -> list[list[int]] | None:
    """``None`` where times may not fit into 64 bits."""
    from alrsim.schedulers.list_fast import columns_of, lanes_of, path_lengths

    inputs = columns_of(problem, placement)
    if inputs is None:
        return None
    if priority == "critical-path":
        keys = [-path_lengths(inputs)]
    else:
        keys = list(np.array(PRIORITIES[priority](problem, placement), dtype=np.int64).T)
    return lanes_of(inputs, keys, len(problem.machine.units))


def list_solution(problem: Problem, options: SearchOptions) -> Solution:
    """:func:`list_schedule` with another priority, within caps.

    Raises:
        ScheduleError: nothing fits within the caps, whatever waits.
    """
    return Solution(list_with(problem, contiguous_blocks(problem), options.priority, caps_of(problem, options)))


def list_with(problem: Problem, placement: Placement, priority: str, caps: Caps, name: str = "list") -> Schedule:
    """One list schedule within caps. Where bytes are capped, as many live micro-batches as fit are allowed.

    Raises:
        ScheduleError: it does not fit: demand, capacity and shortage per unit.
    """
    if not caps.any:
        return _ungated(problem, placement, priority, name)
    key = PRIORITIES[priority](problem, placement)
    if caps.bytes is None:
        return _gated(problem, placement, key, caps.live, name)
    most = problem.tasks.microbatches * max(1, -(-problem.tasks.stages // len(problem.machine.units)))
    tightest: ScheduleError | None = None
    for live in _halved(most):
        tighter = tuple(min(live, cap) for cap in caps.live or (live,) * len(problem.machine.units))
        try:
            made = _gated(problem, placement, key, tighter, name)
        except ScheduleError as error:
            tightest = tightest or error
            break
        shortages = timed(problem, made).shortages(caps)
        if not shortages:
            return made
        tightest = does_not_fit(shortages, f"scheduler {name}")
    assert tightest is not None
    raise tightest


def _halved(most: int) -> list[int]:
    """Live caps to try, the loosest first: all, then fewer by a quarter each time."""
    caps = [most]
    while caps[-1] > 1:
        caps.append(caps[-1] * 3 // 4)
    return caps


def _gated(problem: Problem, placement: Placement, key: list[Key], live: tuple[int, ...] | None, name: str) -> Schedule:
    units = [placement[task.id.stage] for task in problem.tasks.tasks]
    gate = None if live is None else Gate.of(problem, units, live)
    return dispatch(problem, Plan(placement, [0] * len(key), key, gate=gate), name)


def shortage_words(shortages: Sequence[tuple[str, int, int, str]]) -> str:
    """``unit u0 needs 4 live micro-batches, has 3; short by 1``, for every unit."""
    return "; ".join(
        f"unit {unit} needs {demand} {what}, has {capacity}; short by {demand - capacity}"
        for unit, demand, capacity, what in shortages
    )


def does_not_fit(shortages: Sequence[tuple[str, int, int, str]], where: str) -> ScheduleError:
    """Demand, capacity and shortage of every unit that holds too much."""
    return ScheduleError(
        shortage_words(shortages),
        where=where,
        fix="allow more, use more units or more and smaller micro-batches, or keep state in fewer bits (`precision`)",
    )


def critical_path(problem: Problem, placement: Placement) -> list[Key]:
    """Longest way to the end of the step first."""
    return [(-ticks,) for ticks in path_to_end(problem, placement)]


def most_successors(problem: Problem, placement: Placement) -> list[Key]:
    """What most tasks wait for directly, then the longest way to the end."""
    paths, tasks = path_to_end(problem, placement), range(len(problem.tasks.tasks))
    after = Counter(other for task in tasks for other in {other for other, _ in problem.tasks.dependencies(task)})
    return [(-after[task], -paths[task]) for task in tasks]


def longest_task(problem: Problem, placement: Placement) -> list[Key]:
    """The longest task first, then the longest way to the end."""
    rows = zip(problem.tasks.tasks, problem.durations, path_to_end(problem, placement), strict=True)
    return [(-row[placement[task.id.stage]], -ticks) for task, row, ticks in rows]


def backward_first(problem: Problem, placement: Placement) -> list[Key]:
    """What frees memory first: losses and gradients before weight gradients before forwards (1F1B's rule)."""
    paths = path_to_end(problem, placement)
    return [
        (_HOME_FIRST.get(task.id.kind, 9), task.id.microbatch, -ticks)
        for task, ticks in zip(problem.tasks.tasks, paths, strict=True)
    ]


def depth_first(problem: Problem, placement: Placement) -> list[Key]:
    """The oldest micro-batch first, then the longest way to the end: least memory."""
    paths = path_to_end(problem, placement)
    late = problem.tasks.microbatches
    return [
        (late if task.id.microbatch == NONE else task.id.microbatch, -ticks)
        for task, ticks in zip(problem.tasks.tasks, paths, strict=True)
    ]


def reference(problem: Problem, placement: Placement) -> list[Key]:
    """The order in which one worker would run the step."""
    return [(index,) for index in range(len(problem.tasks.tasks))]


PRIORITIES: dict[str, Callable[[Problem, Placement], list[Key]]] = {
    "critical-path": critical_path,
    "most-successors": most_successors,
    "longest-task": longest_task,
    "backward-first": backward_first,
    "depth-first": depth_first,
    "reference": reference,
}


def path_to_end(problem: Problem, placement: Placement) -> list[int]:
    """Ticks of the longest path from the start of each task to the end of the step, lanes ignored."""
    units = [placement[task.id.stage] for task in problem.tasks.tasks]
    ticks = [row[unit] for row, unit in zip(problem.durations, units, strict=True)]
    return [tick + tail for tick, tail in zip(ticks, tails(ticks, placed_inputs(problem, units)[0]), strict=True)]
