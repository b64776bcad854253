"""LR: every gradient on its layer's own unit, or on any free unit (the ALR paper's "leading free units").

Forwards, losses, updates and BP gradients inside a segment stay on their stage's unit and go first there. An LR
gradient (G) or accumulation (C) that is ready goes to the idle unit from which its own unit would have the result
earliest, the ways of its inputs and of its result charged; if its own unit is busy but would still have it no later,
it waits there. Ties: unit index. Where this greedy choice does not pay, every gradient stays at home.

Every choice looks at the heads of one heap for each home unit, so it costs O(units^2), whatever is queued.
"""

from dataclasses import dataclass, field
from heapq import heappop, heappush

from alrsim.schedule.lower import Delays
from alrsim.schedule.schedule import Schedule
from alrsim.schedulers.dispatch import Plan, dispatch, dispatch_times, initial_arrival, schedule_of, successors
from alrsim.schedulers.placement import Placement, contiguous_blocks
from alrsim.tasks.problem import Problem
from alrsim.tasks.token import NONE, Kind

FREE_KINDS: frozenset[Kind] = frozenset({"G", "C"})
_FIXED_FIRST: dict[Kind, int] = {"L": 0, "F": 1, "B": 2, "I": 2, "W": 3, "U": 4}
_END, _READY = 0, 1
_QUEUE: dict[Kind, int] = {"L": 0, "F": 1, "C": 2, "G": 3, "B": 3, "I": 3, "W": 3, "U": 4}


def lr_fixed(problem: Problem) -> Schedule:
    """T = L + 2n on the unit grid with L layers, a loss row and n >= 2 micro-batches (ALR paper, Figure 2).

    A free unit takes the first forward that is ready (reference order: micro-batches ascending), else a gradient.
    """
    return dispatch(problem, _fixed_plan(problem), "lr-fixed")


def _fixed_plan(problem: Problem) -> Plan:
    """The order of the queues, and reference order inside them."""
    queue = [_QUEUE[task.id.kind] for task in problem.tasks.tasks]
    return Plan(contiguous_blocks(problem), queue, [(index,) for index in range(len(queue))])


@dataclass
class _Run:
    """What changes while time runs. ``unit`` of a free task is its home until it is placed."""

    problem: Problem
    placement: Placement
    delays: Delays
    unit: list[int]
    pending: list[int]
    earliest: list[int]
    ends: list[int]
    busy_until: list[int]
    busy: list[bool]
    lanes: list[list[int]]
    own: list[list[tuple[int, int]]]
    free: list[list[int]]
    results: dict[int, list[int]]
    events: list[tuple[int, int, int]] = field(default_factory=list)


def lr_free(problem: Problem) -> Schedule:
    """9 steps on the paper's grid (4 layers, 3 micro-batches, 5 units), where fixed placement needs 10.

    Never slower than ``lr-fixed``, whose schedule is returned where the greedy one would be.
    """
    run = _carry_out(problem)
    lanes, starts = dispatch_times(problem, _fixed_plan(problem), "lr-free")
    at_home = max((starts[lane[-1]] + problem.durations[lane[-1]][unit] for unit, lane in enumerate(lanes) if lane))
    return schedule_of(problem, run.lanes if max(run.ends) <= at_home else lanes, "lr-free")


def _carry_out(problem: Problem) -> _Run:
    tasks = problem.tasks.tasks
    run, after = _begin(problem)
    while run.events:
        now = run.events[0][0]
        while run.events and run.events[0][0] == now:
            _, what, task = heappop(run.events)
            unit, kind = run.unit[task], tasks[task].id.kind
            if what == _END:
                run.busy[unit] = False
                _release(run, task, now, after)
            elif kind in FREE_KINDS:
                heappush(run.free[unit], task)
            else:
                heappush(run.own[unit], (_FIXED_FIRST[kind], task))
        for unit, heap in enumerate(run.own):
            if heap and not run.busy[unit]:
                _start(run, heappop(heap)[1], unit, now)
        _place_free(run, now)
    return run


def _begin(problem: Problem) -> tuple[_Run, list[list[tuple[int, int]]]]:
    placement, delays, after = contiguous_blocks(problem), Delays(problem), successors(problem)
    units, tasks = len(problem.machine.units), problem.tasks.tasks
    unit = [placement[task.id.stage] for task in tasks]
    pending = [0] * len(tasks)
    for waiting in after:
        for other, _ in waiting:
            pending[other] += 1
    earliest = [initial_arrival(problem, delays, task, unit[task], placement) for task in range(len(tasks))]
    run = _Run(
        problem,
        placement,
        delays,
        unit,
        pending,
        earliest,
        [0] * len(tasks),
        [0] * units,
        [False] * units,
        [[] for _ in range(units)],
        [[] for _ in range(units)],
        [[] for _ in range(units)],
        _results(problem),
    )
    for task in range(len(tasks)):
        if pending[task] == 0:
            heappush(run.events, (earliest[task], _READY, task))
    return run, after


def _results(problem: Problem) -> dict[int, list[int]]:
    """The buffers that each free task hands on."""
    results: dict[int, list[int]] = {}
    for index, buffer in enumerate(problem.tasks.buffers):
        if buffer.readers and buffer.producer != NONE and problem.tasks.tasks[buffer.producer].id.kind in FREE_KINDS:
            results.setdefault(buffer.producer, []).append(index)
    return results


def _release(run: _Run, task: int, now: int, after: list[list[tuple[int, int]]]) -> None:
    tasks = run.problem.tasks.tasks
    for other, buffer in after[task]:
        free = tasks[other].id.kind in FREE_KINDS  # its inputs' way depends on the unit, which is not chosen yet
        lag = 0 if free or buffer == NONE else run.delays.between(buffer, run.unit[task], run.unit[other])
        run.earliest[other] = max(run.earliest[other], now + lag)
        run.pending[other] -= 1
        if run.pending[other] == 0:
            heappush(run.events, (now if free else run.earliest[other], _READY, other))


def _start(run: _Run, task: int, unit: int, start: int) -> None:
    run.unit[task], run.busy[unit] = unit, True
    run.lanes[unit].append(task)
    end = start + run.problem.durations[task][unit]
    run.ends[task] = run.busy_until[unit] = end
    heappush(run.events, (end, _END, task))


def _place_free(run: _Run, now: int) -> None:
    """Hand ready free tasks, in reference order, to idle units until no unit is idle or every head prefers to wait."""
    waiting: set[int] = set()
    while True:
        idle = [unit for unit, busy in enumerate(run.busy) if not busy]
        heads = [(heap[0], home) for home, heap in enumerate(run.free) if heap and home not in waiting]
        if not idle or not heads:
            return
        task, home = min(heads)
        back, unit, start = min(_back_home(run, task, unit, now) for unit in idle)
        if run.busy[home] and _back_home(run, task, home, run.busy_until[home])[0] <= back:
            waiting.add(home)
            continue
        heappop(run.free[home])
        _start(run, task, unit, start)


def _back_home(run: _Run, task: int, unit: int, now: int) -> tuple[int, int, int]:
    """``(arrival of the result at home, unit, start)`` of a free task on a unit, its inputs' way included."""
    graph, start = run.problem.tasks, now
    for index in graph.tasks[task].reads:
        buffer = graph.buffers[index]
        if buffer.producer == NONE:
            left, source = 0, run.placement[buffer.stage]
        else:
            left, source = run.ends[buffer.producer], run.unit[buffer.producer]
        if source != unit:
            start = max(start, left + run.delays.between(index, source, unit))
    home = run.placement[graph.tasks[task].id.stage]
    way = max((run.delays.between(index, unit, home) for index in run.results.get(task, ())), default=0)
    return start + run.problem.durations[task][unit] + way, unit, start
