"""A carried-out schedule as moments and what each waited for: the graph behind critical path, slack and idle time.

Moments are: a unit starts an item, ends it, is free again (under `blocking` it sends first); a message begins and ends
to hold the first and the last channel of its route, and arrives. Each moment is the latest of what it waits for:

    time(moment) = max over its reasons (time(earlier moment) + ticks)

with the order of lanes, of messages on a channel and of items on the shared cores as they were. Between its first and
its last channel a message that passes three or more takes the time that it took: where it queued there is not recorded.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise

from alrsim.schedule.lower import Lowered, Message
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
    """When what happened, in ticks: per item start and end; per message, when it began to move, and was there."""

    starts: Sequence[int]
    ends: Sequence[int]
    sent: Sequence[int]
    arrived: Sequence[int]

    @property
    def makespan(self) -> int:
        return max(self.ends, default=0)


@dataclass(frozen=True, slots=True)
class Reason:
    """An earlier moment, the ticks from it, and what they are; of a message where it moves one."""

    moment: int
    ticks: int
    why: Why
    message: int = NONE


@dataclass(slots=True)
class Moments:
    """The graph. Moment ``2 i`` is the start of item ``i``, ``2 i + 1`` its end; the others follow.

    Attributes:
        time: Per moment.
        reasons: Per moment, all that it waits for.
        free: Per item, the moment from which its unit can go on.
        arrival: Per message, the moment at which its readers have it.
    """

    time: list[int]
    reasons: list[list[Reason]] = field(default_factory=list)
    free: list[int] = field(default_factory=list)
    arrival: list[int] = field(default_factory=list)

    def add(self, time: int, reasons: list[Reason]) -> int:
        """A new moment."""
        self.time.append(time)
        self.reasons.append(reasons)
        return len(self.time) - 1


def moments_of(lowered: Lowered, times: Times, semantics: Semantics, cores: int | None = None) -> Moments:
    """The graph of a schedule with its simulated times.

    Args:
        cores: How many units can compute at the same moment; ``None``: all.
    """
    items = len(lowered.duration)
    made = Moments([time for pair in zip(times.starts, times.ends, strict=True) for time in pair])
    made.reasons = [[] for _ in made.time]
    made.free = [2 * item + 1 for item in range(items)]
    for item in range(items):  # as long as it took: neighbours may have slowed it down
        made.reasons[2 * item + 1].append(Reason(2 * item, times.ends[item] - times.starts[item], Why.TASK))
        made.reasons[2 * item] += [Reason(2 * other + 1, 0, Why.INPUT) for other in lowered.preds[item]]
    _add_messages(made, lowered, times, semantics)
    for item, needs in enumerate(lowered.needs):
        made.reasons[2 * item] += [Reason(made.arrival[message], 0, Why.INPUT, message) for message in needs]
    for lane in lowered.lanes:
        for before, item in pairwise(lane):
            made.reasons[2 * item].append(Reason(made.free[before], 0, Why.LANE))
    if cores is not None and cores < len(lowered.lanes):
        _add_cores(made, lowered, times, cores)
    return made


def _add_messages(made: Moments, lowered: Lowered, times: Times, semantics: Semantics) -> None:
    messages = lowered.messages
    held = semantics != "latency"
    slow = {channel for m in messages if m.hold for channel in m.route} if held else set[int]()
    uses: dict[int, list[tuple[int, int, int, int, int]]] = {}
    made.arrival = [0] * len(messages)
    ready: dict[int, int] = {}  # per item: the moment at which its next message is handed over
    for index, message in enumerate(messages):
        route = [channel for channel in message.route if channel in slow]
        source = message.source
        asked = [] if source == NONE else [Reason(ready.get(source, 2 * source + 1), 0, Why.SEND, index)]
        first = made.add(times.sent[index], asked)
        latency = message.latency if held else message.delay
        left = _move(made, index, message, route, first, times, latency, uses)
        if semantics == "blocking" and source != NONE and route:
            ready[source] = made.free[source] = left
    for row in uses.values():
        row.sort()
        before = NONE
        for start, end, index, first, left in row:
            if before != NONE:
                made.reasons[first].append(Reason(before, 0, Why.CHANNEL, index))
            if end > start:  # what passes in no time keeps nobody waiting
                before = left


def _move(
    made: Moments,
    index: int,
    message: Message,
    route: Sequence[int],
    first: int,
    times: Times,
    latency: int,
    uses: dict[int, list[tuple[int, int, int, int, int]]],
) -> int:
    """The moments of one message behind its beginning; returns the one at which it has left its first channel."""
    sent, arrived, hold = times.sent[index], times.arrived[index], message.hold
    if not route:
        made.arrival[index] = made.add(arrived, [Reason(first, latency, Why.MOVE, index)])
        return first
    left = last = made.add(sent + hold, [Reason(first, hold, Why.MOVE, index)])
    uses.setdefault(route[0], []).append((sent, sent + hold, index, first, left))
    if len(route) > 1:
        begun = arrived - latency - hold
        middle = 0 if len(route) == 2 else begun - sent - hold
        again = made.add(begun, [Reason(left, middle, Why.MOVE, index)])
        last = made.add(begun + hold, [Reason(again, hold, Why.MOVE, index)])
        uses.setdefault(route[-1], []).append((begun, begun + hold, index, again, last))
    made.arrival[index] = made.add(arrived, [Reason(last, latency, Why.MOVE, index)])
    return left


def _add_cores(made: Moments, lowered: Lowered, times: Times, cores: int) -> None:
    """Who handed its core to whom: any core that is free will do, the one that has been free longest is taken."""
    free: list[tuple[int, int]] = [(0, NONE)] * cores
    order = sorted(range(len(times.starts)), key=lambda i: (times.starts[i], times.ends[i], lowered.unit[i]))
    for item in order:
        free.sort()
        since, before = free.pop(0)
        if before != NONE:
            made.reasons[2 * item].append(Reason(2 * before + 1, 0, Why.CORE))
        # An item of no time gives its core back at once: nobody waits for it.
        free.append((times.ends[item], item) if times.ends[item] > times.starts[item] else (since, before))
