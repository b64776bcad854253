"""Why units are idle: every idle tick of a carried-out schedule with one reason.

A unit that is free runs the next item of its lane as soon as it can, so each gap is a wait for that item:

    the unit still sends (`blocking`)                                -> sending
    a later item of the lane could run, and fits                     -> choice
    a later item of the lane could run, but does not fit             -> memory, live
    the last input is not made yet / waits to leave / travels        -> input / link / transfer
    everything is there, but no shared core is                       -> core
    no item is left in the lane                                      -> done
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import accumulate, pairwise

from alrsim.schedule.event_graph import EventGraph, Reason, Times
from alrsim.tasks.token import NONE

LOOK_AHEAD = 256
"""Places of a lane that are searched for an item that fits."""


class Cause(StrEnum):
    """One reason per idle tick."""

    INPUT = "input"
    LINK = "link"
    TRANSFER = "transfer"
    SENDING = "sending"
    CORE = "core"
    MEMORY = "memory"
    LIVE = "live"
    CHOICE = "choice"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Limit:
    """What a unit may hold, what it does hold over time, and what each item adds to it.

    Attributes:
        cause: ``memory`` or ``live``.
        capacity: Per unit, ``None`` for none.
        changes: Per unit, the times at which what it holds changes, ascending; the first is 0.
        held: Per unit, what it holds from each of these times.
        demand: Per item, what it takes from its start.
    """

    cause: Cause
    capacity: tuple[int | None, ...]
    changes: tuple[Sequence[int], ...]
    held: tuple[Sequence[int], ...]
    demand: Sequence[int]

    def most(self, unit: int, start: int, end: int) -> int:
        """Most that the unit holds from ``start`` up to ``end``."""
        changes = self.changes[unit]
        low = max(0, bisect_right(changes, start) - 1)
        return max(self.held[unit][low : max(low + 1, bisect_right(changes, end - 1))], default=0)


@dataclass(frozen=True, slots=True)
class Idle:
    """A stretch in which a unit is idle for one reason.

    Attributes:
        item: The next item of the lane, ``NONE`` behind the last; the item that has ended, where the unit sends.
        message: What is missing, where a message brings it.
        other: The item that makes what is missing; that has the core; or that could run instead.
        demand: Of ``memory`` and ``live``: what the other item would take...
        room: ...and what was left for it.
    """

    unit: int
    start: int
    end: int
    cause: Cause
    item: int = NONE
    message: int = NONE
    other: int = NONE
    demand: int = 0
    room: int = 0


@dataclass(frozen=True)
class _Wait:
    """A gap before an item: when its inputs are there, and the one that comes last."""

    item: int
    start: int
    end: int
    ready: int
    last: Reason | None


def idle_stretches(graph: EventGraph, limits: Sequence[Limit] = ()) -> tuple[Idle, ...]:
    """Every idle tick of every unit, by unit and time; stretches of no length are left out."""
    found: list[Idle] = []
    times = graph.times
    full = _full_cores(times, graph.cores) if graph.shares_cores and graph.cores is not None else []
    for unit, lane in enumerate(graph.lowered.lanes):
        inputs = [_last_input(graph, item) for item in lane]
        earliest = [*accumulate((ready for ready, _ in reversed(inputs)), min)][::-1]  # of it and all behind it
        free = 0
        for place, item in enumerate(lane):
            ready, last = inputs[place]
            if times.starts[item] > free:
                wait = _Wait(item, free, times.starts[item], ready, last)
                others = _others(lane, inputs, earliest, place, wait.end)
                found += _merged(_explain(unit, wait, others, graph, limits, full))
            free = graph.time(graph.free(item))
            if free > times.ends[item]:
                found.append(Idle(unit, times.ends[item], free, Cause.SENDING, item))
        if times.makespan > free:
            found.append(Idle(unit, free, times.makespan, Cause.DONE))
    return tuple(found)


def _last_input(graph: EventGraph, item: int) -> tuple[int, Reason | None]:
    """When everything that an item reads is there, and what comes last."""
    last = max(graph.inputs(item), key=lambda reason: graph.time(reason.moment), default=None)
    return (0, None) if last is None else (graph.time(last.moment), last)


def _others(
    lane: Sequence[int], inputs: Sequence[tuple[int, Reason | None]], earliest: Sequence[int], place: int, end: int
) -> list[tuple[int, int]]:
    """``(time from which it could run, item)`` of later items of the lane that could run before ``end``."""
    found: list[tuple[int, int]] = []
    for later in range(place + 1, len(lane)):
        if earliest[later] >= end or (found and later > place + LOOK_AHEAD):
            break
        if inputs[later][0] < end:
            found.append((inputs[later][0], lane[later]))
    return found


def _full_cores(times: Times, cores: int) -> list[tuple[int, int]]:
    """``(time, 1 or 0)``: from when on all shared cores are busy, or not."""
    changes = sorted(
        [(end, -1) for start, end in zip(times.starts, times.ends, strict=True) if end > start]
        + [(start, 1) for start, end in zip(times.starts, times.ends, strict=True) if end > start]
    )
    running, found = 0, [(0, 0)]
    for time, change in changes:
        running += change
        if found[-1][0] == time:
            found.pop()
        found.append((time, int(running >= cores)))
    return found


def _explain(
    unit: int,
    wait: _Wait,
    others: Sequence[tuple[int, int]],
    graph: EventGraph,
    limits: Sequence[Limit],
    full: Sequence[tuple[int, int]],
) -> Iterator[Idle]:
    """The gap cut where any of its reasons can change."""
    times = graph.times
    marks = {wait.start, wait.end, wait.ready, *(ready for ready, _ in others)}
    if wait.last is not None and wait.last.message != NONE:
        source = graph.lowered.messages[wait.last.message].source
        marks |= {times.sent[wait.last.message], 0 if source == NONE else times.ends[source]}
    if others:
        marks |= {time for limit in limits for time in _between(limit.changes[unit], wait.start, wait.end)}
    marks |= {time for time, _ in full[bisect_right(full, (wait.start, 1)) :] if time < wait.end} if full else set()
    cuts = sorted(mark for mark in marks if wait.start <= mark <= wait.end)
    for start, end in pairwise(cuts):
        saturated = bool(full) and bool(full[bisect_right(full, (start, 1)) - 1][1])
        could = [item for ready, item in others if ready <= start]
        if start >= wait.ready:
            yield Idle(unit, start, end, Cause.CORE, wait.item, other=graph.core_holder(wait.item))
        elif could and saturated:
            yield Idle(unit, start, end, Cause.CORE, wait.item, other=could[0])
        elif could:
            yield _choice(unit, start, end, wait, could, times, limits)
        else:
            yield _missing(unit, start, end, wait, graph)


def _between(times: Sequence[int], start: int, end: int) -> Sequence[int]:
    return times[bisect_right(times, start) : bisect_right(times, end - 1)]


def _choice(
    unit: int, start: int, end: int, wait: _Wait, could: Sequence[int], times: Times, limits: Sequence[Limit]
) -> Idle:
    """Another item could run now: is there room for it until the schedule starts it?"""
    refused: Idle | None = None
    for item in could:
        short = _shortage(unit, start, item, times, limits)
        if short is None:
            return Idle(unit, start, end, Cause.CHOICE, wait.item, _message(wait), item)
        limit, room = short
        kept = Idle(unit, start, end, limit.cause, wait.item, _message(wait), item, limit.demand[item], room)
        refused = refused or kept
    assert refused is not None
    return refused


def _shortage(unit: int, start: int, item: int, times: Times, limits: Sequence[Limit]) -> tuple[Limit, int] | None:
    for limit in limits:
        capacity = limit.capacity[unit]
        if capacity is None or not limit.demand[item]:
            continue
        room = capacity - limit.most(unit, start, times.starts[item])
        if limit.demand[item] > room:
            return limit, max(0, room)
    return None


def _message(wait: _Wait) -> int:
    return NONE if wait.last is None else wait.last.message


def _missing(unit: int, start: int, end: int, wait: _Wait, graph: EventGraph) -> Idle:
    """What has not come yet: not made, or queueing, or on its way."""
    assert wait.last is not None  # an item that needs nothing is ready at 0
    message = wait.last.message
    if message == NONE:
        return Idle(unit, start, end, Cause.INPUT, wait.item, other=wait.last.moment // 2)
    times, maker = graph.times, graph.lowered.messages[message].source
    made = 0 if maker == NONE else times.ends[maker]
    cause = Cause.INPUT if start < made else Cause.LINK if start < times.sent[message] else Cause.TRANSFER
    return Idle(unit, start, end, cause, wait.item, message, maker)


def _merged(stretches: Iterator[Idle]) -> list[Idle]:
    """Neighbours with the same reason are one stretch."""
    found: list[Idle] = []
    for one in stretches:
        if found and replace(found[-1], start=one.start, end=one.end) == one:
            found[-1] = replace(found[-1], end=one.end)
        else:
            found.append(one)
    return found


def idle_by_cause(stretches: Sequence[Idle], units: int) -> list[dict[Cause, int]]:
    """Per unit: idle ticks of each cause that occurs; they add up to the makespan less what the unit runs."""
    total: list[dict[Cause, int]] = [{} for _ in range(units)]
    for one in stretches:
        total[one.unit][one.cause] = total[one.unit].get(one.cause, 0) + one.end - one.start
    return total
