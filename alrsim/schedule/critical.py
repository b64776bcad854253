"""The critical path of a carried-out schedule, and the slack of every task: what a shorter or longer task would do."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from alrsim.schedule.event_graph import EventGraph, Reason, Why
from alrsim.tasks.token import NONE

After = Literal["start", "lane", "input", "core", "send", "channel"]

_WORDS: dict[Why, After] = {
    Why.LANE: "lane",
    Why.INPUT: "input",
    Why.CORE: "core",
    Why.SEND: "send",
    Why.CHANNEL: "channel",
}


@dataclass(frozen=True, slots=True)
class Step:
    """A stretch of the critical path: an item that runs, or a message that moves.

    Attributes:
        item: The item, ``NONE`` for a message.
        message: The message, ``NONE`` for an item.
        start: Ticks; where the step before it ends.
        end: Ticks.
        after: What it waited for until ``start``: the start of the step; the item before it in its lane (under
            `blocking` also that item's sends); an input; a shared core; the producer of what is sent; the message
            before it on a channel.
    """

    item: int
    message: int
    start: int
    end: int
    after: After


def critical_path(graph: EventGraph) -> tuple[Step, ...]:
    """The chain of items and messages that makes the step as long as it is, from 0 to the makespan without a gap.

    Raises:
        ValueError: times that do not belong to this schedule and these semantics.
    """
    return tuple(reversed(list(steps_back(graph))))


def steps_back(graph: EventGraph) -> Iterator[Step]:
    """The same from the end: only what the path passes is looked at."""
    times, duration = graph.times, graph.lowered.duration
    if not duration:
        return
    last = max(range(len(duration)), key=lambda item: (times.ends[item], duration[item], -item))
    moment, moving, until = 2 * last + 1, NONE, 0
    while (reason := _tight(graph, moment)) is not None:
        if reason.why == Why.TASK:
            begun = _tight(graph, reason.moment)
            yield Step(moment // 2, NONE, graph.time(reason.moment), graph.time(moment), _word(begun))
        elif reason.why == Why.MOVE and moving == NONE:
            moving, until = reason.message, graph.time(moment)
        elif reason.why != Why.MOVE and moving != NONE:
            yield Step(NONE, moving, graph.time(moment), until, _word(reason))
            moving = NONE
        moment = reason.moment
    if moving != NONE:
        yield Step(NONE, moving, graph.time(moment), until, "start")


def _word(reason: Reason | None) -> After:
    return "start" if reason is None else _WORDS[reason.why]


def _tight(graph: EventGraph, moment: int) -> Reason | None:
    """What a moment waited for last; ``None`` at the start of the step."""
    time = graph.time(moment)
    for reason in graph.reasons(moment):
        if graph.time(reason.moment) + reason.ticks == time:
            return reason
    if time:
        raise ValueError(f"nothing explains moment {moment} at {time}")
    return None


def slack(graph: EventGraph) -> list[int]:
    """Ticks by which each item can end later before the makespan grows, all orders kept.

    Orders are those of lanes, of messages on each channel, and of items on shared cores. Where a channel or a core
    is shared, a real delay may change the order there, and with it the makespan, earlier or later.
    """
    reasons = [tuple(graph.reasons(moment)) for moment in range(len(graph))]
    waiting = [0] * len(reasons)
    for row in reasons:
        for reason in row:
            waiting[reason.moment] += 1
    latest = [graph.times.makespan] * len(reasons)
    settled = [moment for moment, count in enumerate(waiting) if not count]
    while settled:
        moment = settled.pop()
        for reason in reasons[moment]:
            before = reason.moment
            latest[before] = min(latest[before], latest[moment] - reason.ticks)
            waiting[before] -= 1
            if not waiting[before]:
                settled.append(before)
    return [latest[2 * item + 1] - end for item, end in enumerate(graph.times.ends)]
