"""Why a step takes as long as it does: its critical path, walked back from the last end to 0.

Every item starts the moment that something ends: the item before it in its lane (under ``blocking`` also that item's
sends), one that it waits for, a message, or an item that gave a shared core back. So the path has no holes, and its
pieces add up to the makespan to the tick.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise

from alrsim.schedule.lower import Lowered
from alrsim.simulation.contention import alone_ticks
from alrsim.simulation.run import Trace
from alrsim.tasks.problem import Problem, Semantics
from alrsim.tasks.token import NONE
from alrsim.timeline.terms import Terms


@dataclass(frozen=True, slots=True)
class Leg:
    """A piece of the critical path, latest first: an item that runs, or the wait for data before an item.

    Attributes:
        item: The item that runs; ``NONE`` for a wait.
        ticks: How long.
    """

    item: int
    ticks: int


def critical_legs(lowered: Lowered, trace: Trace, semantics: Semantics) -> Iterator[Leg]:
    """The pieces of the critical path from the last end back to 0.

    Raises:
        ValueError: the trace is not of this schedule under these semantics: an item starts without cause.
    """
    if not trace.ends:
        return
    search = _Causes(lowered, trace, semantics == "blocking")
    item = max(range(len(trace.ends)), key=lambda index: (trace.ends[index], trace.starts[index]))
    while True:
        yield Leg(item, trace.ends[item] - trace.starts[item])
        start = trace.starts[item]
        if start == 0:
            return
        item, waited = search.cause(item)
        if waited:
            yield Leg(NONE, waited)
        if item == NONE:
            return


def terms(
    problem: Problem, lowered: Lowered, trace: Trace, semantics: Semantics, overlap: Fraction = Fraction(1)
) -> Terms:
    """The makespan by cause. Costs without :class:`~alrsim.tasks.problem.Loads` know compute and transfer only."""
    loads = problem.loads
    compute = transfer = overhead = contention = 0
    for leg in critical_legs(lowered, trace, semantics):
        if leg.item == NONE:
            transfer += leg.ticks
        elif loads is None:
            compute += leg.ticks
        else:
            members = lowered.tasks[leg.item]
            alone = alone_ticks(loads, members, lowered.unit[leg.item], overlap)
            compute += alone
            overhead += loads.overhead * len(members)
            contention += leg.ticks - alone - loads.overhead * len(members)
    return Terms(compute, transfer, overhead, contention)


class _Causes:
    """Finds what an item waited for."""

    def __init__(self, lowered: Lowered, trace: Trace, blocking: bool) -> None:
        self._lowered, self._trace, self._blocking = lowered, trace, blocking
        self._before = [NONE] * len(lowered.duration)
        for lane in lowered.lanes:
            for first, second in pairwise(lane):
                self._before[second] = first

    def cause(self, item: int) -> tuple[int, int]:
        """The item (``NONE``: nobody, data that is there from the start) and the ticks that lie between."""
        lowered, trace = self._lowered, self._trace
        start, before = trace.starts[item], self._before[item]
        if before != NONE and trace.ends[before] == start:
            return before, 0
        for other in lowered.preds[item]:
            if trace.ends[other] == start:
                return other, 0
        for message in lowered.needs[item]:
            if trace.arrived[message] == start:
                source = lowered.messages[message].source
                return source, start - (0 if source == NONE else trace.ends[source])
        if self._blocking and before != NONE and self._sent(before) == start:
            return before, start - trace.ends[before]
        return self._core(start), 0

    def _sent(self, item: int) -> int:
        """When a blocked sender goes on: its last message has left its first channel."""
        trace, messages = self._trace, self._lowered.messages
        left = (trace.sent[message] + messages[message].hold for message in self._lowered.sends[item])
        return max(left, default=trace.ends[item])

    def _core(self, start: int) -> int:
        """An item that gave a core back at this moment; it took time, else the core would have been free before."""
        ends, starts = self._trace.ends, self._trace.starts
        for item in self._by_end[bisect_left(self._by_end, start, key=lambda index: ends[index]) :]:
            if ends[item] != start:
                break
            if starts[item] < start:
                return item
        raise ValueError(f"nothing ends at {start}, when an item starts")

    @cached_property
    def _by_end(self) -> Sequence[int]:
        return sorted(range(len(self._trace.ends)), key=lambda index: self._trace.ends[index])
