"""The clocks of ranks, brought to rank 0's time; and a start that all ranks have in common."""

import time

import torch

from alrsim.execution.workers.clock import Offset, clock_offset
from alrsim.execution.workers.ranks import Ints, Ranks
from alrsim.timeline.facts import Facts
from alrsim.units import Ns

_ROUNDS = 16
_TAG = 0x7FFFFFFD
_HEAD_START_NS = 3_000_000
"""From rank 0's word to the start: time for every rank to hear it."""

_SPIN_NS = 200_000
"""A rank sleeps until this long before the start, then looks at the clock all the time."""


class RankClock:
    """How far this rank's clock is from rank 0's: measured at the start, and again before and after every run.

    Ranks of one host read one clock; there the measurement only confirms that.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks, self._one = ranks, ranks.one_clock()
        self._offset = Offset(0, 0)
        self._skew: Ns = 0
        self._before = self._measure()
        self._note(self._before)

    @property
    def facts(self) -> Facts:
        method = "messages there and back between each rank and rank 0, the shortest trip of each series decides"
        one = "one clock for all ranks of this host: CLOCK_MONOTONIC through time.perf_counter_ns; confirmed by "
        return Facts(clock=one + method if self._one else method, clock_skew_ns=self._skew)

    @property
    def offset_ns(self) -> Ns:
        """Rank 0's time minus the time here."""
        return 0 if self._one else self._offset.ns

    def check(self) -> None:
        """Measure once more, between or after runs."""
        self._note(self._measure())

    def prepare(self) -> None:
        """Before a run: on several hosts clocks drift."""
        if not self._one:
            self._before = self._measure()
            self._offset = self._before

    def corrected(self, board: Ints) -> Ints:
        """Times of a run that has ended, in rank 0's time: the mean of the offsets before and after it.

        Also notes the skew: what the offset may be wrong by, and how far it moved.
        """
        if self._one:
            return board
        after = self._measure()
        self._note(after)
        shift = (after.ns - self._before.ns) // 2
        moved = board.copy()
        moved[board >= 0] = (board[board >= 0] + shift).clip(min=0)
        return moved

    def _note(self, offset: Offset) -> None:
        if self._one:  # what looks like an offset is the way there and back
            skew = max(0, abs(offset.ns) - offset.residual_ns)
        else:
            skew = offset.residual_ns + abs(offset.ns - self._before.ns)
            self._offset = offset
        self._skew = max(self._skew, *(int(one) for one in self._ranks.gather(torch.tensor([skew]))))

    def _measure(self) -> Offset:
        place, found = self._ranks.place, Offset(0, 0)
        for rank in range(1, place.world):
            if place.rank == rank:
                found = clock_offset([self._ask() for _ in range(_ROUNDS)])
            elif place.rank == 0:
                for _ in range(_ROUNDS):
                    self._answer(rank)
        return found

    def _ask(self) -> tuple[Ns, Ns, Ns]:
        reply = torch.zeros(1, dtype=torch.int64)
        group, wait = self._ranks.group, self._ranks.wait
        posted = group.recv([reply], 0, _TAG)
        departure = time.perf_counter_ns()
        wait(group.send([torch.zeros(1, dtype=torch.int64)], 0, _TAG), 0)
        wait(posted, 0)
        return departure, int(reply), time.perf_counter_ns()

    def _answer(self, rank: int) -> None:
        group, wait = self._ranks.group, self._ranks.wait
        wait(group.recv([torch.zeros(1, dtype=torch.int64)], rank, _TAG), rank)
        wait(group.send([torch.tensor([time.perf_counter_ns()])], rank, _TAG), rank)


def common_start(ranks: Ranks, clock: RankClock) -> Ns:
    """Wait until every rank is ready, then until the moment that rank 0 named; by the clock here."""
    clock.prepare()
    ranks.gather(torch.zeros(1, dtype=torch.int64))
    origin = torch.tensor([time.perf_counter_ns() + _HEAD_START_NS])
    ranks.wait(ranks.group.broadcast(origin, 0), 0)
    start = int(origin) - clock.offset_ns
    gap = start - time.perf_counter_ns() - _SPIN_NS
    if gap > 0:
        time.sleep(gap / 1e9)
    while time.perf_counter_ns() < start:
        pass
    return start
