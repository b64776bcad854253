"""Lower a problem and a schedule to the integer arrays that the check, the evaluator and the simulator share.

An *item* is what a unit runs without a break: one task, or a fused pair of them. A *message* is one buffer on its
way to one other unit, however many tasks read it there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache

from alrsim.allocation import collector_paused
from alrsim.errors import ScheduleError
from alrsim.hardware.machine import Link
from alrsim.schedule.schedule import Schedule
from alrsim.tasks.problem import Problem, Semantics
from alrsim.tasks.taskgraph import TaskGraph
from alrsim.tasks.token import NONE


@dataclass(slots=True)
class Message:
    """One buffer sent to one unit.

    Attributes:
        source: Item that produces it, ``NONE`` if it is there from the start.
        source_unit: Where it leaves.
        target_unit: Where it goes.
        buffer: Index of the buffer.
        hold: Ticks for which it occupies each channel of its route.
        latency: Ticks from leaving the last channel to arrival.
        route: Channel indices, occupied one after the other.
        readers: Items that wait for it.
    """

    source: int
    source_unit: int
    target_unit: int
    buffer: int
    hold: int
    latency: int
    route: tuple[int, ...]
    readers: list[int] = field(default_factory=list)

    @property
    def delay(self) -> int:
        """Ticks on an idle network."""
        return self.hold * len(self.route) + self.latency


@dataclass(slots=True)
class Lowered:
    """A schedule as integers.

    Attributes:
        lanes: Item indices per unit, in order.
        tasks: Task indices per item (one, or two fused).
        unit: Unit per item.
        duration: Ticks per item.
        preds: Items on the same unit or plain order dependencies, per item (duplicates removed). They delay by 0.
        needs: Message indices per item.
        messages: All messages, in order of (source item, target unit, buffer); those with source ``NONE`` first.
        sends: Message indices per source item, ascending.
        channels: Names of the channels.
        home: Unit of each stage's parameters, the loss module last.
    """

    lanes: list[list[int]]
    tasks: list[tuple[int, ...]]
    unit: list[int]
    duration: list[int]
    preds: list[list[int]]
    needs: list[list[int]]
    messages: list[Message]
    sends: list[list[int]]
    channels: list[str]
    home: list[int]


@collector_paused()
def lower(problem: Problem, schedule: Schedule, *, overlap: Fraction = Fraction(1)) -> Lowered:
    """Lower a schedule whose tasks are complete and unique (see :func:`alrsim.schedule.check.check`).

    Args:
        overlap: A fused pair takes ``overlap * (first + second)``, rounded to a tick.

    Raises:
        ScheduleError: if data must move between two units without a link.
    """
    lanes, item_of, items = _items(problem, schedule)
    unit = [0] * len(items)
    for index, lane in enumerate(lanes):
        for item in lane:
            unit[item] = index
    duration = [item_ticks(problem.durations, members, unit[item], overlap) for item, members in enumerate(items)]
    home = homes(problem, schedule)
    preds: list[list[int]] = [[] for _ in items]
    needs: list[list[int]] = [[] for _ in items]
    wire = Wire(problem)
    buffers, tasks = problem.tasks.buffers, problem.tasks.tasks
    for item, members in enumerate(items):
        here = unit[item]
        before: list[int] = []
        for member in members:
            task = tasks[member]
            before += [item_of[other] for other in task.after]
            for index in task.reads:
                buffer = buffers[index]
                source = NONE if buffer.producer == NONE else item_of[buffer.producer]
                source_unit = home[buffer.stage] if source == NONE else unit[source]
                if source_unit != here:
                    number = wire.message(source, source_unit, here, index)
                    readers = wire.messages[number].readers
                    if not (readers and readers[-1] == item):
                        readers.append(item)
                        needs[item].append(number)
                elif source != NONE:
                    before.append(source)
        # An order inside a fused pair is no order between items.
        preds[item] = before if len(before) == 1 and before[0] != item else sorted({*before} - {item})
    return wire.finish(lanes, items, unit, duration, preds, needs, home)


def homes(problem: Problem, schedule: Schedule) -> list[int]:
    """The unit of each stage's parameters: where its update runs, else where its first forward runs."""
    return at_homes(problem.tasks, [schedule.unit_of[task.id] for task in problem.tasks.tasks])


def at_homes(graph: TaskGraph, values: Sequence[int]) -> list[int]:
    """Of a number per task, such as its unit, that of the task by which each stage's parameters are, the loss module
    last: the stage's update, else its first forward. A loss module without tasks is with the last stage."""
    placed: dict[int, int] = {}
    for task, value in zip(graph.tasks, values, strict=True):
        if task.id.kind == "U" or task.id.stage not in placed:
            placed[task.id.stage] = value
    fallback = placed.get(graph.stages - 1, 0)
    return [placed.get(stage, fallback) for stage in range(graph.stages + 1)]


def _items(problem: Problem, schedule: Schedule) -> tuple[list[list[int]], dict[int, int], list[tuple[int, ...]]]:
    index = problem.tasks.index
    lanes: list[list[int]] = []
    items: list[tuple[int, ...]] = []
    for lane in schedule.fused_lanes():
        lanes.append([*range(len(items), len(items) + len(lane))])
        items += [tuple([index[task] for task in group]) for group in lane]
    return lanes, {member: item for item, group in enumerate(items) for member in group}, items


def item_ticks(rows: Sequence[Sequence[int]], members: tuple[int, ...], unit: int, overlap: Fraction) -> int:
    """Ticks of an item on a unit, from those of every task on every unit: a fused pair takes ``overlap`` times the sum
    of both, rounded to a tick."""
    if len(members) == 1:
        return rows[members[0]][unit]
    return round(overlap * sum(rows[member][unit] for member in members))


class Delays:
    """How long a buffer travels between two units on an idle network."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._link = cache(problem.machine.link)
        self._known: dict[tuple[int, int, int], int] = {}

    def joined(self, source: int, target: int) -> bool:
        """Whether a link leads from one unit to another one."""
        return self._link(source, target) is not None

    def link(self, buffer: int, source: int, target: int) -> Link:
        """The link that joins two units.

        Raises:
            ScheduleError: there is none.
        """
        link = self._link(source, target)
        if link is None:
            units = self._problem.machine.units
            raise ScheduleError(
                f"{self._problem.tasks.buffers[buffer].name} must move from {units[source].name} to "
                f"{units[target].name}, which no link joins",
                where=self._problem.machine.name,
                fix="add the link to the hardware profile or place the tasks on the same unit",
            )
        return link

    def between(self, buffer: int, source: int, target: int) -> int:
        """Ticks from the end of the producer to arrival; 0 on the same unit.

        Raises:
            ScheduleError: no link joins the units.
        """
        if source == target:
            return 0
        size = self._problem.tasks.buffers[buffer].bytes
        key = (size, source, target)
        delay = self._known.get(key)
        if delay is None:
            delay = self._known[key] = self.link(buffer, source, target).delay_ns(size)
        return delay


def slow_channels(messages: Sequence[Message], semantics: Semantics) -> set[int]:
    """Channels that some message holds for a time: none under ``latency``.

    A message that holds nothing for any time needs no channel, unless it may have to queue behind one that does.
    """
    return set() if semantics == "latency" else {channel for one in messages if one.hold for channel in one.route}


def shared_channels(messages: Sequence[Message], routes: Sequence[Sequence[int]], channels: int) -> list[bool]:
    """Per channel, whether several units or several other channels feed it, so that requests of one instant can tie.

    What a single feeder hands over comes in its own order, so there is nothing to decide.

    Args:
        routes: The channels that each message occupies for a time.
    """
    feeder, shared = [NONE] * channels, [False] * channels
    for message, route in zip(messages, routes, strict=True):
        before = message.source_unit
        for channel in route:
            if feeder[channel] not in (NONE, before):
                shared[channel] = True
            feeder[channel] = before
            before = -2 - channel
    return shared


class Wire:
    """Collects messages while lowering, one per (buffer, destination unit).

    Attributes:
        messages: In the order in which they were first asked for.
        channels: Number by name of those that they occupy.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.delays = Delays(problem)
        self.messages: list[Message] = []
        self.known: dict[tuple[int, int], int] = {}
        self.channels: dict[str, int] = {}
        self.ways: dict[tuple[int, int, int], tuple[int, int, tuple[int, ...]]] = {}

    def message(self, source: int, source_unit: int, target: int, buffer: int) -> int:
        """The number of the message that takes a buffer to a unit.

        Args:
            source: What produces it, ``NONE`` if it is there from the start.
            source_unit: Where it leaves.

        Raises:
            ScheduleError: no link joins the units.
        """
        key = (buffer, target)
        known = self.known.get(key)
        if known is None:
            known = self.known[key] = len(self.messages)
            hold, latency, route = self._way(buffer, source_unit, target)
            self.messages.append(Message(source, source_unit, target, buffer, hold, latency, route))
        return known

    def _way(self, buffer: int, source: int, target: int) -> tuple[int, int, tuple[int, ...]]:
        """Hold, latency and route; messages of one size between two units share them."""
        size = self.problem.tasks.buffers[buffer].bytes
        way = self.ways.get((size, source, target))
        if way is None:
            link = self.delays.link(buffer, source, target)
            units = self.problem.machine.units
            names = link.channels or (f"{units[source].name}->{units[target].name}",)
            route = tuple(self.channels.setdefault(name, len(self.channels)) for name in names)
            way = self.ways[size, source, target] = (link.hold_ns(size), link.latency_ns, route)
        return way

    def finish(
        self,
        lanes: list[list[int]],
        items: list[tuple[int, ...]],
        unit: list[int],
        duration: list[int],
        preds: list[list[int]],
        needs: list[list[int]],
        home: list[int],
    ) -> Lowered:
        order = sorted(
            range(len(self.messages)),
            key=lambda m: (self.messages[m].source, self.messages[m].target_unit, self.messages[m].buffer),
        )
        rank = {old: new for new, old in enumerate(order)}
        messages = [self.messages[old] for old in order]
        sends: list[list[int]] = [[] for _ in items]
        for new, message in enumerate(messages):
            if message.source != NONE:
                sends[message.source].append(new)
        renumbered = [sorted([rank[m] for m in item]) if item else item for item in needs]
        return Lowered(lanes, items, unit, duration, preds, renumbered, messages, sends, list(self.channels), home)
