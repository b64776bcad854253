"""The event-driven dispatcher behind every scheduler with a fixed placement: who runs next on a free unit?

Each task waits in one queue of its unit. A free unit looks through its queues in ascending number and starts the
first candidate it finds, so lower queues go first and higher ones fill the gaps:

    waiting --(last input arrives)--> ready --(unit free, queue's turn)--> running --> done

A *forced* queue offers its tasks only in the order of their keys, however early a later one is ready; the other
queues offer the smallest key among the ready tasks. Everything is a heap: n tasks and e inputs take
O((n + e) log n). Ties: by time, then unit index, then key, then reference index.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from alrsim.errors import ScheduleError
from alrsim.schedule.lower import Delays
from alrsim.schedule.schedule import Lane, Schedule
from alrsim.schedulers.caps import Gate
from alrsim.schedulers.placement import Placement
from alrsim.tasks.problem import Problem
from alrsim.tasks.token import NONE

Key = tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """What a scheduler decides before time starts.

    Attributes:
        placement: Unit per stage.
        queue: Queue number per task.
        key: Order inside the queue, per task.
        forced: Queues that keep the order of their keys.
        gate: Holds tasks of the other queues back while their unit holds too much; used up by one run.
    """

    placement: Placement
    queue: Sequence[int]
    key: Sequence[Key]
    forced: frozenset[int] = frozenset()
    gate: Gate | None = None


@dataclass
class _State:
    """What changes while time runs."""

    ready: list[list[list[tuple[Key, int]]]]
    forced: list[list[list[int]]]
    arrived: list[bool]
    pending: list[int]
    earliest: list[int]
    busy: list[bool]
    lanes: list[list[int]]
    starts: list[int]
    held_back: list[dict[tuple[int, int], list[tuple[int, Key, int]]]]
    events: list[tuple[int, int, int]] = field(default_factory=list)


_END, _READY = 0, 1


def dispatch(problem: Problem, plan: Plan, name: str) -> Schedule:
    """Carry a plan out and keep the order of every unit.

    Raises:
        ScheduleError: the plan cannot go on: its forced orders wait for each other.
    """
    lanes, _ = dispatch_times(problem, plan, name)
    return schedule_of(problem, lanes, name)


def schedule_of(problem: Problem, lanes: Sequence[Sequence[int]], name: str) -> Schedule:
    """Lanes of task indices as a schedule."""
    tasks, units = problem.tasks.tasks, problem.machine.units
    return Schedule(
        tuple(Lane(unit.name, tuple(tasks[i].id for i in lane)) for unit, lane in zip(units, lanes, strict=True)), name
    )


def dispatch_times(problem: Problem, plan: Plan, name: str) -> tuple[list[list[int]], list[int]]:
    """Lanes of task indices, and the start of each task in ticks (those of the evaluator)."""
    tasks = problem.tasks.tasks
    unit = [plan.placement[task.id.stage] for task in tasks]
    after = successors(problem)
    state = _begin(problem, plan, unit, after)
    delays = Delays(problem)
    done = 0
    while state.events:
        now = state.events[0][0]
        touched: set[int] = set()
        while state.events and state.events[0][0] == now:
            _, what, task = heappop(state.events)
            touched.add(unit[task])
            if what == _READY:
                state.arrived[task] = True
                if plan.queue[task] not in plan.forced:
                    heappush(state.ready[unit[task]][plan.queue[task]], (plan.key[task], task))
                continue
            done += 1
            state.busy[unit[task]] = False
            if plan.gate is not None and (freed := plan.gate.end(task)) != NONE:
                touched.add(freed)
                for line in list(state.held_back[freed]):
                    _offer(state, freed, line)
            for other, buffer in after[task]:
                delay = 0 if buffer == NONE else delays.between(buffer, unit[task], unit[other])
                _arrive(state, other, now + delay)
        for index in sorted(touched):
            if not state.busy[index]:
                _start_next(problem, plan, state, index, now)
    if done < len(tasks):
        raise _stuck(problem, state, unit, name)
    return state.lanes, state.starts


def successors(problem: Problem) -> list[list[tuple[int, int]]]:
    """``(waiting task, buffer or NONE)`` per task."""
    after: list[list[tuple[int, int]]] = [[] for _ in problem.tasks.tasks]
    for task in range(len(after)):
        for other, buffer in problem.tasks.dependencies(task):
            after[other].append((task, buffer))
    return after


def initial_arrival(problem: Problem, delays: Delays, task: int, unit: int, placement: Placement) -> int:
    """When the buffers that are there from the start have reached a unit."""
    arrival = 0
    for index in problem.tasks.tasks[task].reads:
        buffer = problem.tasks.buffers[index]
        if buffer.producer == NONE and placement[buffer.stage] != unit:
            arrival = max(arrival, delays.between(index, placement[buffer.stage], unit))
    return arrival


def _begin(problem: Problem, plan: Plan, unit: list[int], after: list[list[tuple[int, int]]]) -> _State:
    units, count = len(problem.machine.units), len(unit)
    queues = 1 + max(plan.queue, default=0)
    pending = [0] * count
    for waiting in after:
        for other, _ in waiting:
            pending[other] += 1
    delays = Delays(problem)
    state = _State(
        [[[] for _ in range(queues)] for _ in range(units)],
        [[[] for _ in range(queues)] for _ in range(units)],
        [False] * count,
        pending,
        [initial_arrival(problem, delays, task, unit[task], plan.placement) for task in range(count)],
        [False] * units,
        [[] for _ in range(units)],
        [0] * count,
        [{} for _ in range(units)],
    )
    in_order = sorted((t for t in range(count) if plan.queue[t] in plan.forced), key=lambda t: (plan.key[t], t))
    for task in reversed(in_order):  # reversed: the next one is popped from the end
        state.forced[unit[task]][plan.queue[task]].append(task)
    for task in range(count):
        if pending[task] == 0:
            heappush(state.events, (state.earliest[task], _READY, task))
    return state


def _arrive(state: _State, task: int, time: int) -> None:
    state.earliest[task] = max(state.earliest[task], time)
    state.pending[task] -= 1
    if state.pending[task] == 0:
        heappush(state.events, (state.earliest[task], _READY, task))


def _start_next(problem: Problem, plan: Plan, state: _State, unit: int, now: int) -> None:
    for queue in range(len(state.ready[unit])):
        if queue in plan.forced:
            row = state.forced[unit][queue]
            task = row.pop() if row and state.arrived[row[-1]] else NONE
        else:
            task = _take(state, unit, queue, plan.gate)
        if task == NONE:
            continue
        if plan.gate is not None:
            plan.gate.start(task)
        state.busy[unit] = True
        state.lanes[unit].append(task)
        state.starts[task] = now
        heappush(state.events, (now + problem.durations[task][unit], _END, task))
        return


def _take(state: _State, unit: int, queue: int, gate: Gate | None) -> int:
    """Remove and return the first task that the gate lets through, ``NONE`` if there is none.

    Forwards that must wait stand in one line per stage; only the oldest of a line is offered again when room is made.
    """
    heap, lines = state.ready[unit][queue], state.held_back[unit]
    while heap:
        key, task = heappop(heap)
        place = None if gate is None else gate.line(task)
        if gate is None or place is None:
            return task
        stage, microbatch = place
        line = lines.get((queue, stage))
        if (line is None or microbatch <= line[0][0]) and gate.allows(task):
            _offer(state, unit, (queue, stage))
            return task
        heappush(lines.setdefault((queue, stage), []), (microbatch, key, task))
    return NONE


def _offer(state: _State, unit: int, line: tuple[int, int]) -> None:
    """The oldest of a line may try again."""
    waiting = state.held_back[unit].get(line)
    if waiting:
        _, key, task = heappop(waiting)
        heappush(state.ready[unit][line[0]], (key, task))
        if not waiting:
            del state.held_back[unit][line]


def _stuck(problem: Problem, state: _State, unit: list[int], name: str) -> ScheduleError:
    placed = {task for lane in state.lanes for task in lane}
    waiting = [task for task in range(len(unit)) if task not in placed]
    some = ", ".join(str(problem.tasks.tasks[task].id) for task in waiting[:8])
    return ScheduleError(
        f"{name} cannot go on after {len(placed)} tasks: {len(waiting)} tasks wait for each other ({some}...)",
        where=f"scheduler {name}",
        fix="use the list scheduler, which takes any problem",
    )
