"""LR: every gradient on its layer's own unit, or on any free unit (the ALR paper's "leading free units").

Forwards, losses, updates and BP gradients inside a segment stay on their stage's unit and go first there. An LR
gradient (G) or accumulation (C) that is ready goes to the idle unit from which its own unit would have the result
earliest, the ways of its inputs and of its result charged; if its own unit is busy but would still have it no later,
it waits there. Ties: unit index. Where this greedy choice does not pay, every gradient stays at home.

Every choice looks at the heads of one heap for each home unit, so it costs O(units^2), whatever is queued.
"""

from heapq import heappop, heappush

from alrsim.schedule.schedule import Schedule
from alrsim.schedulers.dispatch import Dispatcher, Plan, dispatch, schedule_of
from alrsim.schedulers.placement import contiguous_blocks
from alrsim.tasks.problem import Problem
from alrsim.tasks.token import NONE, Kind

FREE_KINDS: frozenset[Kind] = frozenset({"G", "C"})
_FIXED_FIRST: dict[Kind, int] = {"L": 0, "F": 1, "B": 2, "I": 2, "W": 3, "U": 4, "G": 5, "C": 5}
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


def lr_free(problem: Problem) -> Schedule:
    """9 steps on the paper's grid (4 layers, 3 micro-batches, 5 units), where fixed placement needs 10.

    Never slower than ``lr-fixed``, whose schedule is returned where the greedy one would be.
    """
    runs = _FreeGradients(problem), Dispatcher(problem, _fixed_plan(problem))
    lanes = [run.run("lr-free") for run in runs]
    return schedule_of(problem, lanes[0] if max(runs[0].ends) <= max(runs[1].ends) else lanes[1], "lr-free")


class _FreeGradients(Dispatcher):
    """Hands ready gradients to idle units."""

    def __init__(self, problem: Problem) -> None:
        kinds = [task.id.kind for task in problem.tasks.tasks]
        free = frozenset(task for task, kind in enumerate(kinds) if kind in FREE_KINDS)
        key = [(_FIXED_FIRST[kind],) for kind in kinds]
        super().__init__(problem, Plan(contiguous_blocks(problem), [0] * len(kinds), key, free=free))
        self._at_home: list[list[int]] = [[] for _ in self.lanes]
        self._results: dict[int, list[int]] = {task: [] for task in free}
        """The buffers that each free task hands on."""
        for index, buffer in enumerate(problem.tasks.buffers):
            if buffer.readers and buffer.producer in free:
                self._results[buffer.producer].append(index)

    def admit(self, task: int) -> None:
        if task in self.plan.free:
            heappush(self._at_home[self.unit[task]], task)
        else:
            super().admit(task)

    def settle(self, now: int) -> None:
        """Hand ready free tasks, in reference order, to idle units until none is idle or every head prefers to wait."""
        waiting: set[int] = set()
        while True:
            idle = [unit for unit, busy in enumerate(self.busy) if not busy]
            heads = [(heap[0], home) for home, heap in enumerate(self._at_home) if heap and home not in waiting]
            if not idle or not heads:
                return
            task, home = min(heads)
            back, unit, start = min(self._back_home(task, unit, now) for unit in idle)
            if self.busy[home] and self._back_home(task, home, self.ends[self.lanes[home][-1]])[0] <= back:
                waiting.add(home)
                continue
            heappop(self._at_home[home])
            self.start(task, unit, start)

    def _back_home(self, task: int, unit: int, now: int) -> tuple[int, int, int]:
        """``(arrival of the result at home, unit, start)`` of a free task on a unit, its inputs' way included."""
        graph, start, placement = self.problem.tasks, now, self.plan.placement
        for index in graph.tasks[task].reads:
            buffer = graph.buffers[index]
            if buffer.producer == NONE:
                left, source = 0, placement[buffer.stage]
            else:
                left, source = self.ends[buffer.producer], self.unit[buffer.producer]
            if source != unit:
                start = max(start, left + self.delays.between(index, source, unit))
        home = placement[graph.tasks[task].id.stage]
        way = max((self.delays.between(index, unit, home) for index in self._results[task]), default=0)
        return start + self.problem.durations[task][unit] + way, unit, start
