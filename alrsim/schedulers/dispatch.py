"""The event-driven dispatcher behind every scheduler with a fixed placement: who runs next on a free unit?

Each task waits in one queue of its unit. A free unit looks through its queues in ascending number and starts the
first candidate it finds, so lower queues go first and higher ones fill the gaps:

    waiting --(last input arrives)--> ready --(unit free, queue's turn)--> running --> done

A *forced* queue offers its tasks only in the order of their keys, however early a later one is ready; the other
queues offer the smallest key among the ready tasks. Everything is a heap: n tasks and e inputs take
O((n + e) log n). Ties: by time, then unit index, then key, then reference index.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

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
        free: Tasks whose unit is chosen when they are ready: the way of their inputs is not charged before.
    """

    placement: Placement
    queue: Sequence[int]
    key: Sequence[Key]
    forced: frozenset[int] = frozenset()
    gate: Gate | None = None
    free: frozenset[int] = frozenset()


_END, _READY = 0, 1


def dispatch(problem: Problem, plan: Plan, name: str) -> Schedule:
    """Carry a plan out and keep the order of every unit.

    Raises:
        ScheduleError: the plan cannot go on: its forced orders wait for each other.
    """
    return schedule_of(problem, Dispatcher(problem, plan).run(name), name)


def schedule_of(problem: Problem, lanes: Sequence[Sequence[int]], name: str) -> Schedule:
    """Lanes of task indices as a schedule."""
    tasks, units = problem.tasks.tasks, problem.machine.units
    return Schedule(
        tuple(Lane(unit.name, tuple(tasks[i].id for i in lane)) for unit, lane in zip(units, lanes, strict=True)), name
    )


class Dispatcher:
    """One run of a plan.

    Attributes:
        unit: Per task; of a free task its home until it is placed.
        ends: Per task, in ticks (those of the evaluator).
        lanes: Task indices per unit, in order.
    """

    def __init__(self, problem: Problem, plan: Plan) -> None:
        tasks, units = problem.tasks.tasks, range(len(problem.machine.units))
        queues, count = range(1 + max(plan.queue, default=0)), len(tasks)
        self.problem, self.plan, self.delays = problem, plan, Delays(problem)
        self.unit = [plan.placement[task.id.stage] for task in tasks]
        self.ends = [0] * count
        self.busy = [False] * len(units)
        self.lanes: list[list[int]] = [[] for _ in units]
        self._after: list[list[tuple[int, int]]] = [[] for _ in tasks]
        self._pending = [0] * count
        for task in range(count):
            for other, buffer in problem.tasks.dependencies(task):
                self._after[other].append((task, buffer))
                self._pending[task] += 1
        self._earliest = [self._initial_arrival(task) for task in range(count)]
        self._arrived = [False] * count
        self._ready: list[list[list[tuple[Key, int]]]] = [[[] for _ in queues] for _ in units]
        self._forced: list[list[list[int]]] = [[[] for _ in queues] for _ in units]
        self._held_back: list[dict[tuple[int, int], list[tuple[int, Key, int]]]] = [{} for _ in units]
        in_order = sorted((t for t in range(count) if plan.queue[t] in plan.forced), key=lambda t: (plan.key[t], t))
        for task in reversed(in_order):  # reversed: the next one is popped from the end
            self._forced[self.unit[task]][plan.queue[task]].append(task)
        self._events = [(self._earliest[task], _READY, task) for task in range(count) if not self._pending[task]]
        heapify(self._events)

    def run(self, name: str) -> list[list[int]]:
        """The lanes.

        Raises:
            ScheduleError: forced orders wait for each other.
        """
        events, left = self._events, len(self.unit)
        while events:
            now = events[0][0]
            touched: set[int] = set()
            while events and events[0][0] == now:
                _, what, task = heappop(events)
                touched.add(self.unit[task])
                if what == _READY:
                    self.admit(task)
                else:
                    left -= 1
                    self._finish(task, now, touched)
            for unit in sorted(touched):
                if not self.busy[unit]:
                    self._start_next(unit, now)
            self.settle(now)
        if left:
            raise self._stuck(name)
        return self.lanes

    def admit(self, task: int) -> None:
        """A task is ready."""
        self._arrived[task] = True
        queue = self.plan.queue[task]
        if queue not in self.plan.forced:
            heappush(self._ready[self.unit[task]][queue], (self.plan.key[task], task))

    def settle(self, now: int) -> None:
        """Every unit has begun what it can at this instant."""

    def start(self, task: int, unit: int, time: int) -> None:
        """A task takes a unit, and runs from ``time`` on."""
        self.unit[task], self.busy[unit] = unit, True
        self.lanes[unit].append(task)
        self.ends[task] = time + self.problem.durations[task][unit]
        heappush(self._events, (self.ends[task], _END, task))

    def _initial_arrival(self, task: int) -> int:
        """When the buffers that are there from the start have reached the task's unit."""
        arrival, unit, placement = 0, self.unit[task], self.plan.placement
        for index in self.problem.tasks.tasks[task].reads:
            buffer = self.problem.tasks.buffers[index]
            if buffer.producer == NONE and placement[buffer.stage] != unit:
                arrival = max(arrival, self.delays.between(index, placement[buffer.stage], unit))
        return arrival

    def _finish(self, task: int, now: int, touched: set[int]) -> None:
        self.busy[self.unit[task]] = False
        if self.plan.gate is not None and (freed := self.plan.gate.end(task)) != NONE:
            touched.add(freed)
            for line in list(self._held_back[freed]):
                self._offer(freed, line)
        for other, buffer in self._after[task]:
            free = other in self.plan.free
            lag = 0 if free or buffer == NONE else self.delays.between(buffer, self.unit[task], self.unit[other])
            self._earliest[other] = max(self._earliest[other], now + lag)
            self._pending[other] -= 1
            if not self._pending[other]:
                heappush(self._events, (now if free else self._earliest[other], _READY, other))

    def _start_next(self, unit: int, now: int) -> None:
        for queue in range(len(self._ready[unit])):
            if queue in self.plan.forced:
                row = self._forced[unit][queue]
                task = row.pop() if row and self._arrived[row[-1]] else NONE
            else:
                task = self._take(unit, queue)
            if task != NONE:
                if self.plan.gate is not None:
                    self.plan.gate.start(task)
                self.start(task, unit, now)
                return

    def _take(self, unit: int, queue: int) -> int:
        """Remove and return the first task that the gate lets through, ``NONE`` if there is none.

        Forwards that must wait stand in one line per stage; only the oldest of a line is offered again when room is
        made.
        """
        heap, lines, gate = self._ready[unit][queue], self._held_back[unit], self.plan.gate
        while heap:
            key, task = heappop(heap)
            place = None if gate is None else gate.line(task)
            if gate is None or place is None:
                return task
            stage, microbatch = place
            line = lines.get((queue, stage))
            if (line is None or microbatch <= line[0][0]) and gate.allows(task):
                self._offer(unit, (queue, stage))
                return task
            heappush(lines.setdefault((queue, stage), []), (microbatch, key, task))
        return NONE

    def _offer(self, unit: int, line: tuple[int, int]) -> None:
        """The oldest of a line may try again."""
        waiting = self._held_back[unit].get(line)
        if waiting:
            _, key, task = heappop(waiting)
            heappush(self._ready[unit][line[0]], (key, task))
            if not waiting:
                del self._held_back[unit][line]

    def _stuck(self, name: str) -> ScheduleError:
        placed = {task for lane in self.lanes for task in lane}
        waiting = [task for task in range(len(self.unit)) if task not in placed]
        some = ", ".join(str(self.problem.tasks.tasks[task].id) for task in waiting[:8])
        return ScheduleError(
            f"{name} cannot go on after {len(placed)} tasks: {len(waiting)} tasks wait for each other ({some}...)",
            where=f"scheduler {name}",
            fix="use the list scheduler, which takes any problem",
        )
