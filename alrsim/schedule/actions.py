"""What every unit does, one thing after the other, when messages are sent and received for real.

Two kinds of transport, one pure pass. In both the actions of all units are laid along one order of events that
respects the lanes and the data, so nobody can wait for somebody who waits for him:

*Buffered* (a send never waits for its receiver): sends stand right behind the item that makes the data, receives right
in front of the first item that reads it. Every wait is then for an event that is earlier in any topological order of
items and messages, and the lanes have one (else the schedule is a deadlock and is refused).

*Rendezvous* (a send and its receive wait for each other, as with unbuffered channels): a message is ONE event of the
order, and both sides carry it out at its place. Take the first event that is not done: all that its units have in front
of it is done, so they stand at it, both of them, and it happens. By induction everything does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import Literal

from alrsim.errors import DeadlockError
from alrsim.tasks.token import NONE

Transport = Literal["buffered", "rendezvous"]
Verb = Literal["run", "send", "receive"]


@dataclass(frozen=True, slots=True)
class Message:
    """One buffer on its way to one other unit, as the order of events sees it.

    Attributes:
        producer: Task that makes it, ``NONE`` if it is there from the start.
        source: Unit.
        target: Unit.
        readers: Tasks of the target that wait for it. Without any it is received when the lane is through.
    """

    producer: int
    source: int
    target: int
    readers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Action:
    """One step of a unit: run an item, or send or receive a message."""

    verb: Verb
    index: int


def order_actions(
    lanes: Sequence[Sequence[int]],
    messages: Sequence[Message],
    transport: Transport = "buffered",
    item_of: Sequence[int] | None = None,
) -> tuple[tuple[Action, ...], ...]:
    """The actions of every unit.

    Args:
        lanes: Items of every unit in order; an item is in one lane. Every dependency between lanes must be a message.
        messages: Their producers and readers are tasks, or items.
        item_of: Item of every task, if they are tasks.

    Raises:
        DeadlockError: lanes and messages have no common order.
    """
    if item_of is not None:
        messages = [_between_items(message, item_of) for message in messages]
    order = _events(lanes, messages)
    unit_of = {item: unit for unit, lane in enumerate(lanes) for item in lane}
    if transport == "rendezvous":
        found: list[list[Action]] = [[] for _ in lanes]
        for verb, index in order:
            if verb == 0:
                found[messages[index].source].append(Action("send", index))
                found[messages[index].target].append(Action("receive", index))
            else:
                found[unit_of[index]].append(Action("run", index))
        return tuple(tuple(actions) for actions in found)
    return tuple(_buffered(unit, lane, messages) for unit, lane in enumerate(lanes))


def _between_items(message: Message, item_of: Sequence[int]) -> Message:
    producer = NONE if message.producer == NONE else item_of[message.producer]
    readers = tuple(dict.fromkeys(item_of[reader] for reader in message.readers))
    return Message(producer, message.source, message.target, readers)


def _buffered(unit: int, lane: Sequence[int], messages: Sequence[Message]) -> tuple[Action, ...]:
    position = {item: index for index, item in enumerate(lane)}
    sends: dict[int, list[int]] = {}
    receives: dict[int, list[int]] = {}
    for index, message in enumerate(messages):
        if message.source == unit:
            sends.setdefault(message.producer, []).append(index)
        if message.target == unit:
            first = min(message.readers, key=lambda reader: position[reader], default=NONE)
            receives.setdefault(first, []).append(index)
    found = [Action("send", index) for index in sends.get(NONE, ())]
    for item in lane:
        found += [Action("receive", index) for index in receives.get(item, ())]
        found.append(Action("run", item))
        found += [Action("send", index) for index in sends.get(item, ())]
    return (*found, *(Action("receive", index) for index in receives.get(NONE, ())))


def _events(lanes: Sequence[Sequence[int]], messages: Sequence[Message]) -> list[tuple[int, int]]:
    """One order of all events, messages (0, index) and items (1, index): by level, messages first.

    The level of an event is the longest chain of events behind it, so that units advance evenly.
    """
    after: dict[tuple[int, int], list[tuple[int, int]]] = {(1, item): [] for lane in lanes for item in lane}
    missing = dict.fromkeys(after, 0)
    for lane in lanes:
        for before, item in pairwise(lane):
            after[1, before].append((1, item))
            missing[1, item] += 1
    for index, message in enumerate(messages):
        after[0, index] = [(1, reader) for reader in message.readers]
        missing[0, index] = int(message.producer != NONE)
        if message.producer != NONE:
            after[1, message.producer].append((0, index))
        for reader in message.readers:
            missing[1, reader] += 1
    level = dict.fromkeys(after, 0)
    ready = [(0, event) for event, count in missing.items() if not count]
    heapify(ready)
    order = []
    while ready:
        _, event = heappop(ready)
        order.append(event)
        for successor in after[event]:
            level[successor] = max(level[successor], level[event] + 1)
            missing[successor] -= 1
            if not missing[successor]:
                heappush(ready, (level[successor], successor))
    if len(order) < len(after):
        stuck = sorted(index for (kind, index), count in missing.items() if count and kind == 1)
        raise DeadlockError(
            f"lanes and messages have no common order; {len(stuck)} items can never run, the first is item {stuck[0]}",
            fix="check the schedule to see the cycle",
        )
    return order
