"""HEFT (Topcuoglu, Hariri, Wu 2002): heterogeneous earliest finish time, for unlike units and links.

Tasks in the order of their upward rank (mean duration + longest mean way to the end, transfers by their mean over all
links) go one after the other to the unit where they would end first, into the earliest gap that is long enough.
"""

from bisect import bisect_right
from collections.abc import Sequence
from functools import cache

from alrsim.errors import ScheduleError
from alrsim.schedule.bounds import tails
from alrsim.schedule.lower import Delays
from alrsim.schedule.schedule import Schedule
from alrsim.schedulers.caps import caps_of, timed
from alrsim.schedulers.dispatch import schedule_of
from alrsim.schedulers.list_schedule import does_not_fit
from alrsim.schedulers.pipelines import serial
from alrsim.schedulers.placement import contiguous_blocks
from alrsim.schedulers.search import SearchOptions, Solution
from alrsim.tasks.problem import Problem
from alrsim.tasks.token import NONE

_NEVER = 1 << 62
"""After every end: an idle interval without one."""


def heft(problem: Problem) -> Schedule:
    """Every task on any unit, a stage's tasks on several if that ends earlier; parameters travel where they are read.

    Where the greedy choice ends later than everything on one unit, that is returned: no schedule of ``heft`` is
    slower than ``serial``.
    """
    return heft_solution(problem, SearchOptions()).schedule


def heft_solution(problem: Problem, options: SearchOptions) -> Solution:
    """:func:`heft` with stages kept together (``placement`` ``fixed`` or ``stages``) or not.

    Raises:
        ScheduleError: the schedule found holds more than the caps allow.
    """
    lanes = _place(problem, options)
    made = timed(problem, schedule_of(problem, lanes, "heft"))
    if options.placement in (None, "free"):
        alone = timed(problem, Schedule(serial(problem).lanes, "heft"))
        made = min(made, alone, key=lambda found: found.makespan)
    shortages = made.shortages(caps_of(problem, options))
    if shortages:
        raise does_not_fit(shortages, "scheduler heft")
    return Solution(made.schedule)


def upward_ranks(problem: Problem) -> list[float]:
    """Mean duration of a task plus the longest mean way from its end to the end of the step."""
    sorts = problem.machine.topology.sorts()

    @cache
    def mean_way(size: int) -> float:
        ways = (speed.delay_ns(size, hops) * count for (speed, hops), count in sorts.items())
        return sum(ways) / sum(sorts.values())

    sizes = [buffer.bytes for buffer in problem.tasks.buffers]
    before = [
        [
            (other, mean_way(sizes[buffer]) if buffer != NONE and sorts else 0.0)
            for other, buffer in problem.tasks.dependencies(task)
        ]
        for task in range(len(problem.durations))
    ]
    means = [sum(row) / len(row) for row in problem.durations]
    return [mean + tail for mean, tail in zip(means, tails(means, before), strict=True)]


def _place(problem: Problem, options: SearchOptions) -> list[list[int]]:
    tasks, graph = problem.tasks.tasks, problem.tasks
    ranks, delays = upward_ranks(problem), Delays(problem)
    homes = contiguous_blocks(problem)
    placed: dict[int, int] = dict(enumerate(homes)) if options.placement == "fixed" else {}
    keep = options.placement in ("fixed", "stages")
    if keep and problem.loss_unit is not None:
        placed[graph.stages] = problem.loss_unit
    units = range(len(problem.machine.units))
    unit, ends = [NONE] * len(tasks), [0] * len(tasks)
    lanes: list[list[tuple[int, int, int]]] = [[] for _ in units]
    idle = [[(0, _NEVER)] for _ in units]
    first: dict[int, int] = {}  # where a stage's parameters are: its update's unit, which is not known yet
    for task in sorted(range(len(tasks)), key=lambda index: (-ranks[index], index)):
        stage = tasks[task].id.stage
        pinned = placed.get(stage) if keep else first.get(stage) if tasks[task].id.kind == "U" else None
        best: tuple[int, int, int] | None = None
        for where in units if pinned is None else (pinned,):
            arrival = _arrival(problem, delays, task, where, unit, ends, first)
            if arrival is None:
                continue
            start = _gap(idle[where], arrival, problem.durations[task][where])
            option = (start + problem.durations[task][where], where, start)
            best = option if best is None else min(best, option)
        if best is None:
            raise ScheduleError(
                f"{tasks[task].id} can run nowhere: its inputs lie on units that no link joins to any other",
                where="scheduler heft",
                fix="add links to the hardware profile",
            )
        ends[task], unit[task], start = best
        first.setdefault(stage, unit[task])
        if keep:
            placed.setdefault(stage, unit[task])
        lanes[unit[task]].append((start, ends[task], task))
        _fill(idle[unit[task]], start, ends[task])
    return [[task for _, _, task in sorted(row)] for row in lanes]


def _arrival(
    problem: Problem,
    delays: Delays,
    task: int,
    where: int,
    unit: Sequence[int],
    ends: Sequence[int],
    first: dict[int, int],
) -> int | None:
    """When all inputs of a task are on a unit; ``None`` if no link leads there."""
    graph, arrival = problem.tasks, 0
    for index in graph.tasks[task].reads:
        buffer = graph.buffers[index]
        if buffer.producer == NONE:
            left, source = 0, first.get(buffer.stage, where)
        else:
            left, source = ends[buffer.producer], unit[buffer.producer]
        if source != where:
            if not delays.joined(source, where):
                return None
            left += delays.between(index, source, where)
        arrival = max(arrival, left)
    return max([arrival, *(ends[other] for other in graph.tasks[task].after)])


def _gap(idle: Sequence[tuple[int, int]], arrival: int, ticks: int) -> int:
    """The earliest start from ``arrival`` on in an idle interval that is long enough; the last one is endless."""
    for position in range(max(0, bisect_right(idle, (arrival, _NEVER)) - 1), len(idle)):
        begin, end = idle[position]
        start = max(begin, arrival)
        if start + ticks <= end:
            return start
    raise AssertionError("the last idle interval has no end")


def _fill(idle: list[tuple[int, int]], start: int, end: int) -> None:
    """Take ``start`` to ``end`` out of the idle interval that it lies in."""
    if start == end:
        return
    position = bisect_right(idle, (start, _NEVER)) - 1
    first, last = idle[position]
    idle[position : position + 1] = [gap for gap in ((first, start), (end, last)) if gap[0] < gap[1]]
