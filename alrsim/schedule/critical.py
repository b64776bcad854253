"""The critical path of a carried-out schedule, and the slack of every task: what a shorter or longer task would do."""

from dataclasses import dataclass
from typing import Literal

from alrsim.schedule.event_graph import Moments, Reason, Why
from alrsim.schedule.lower import Lowered
from alrsim.tasks.token import NONE

After = Literal["start", "lane", "input", "core", "send", "channel"]

_PREFERRED = {Why.TASK: 0, Why.MOVE: 0, Why.LANE: 1, Why.SEND: 1, Why.INPUT: 2, Why.CHANNEL: 3, Why.CORE: 4}
"""Where several things end at the moment that was waited for, the path stays with the unit or the message."""


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


def critical_path(moments: Moments, lowered: Lowered) -> tuple[Step, ...]:
    """The chain of items and messages that makes the step as long as it is, from 0 to the makespan without a gap.

    Raises:
        ValueError: times that do not belong to this schedule and these semantics.
    """
    items = len(lowered.duration)
    if not items:
        return ()
    last = max(range(items), key=lambda item: (moments.time[2 * item + 1], lowered.duration[item], -item))
    steps: list[Step] = []
    moment, moving, until = 2 * last + 1, NONE, 0
    while (reason := _tight(moments, moment)) is not None:
        if reason.why == Why.TASK:
            begun, start = _tight(moments, reason.moment), moments.time[reason.moment]
            steps.append(Step(moment // 2, NONE, start, moments.time[moment], _word(begun)))
        elif reason.why == Why.MOVE and moving == NONE:
            moving, until = reason.message, moments.time[moment]
        elif reason.why != Why.MOVE and moving != NONE:
            steps.append(Step(NONE, moving, moments.time[moment], until, _word(reason)))
            moving = NONE
        moment = reason.moment
    if moving != NONE:
        steps.append(Step(NONE, moving, moments.time[moment], until, _word(None)))
    return tuple(reversed(steps))


def _word(reason: Reason | None) -> After:
    if reason is None:
        return "start"
    words: dict[Why, After] = {
        Why.LANE: "lane",
        Why.INPUT: "input",
        Why.CORE: "core",
        Why.SEND: "send",
        Why.CHANNEL: "channel",
    }
    return words[reason.why]


def _tight(moments: Moments, moment: int) -> Reason | None:
    """What a moment waited for last; ``None`` at the start of the step."""
    tight = [one for one in moments.reasons[moment] if moments.time[one.moment] + one.ticks == moments.time[moment]]
    if tight:
        return min(tight, key=lambda one: _PREFERRED[one.why])
    if moments.time[moment]:
        raise ValueError(f"nothing explains moment {moment} at {moments.time[moment]}")
    return None


def slack(moments: Moments, items: int) -> list[int]:
    """Ticks by which each item can end later before the makespan grows, all orders kept.

    Orders are those of lanes, of messages on each channel, and of items on shared cores. Where a channel or a core
    is shared, a real delay may change the order there, and with it the makespan, earlier or later.
    """
    latest = latest_times(moments, items)
    return [latest[2 * item + 1] - moments.time[2 * item + 1] for item in range(items)]


def latest_times(moments: Moments, items: int) -> list[int]:
    """Per moment, the latest time that leaves the makespan as it is; at most the makespan."""
    count = len(moments.time)
    makespan = max((moments.time[2 * item + 1] for item in range(items)), default=0)
    waiting = [0] * count
    for reasons in moments.reasons:
        for reason in reasons:
            waiting[reason.moment] += 1
    latest = [makespan] * count
    settled = [moment for moment in range(count) if not waiting[moment]]
    while settled:
        moment = settled.pop()
        for reason in moments.reasons[moment]:
            before = reason.moment
            latest[before] = min(latest[before], latest[moment] - reason.ticks)
            waiting[before] -= 1
            if not waiting[before]:
                settled.append(before)
    return latest
