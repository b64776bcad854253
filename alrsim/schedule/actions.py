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
from heapq import heappop, heappush
from itertools import pairwise
from typing import Literal

from alrsim.errors import DeadlockError
from alrsim.tasks.token import NONE

Transport = Literal["buffered", "rendezvous"]
Verb = Literal["run", "send", "receive"]


@dataclass(frozen=True, slots=True)
class Wire:
    """A message between two units, as the order sees it.

    Attributes:
        source: Item that makes it, ``NONE`` if it is there from the start.
        source_unit: Its lane.
        target_unit: Where it goes.
        readers: Items of the target's lane that wait for it. Without any it is received when the lane is through.
    """

    source: int
    source_unit: int
    target_unit: int
    readers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Action:
    """One step of a unit: run an item, or send or receive a message."""

    verb: Verb
    index: int


def order_actions(
    lanes: Sequence[Sequence[int]], wires: Sequence[Wire], transport: Transport = "buffered"
) -> tuple[tuple[Action, ...], ...]:
    """The actions of every unit.

    Args:
        lanes: Items of every unit in order; an item is in one lane. Every dependency between lanes must be a wire.
        wires: The messages.

    Raises:
        DeadlockError: lanes and messages have no common order.
    """
    order = _events(lanes, wires)
    unit_of = {item: unit for unit, lane in enumerate(lanes) for item in lane}
    if transport == "rendezvous":
        found: list[list[Action]] = [[] for _ in lanes]
        for verb, index in order:
            if verb == 0:
                found[wires[index].source_unit].append(Action("send", index))
                found[wires[index].target_unit].append(Action("receive", index))
            else:
                found[unit_of[index]].append(Action("run", index))
        return tuple(tuple(actions) for actions in found)
    return tuple(_buffered(unit, lane, wires) for unit, lane in enumerate(lanes))


def _buffered(unit: int, lane: Sequence[int], wires: Sequence[Wire]) -> tuple[Action, ...]:
    position = {item: index for index, item in enumerate(lane)}
    sends: dict[int, list[int]] = {}
    receives: dict[int, list[int]] = {}
    for index, wire in enumerate(wires):
        if wire.source_unit == unit:
            sends.setdefault(wire.source, []).append(index)
        if wire.target_unit == unit:
            first = min(wire.readers, key=lambda reader: position[reader], default=NONE)
            receives.setdefault(first, []).append(index)
    found = [Action("send", index) for index in sends.get(NONE, ())]
    for item in lane:
        found += [Action("receive", index) for index in receives.get(item, ())]
        found.append(Action("run", item))
        found += [Action("send", index) for index in sends.get(item, ())]
    return (*found, *(Action("receive", index) for index in receives.get(NONE, ())))


def _events(lanes: Sequence[Sequence[int]], wires: Sequence[Wire]) -> list[tuple[int, int]]:
    """One order of all events, messages (0, index) and items (1, index): by level, messages first.

    The level of an event is the longest chain of events behind it, so that units advance evenly.
    """
    after: dict[tuple[int, int], list[tuple[int, int]]] = {(1, item): [] for lane in lanes for item in lane}
    missing = dict.fromkeys(after, 0)
    for lane in lanes:
        for before, item in pairwise(lane):
            after[1, before].append((1, item))
            missing[1, item] += 1
    for index, wire in enumerate(wires):
        after[0, index] = [(1, reader) for reader in wire.readers]
        missing[0, index] = int(wire.source != NONE)
        if wire.source != NONE:
            after[1, wire.source].append((0, index))
        for reader in wire.readers:
            missing[1, reader] += 1
    level = dict.fromkeys(after, 0)
    ready: list[tuple[int, tuple[int, int]]] = []
    for event, count in missing.items():
        if not count:
            heappush(ready, (0, event))
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
