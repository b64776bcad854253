"""A carried-out schedule as moments and what each waited for: the graph behind critical path, slack and idle time.

Moments are: a unit starts an item, ends it; a message begins and ends to hold the first and the last channel of its
route, and arrives. Each moment is the latest of what it waits for:

    time(moment) = max over its reasons (time(earlier moment) + ticks)

with the order of lanes, of messages on a channel and of items on the shared cores as they were. Between its first and
its last channel a message that passes three or more takes the time that it took: where it queued there is not recorded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

from alrsim.schedule.lower import Lowered, slow_channels
from alrsim.tasks.problem import Semantics
from alrsim.tasks.token import NONE


class Why(StrEnum):
    """What joins a moment to the one that it waited for."""

    TASK = "task"
    LANE = "lane"
    INPUT = "input"
    CORE = "core"
    SEND = "send"
    CHANNEL = "channel"
    MOVE = "move"


@dataclass(frozen=True, slots=True)
class Times:
    """When what happened, in ticks.

    Attributes:
        starts: Per item of the lowered schedule. ``ends`` likewise.
        sent: Per message, when it began to occupy its first channel (or left, where it occupies none).
        arrived: Per message, when the receiver had it.
    """

    starts: Sequence[int]
    ends: Sequence[int]
    sent: Sequence[int]
    arrived: Sequence[int]

    @property
    def makespan(self) -> int:
        return max(self.ends, default=0)


class Reason(NamedTuple):
    """An earlier moment, the ticks from it, and what they are; of a message where it moves one."""

    moment: int
    ticks: int
    why: Why
    message: int = NONE


_BEGUN, _LEFT, _AGAIN, _PASSED, _THERE = range(5)
_PARTS = ((_BEGUN, _THERE), (_BEGUN, _LEFT, _THERE), (_BEGUN, _LEFT, _AGAIN, _PASSED, _THERE))
_OF_MESSAGE = 5


@dataclass(frozen=True)
class EventGraph:
    """Moments and their reasons, worked out when asked for.

    Moment ``2 i`` is the start of item ``i``, ``2 i + 1`` its end; five for each message follow, of which those that
    its route has no use for are never and have no reasons.

    Attributes:
        cores: How many units can compute at the same moment; ``None``: all.
    """

    lowered: Lowered
    times: Times
    semantics: Semantics
    cores: int | None = None

    def __len__(self) -> int:
        return self._first + _OF_MESSAGE * len(self.lowered.messages)

    def time(self, moment: int) -> int:
        """When it was."""
        if moment < self._first:
            return (self.times.ends if moment & 1 else self.times.starts)[moment >> 1]
        message, part = divmod(moment - self._first, _OF_MESSAGE)
        sent, arrived, hold = self.times.sent[message], self.times.arrived[message], self.lowered.messages[message].hold
        if part == _BEGUN or part not in self._parts[message]:
            return sent if part == _BEGUN else 0
        if part <= _LEFT:
            return sent + hold
        return arrived - (0, self._latency(message), self._latency(message) + hold)[_THERE - part]

    def reasons(self, moment: int) -> Iterator[Reason]:
        """What it waits for. Where several end when it comes, the first is the one that a critical path takes: it
        stays with the unit or the message."""
        item = moment >> 1
        if moment >= self._first:
            yield from self._of_message(*divmod(moment - self._first, _OF_MESSAGE))
        elif moment & 1:  # as long as it took: neighbours may have slowed it down
            yield Reason(moment - 1, self.times.ends[item] - self.times.starts[item], Why.TASK)
        else:
            if (before := self._before[item]) != NONE:
                yield Reason(self.free(before), 0, Why.LANE)
            yield from self.inputs(item)
            if self.shares_cores and (before := self._core_from[item]) != NONE:
                yield Reason(2 * before + 1, 0, Why.CORE)

    def inputs(self, item: int) -> Iterator[Reason]:
        """What an item reads, and the plain order that it keeps."""
        for other in self.lowered.preds[item]:
            yield Reason(2 * other + 1, 0, Why.INPUT)
        for message in self.lowered.needs[item]:
            yield Reason(self._moment(message, _THERE), 0, Why.INPUT, message)

    def free(self, item: int) -> int:
        """The moment from which its unit can go on: under `blocking` it sends first."""
        return self._handed_over(item, len(self.lowered.messages))

    @property
    def shares_cores(self) -> bool:
        """Whether units can wait for a core."""
        return self.cores is not None and self.cores < len(self.lowered.lanes)

    def core_holder(self, item: int) -> int:
        """The item that gave its core to this one, or ``NONE``."""
        return self._core_from[item] if self.shares_cores else NONE

    def _moment(self, message: int, part: int) -> int:
        return self._first + _OF_MESSAGE * message + part

    def _latency(self, message: int) -> int:
        one = self.lowered.messages[message]
        return one.delay if self.semantics == "latency" else one.latency

    @cached_property
    def _parts(self) -> list[tuple[int, ...]]:
        """The moments of every message, in order: it may have to queue for no channel, for one, or for more."""
        slow, routes = self._slow, [message.route for message in self.lowered.messages]
        return [_PARTS[min(2, sum(channel in slow for channel in route))] for route in routes]

    def _of_message(self, message: int, part: int) -> Iterator[Reason]:
        parts = self._parts[message]
        if part not in parts:
            return
        one, moment = self.lowered.messages[message], self._moment(message, part)
        if part == _BEGUN and one.source != NONE:
            yield Reason(self._handed_over(one.source, message), 0, Why.SEND, message)
        elif part != _BEGUN:
            before = self._moment(message, parts[parts.index(part) - 1])
            if part == _THERE:
                ticks = self._latency(message)
            elif part == _AGAIN and sum(channel in self._slow for channel in one.route) == 2:
                ticks = 0
            else:
                ticks = self.time(moment) - self.time(before)
            yield Reason(before, ticks, Why.MOVE, message)
        if moment in self._queued:
            yield Reason(self._queued[moment], 0, Why.CHANNEL, message)

    def _handed_over(self, item: int, until: int) -> int:
        """The moment at which a unit has handed over what an item sends, messages from ``until`` on excluded."""
        if self.semantics == "blocking":
            for message in reversed(self.lowered.sends[item]):
                if message < until and _LEFT in self._parts[message]:
                    return self._moment(message, _LEFT)
        return 2 * item + 1

    @cached_property
    def _first(self) -> int:
        """The first moment of a message."""
        return 2 * len(self.lowered.duration)

    @cached_property
    def _before(self) -> list[int]:
        """Per item, the one before it in its lane."""
        before = [NONE] * len(self.lowered.duration)
        for lane in self.lowered.lanes:
            for first, second in pairwise(lane):
                before[second] = first
        return before

    @cached_property
    def _slow(self) -> set[int]:
        """Channels that something holds for a time."""
        return slow_channels(self.lowered.messages, self.semantics)

    @cached_property
    def _queued(self) -> dict[int, int]:
        """The moment at which a message ends to hold a channel, by the one at which the next begins to."""
        uses: dict[int, list[tuple[int, int, int, int]]] = {}
        for message in range(len(self.lowered.messages)):
            route = [channel for channel in self.lowered.messages[message].route if channel in self._slow]
            for channel, part in zip((*route[:1], *route[1:][-1:]), (_BEGUN, _AGAIN), strict=False):
                moment = self._moment(message, part)
                uses.setdefault(channel, []).append((self.time(moment), self.time(moment + 1), message, moment))
        queued: dict[int, int] = {}
        for row in uses.values():
            before = NONE
            for start, end, _, moment in sorted(row):
                if before != NONE:
                    queued[moment] = before
                if end > start:  # what passes in no time keeps nobody waiting
                    before = moment + 1
        return queued

    @cached_property
    def _core_from(self) -> list[int]:
        """Who handed its core to whom: any core that is free will do, the one that has been free longest is taken."""
        times = self.times
        free, given = [(0, NONE)] * (self.cores or 0), [NONE] * len(times.starts)
        for item in sorted(range(len(given)), key=lambda i: (times.starts[i], times.ends[i], self.lowered.unit[i])):
            free.sort()
            since, given[item] = free.pop(0)
            # An item of no time gives its core back at once: nobody waits for it.
            took = times.ends[item] > times.starts[item]
            free.append((times.ends[item], item) if took else (since, given[item]))
        return given
