"""Lanes, tasks and messages as numpy columns: what the fast engine runs.

Two ways lead here: a lowered schedule, one row per item; or a step of equal micro-batches with its lanes, one row per
task of a micro-batch, whatever their number. Messages are numbered as in the lowered schedule: those of buffers that
exist from the start first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Literal

import numpy as np
import numpy.typing as npt

from alrsim.allocation import collector_paused
from alrsim.errors import OptionError, ScheduleError
from alrsim.hardware.machine import Link, Machine
from alrsim.schedule.lower import Lowered
from alrsim.tasks.columns import TaskColumns
from alrsim.tasks.token import NONE

Transfers = Literal["latency", "link", "blocking"]
Ticks = npt.NDArray[np.int64]
Index = npt.NDArray[np.int32]

MAX_ITEMS = 2**31 - 1


@dataclass(frozen=True)
class Columns:
    """Everything that an engine needs, as arrays. A row is repeated ``copies`` times; see the module.

    Attributes:
        copies: Micro-batches; item ``row * copies + copy``. 1 for a lowered schedule.
        rows: Rows that are repeated; those behind them are there once and wait for every copy of what they wait for.
        unit: Per row.
        duration: Ticks per row.
        before_first: ``before[before_first[r]:before_first[r + 1]]`` is what a repeated row waits for.
        before: A row, or ``-1 - m`` for message ``m``.
        lag: Ticks from the end of that row to the earliest start; 0 for messages.
        gather_first: The same for rows that are there once; every copy of rows only.
        gather: Rows.
        send_first: ``range(send_first[r], send_first[r + 1])`` are the messages of row ``r``.
        initial: Messages that are there from the start, one for each copy, as ``message * copies + copy`` in the
            order in which they leave.
        hold: Ticks for which a message occupies each channel of its route.
        latency: Ticks from leaving the last channel to arrival.
        route_first: ``route[route_first[m]:route_first[m + 1]]`` are the channels that message ``m`` occupies.
        route: Channels that may be occupied for some time.
        source: Row that makes the message, ``NONE`` if it is there from the start.
        channels: How many there are.
        shared: Per channel, whether messages from several units or channels may ask for it at the same instant.
        lane_first: ``lane[lane_first[u]:lane_first[u + 1]]`` are the items of unit ``u`` in order.
        lane: Items.
    """

    copies: int
    rows: int
    unit: Index
    duration: Ticks
    before_first: Ticks
    before: Index
    lag: Ticks
    gather_first: Ticks
    gather: Index
    send_first: Ticks
    initial: Ticks
    hold: Ticks
    latency: Ticks
    route_first: Ticks
    route: Index
    source: Index
    channels: int
    shared: npt.NDArray[np.bool_]
    lane_first: Ticks
    lane: Index

    def __len__(self) -> int:
        return len(self.lane)

    @property
    def messages(self) -> int:
        """Rows of messages; each stands for ``copies`` of them."""
        return len(self.hold)

    @property
    def contended(self) -> bool:
        """Whether some order on a channel depends on the clock, so that only an event loop is exact."""
        return bool(self.shared.any())


@dataclass(frozen=True, slots=True)
class Way:
    """What a message occupies.

    Attributes:
        source: Row that makes it, ``NONE`` if it is there from the start.
        source_unit: Where it leaves.
        hold: See :class:`alrsim.schedule.lower.Message`.
    """

    source: int
    source_unit: int
    hold: int
    latency: int
    route: Sequence[int]


@collector_paused()
def columns_of(lowered: Lowered, semantics: Transfers) -> Columns:
    """A lowered schedule as columns, one row per item."""
    items = len(lowered.duration)
    needs: list[list[int]] = []
    lags: list[list[int]] = []
    unit = lowered.unit
    latent = semantics == "latency"
    delay = [message.delay if latent else 0 for message in lowered.messages]
    sources = [message.source for message in lowered.messages]
    for item, (preds, messages) in enumerate(zip(lowered.preds, lowered.needs, strict=True)):
        # Items are numbered in lane order: a smaller one of the same unit is done before this one is looked at.
        need = [other for other in preds if other > item or unit[other] != unit[item]]
        lag = [0] * len(need)
        for message in messages:
            direct = latent and sources[message] != NONE
            need.append(sources[message] if direct else -1 - message)
            lag.append(delay[message] if direct else 0)
        needs.append(need)
        lags.append(lag)
    ways = [Way(m.source, m.source_unit, m.hold, m.latency, m.route) for m in lowered.messages]
    lane_first = _offsets([len(lane) for lane in lowered.lanes])
    return _columns(
        1,
        items,
        unit,
        lowered.duration,
        needs,
        lags,
        [],
        ways,
        [index for index, way in enumerate(ways) if way.source == NONE],
        len(lowered.channels),
        semantics,
        lane_first,
        np.fromiter(chain.from_iterable(lowered.lanes), dtype=np.int32, count=items),
    )


@dataclass(frozen=True)
class ColumnProblem:
    """A step of equal micro-batches, its units and durations.

    Attributes:
        units: Unit per stage, the loss module last: all tasks of a stage run on one unit.
        durations: Ticks per row of the tasks, on its unit.
        ticks_per_unit: As in :class:`alrsim.tasks.problem.Problem`.

    Raises:
        OptionError: a unit for each stage or a duration for each row is missing, or more items than can be numbered.
    """

    tasks: TaskColumns
    machine: Machine
    units: tuple[int, ...]
    durations: Ticks
    cost_model: str = "durations"
    time_unit: str = "ns"
    ticks_per_unit: int = 1

    def __post_init__(self) -> None:
        stages, rows = self.tasks.template.stages, len(self.tasks.template.tasks)
        if len(self.units) != stages + 1 or not all(0 <= unit < len(self.machine.units) for unit in self.units):
            raise OptionError(f"units {self.units} must be {stages + 1} units of {self.machine.name}")
        if self.durations.shape != (rows,) or self.durations.dtype != np.int64 or int(self.durations.min()) < 0:
            raise OptionError(f"durations must be {rows} non-negative 64-bit integers, one per row")
        if len(self.tasks) > MAX_ITEMS:
            raise OptionError(
                f"{len(self.tasks)} tasks are more than {MAX_ITEMS}",
                where="task columns",
                fix="use fewer micro-batches",
            )

    @cached_property
    def links(self) -> dict[tuple[int, int], Link]:
        """Link by ordered pair of units."""
        return self.machine.link_table()

    @cached_property
    def unit(self) -> list[int]:
        """Unit per row."""
        return [self.units[task.id.stage] for task in self.tasks.template.tasks]


@dataclass(frozen=True)
class LaneColumns:
    """One lane per unit as columns: ``items[first[u]:first[u + 1]]``; items as :class:`TaskColumns` numbers them."""

    first: Ticks
    items: Index
    name: str = ""


def lower_columns(problem: ColumnProblem, lanes: LaneColumns, semantics: Transfers) -> Columns:
    """A step of equal micro-batches with its lanes, without writing it out.

    Raises:
        ScheduleError: data must move between units that no link joins; something that is there once (an update, a
            parameter) is needed on another unit; the lanes do not hold every item once, on its stage's unit.
    """
    _check_lanes(problem, lanes)
    graph, unit = problem.tasks.template, problem.unit
    rows, copies = problem.tasks.rows, problem.tasks.microbatches
    wires = _Wires(problem, unit, semantics)
    needs: list[list[int]] = []
    lags: list[list[int]] = []
    gathers: list[list[int]] = []
    for row, task in enumerate(graph.tasks):
        local = [*task.after]
        remote = []
        for buffer in task.reads:
            producer, home = graph.buffers[buffer].producer, wires.home(buffer)
            if home != unit[row]:
                wires.refuse_once(row, buffer, rows)
                remote.append(wires.message(buffer, unit[row]))
            elif producer != NONE:
                local.append(producer)
        if row >= rows:
            gathers.append(sorted(set(local)))
            continue
        needs.append([*sorted(set(local)), *remote])
        lags.append([0] * len(needs[-1]))
    order, ways = wires.ordered()
    rank = {old: new for new, old in enumerate(order)}
    for row in range(rows):
        wires.settle(needs[row], lags[row], rank)
    initial = sorted(
        ((message, copy) for message, way in enumerate(ways) if way.source == NONE for copy in range(copies)),
        key=lambda pair: (wires.targets[order[pair[0]]], pair[1], pair[0]),
    )
    return _columns(
        copies,
        rows,
        unit,
        problem.durations,
        needs,
        lags,
        gathers,
        ways,
        [message * copies + copy for message, copy in initial],
        wires.channels,
        semantics,
        lanes.first,
        lanes.items,
    )


def link_delay(problem: ColumnProblem, buffer: int, source: int, target: int) -> int:
    """Ticks that a buffer of the template travels on an idle network.

    Raises:
        ScheduleError: no link joins the units.
    """
    return _way(problem, buffer, source, target)[1]


def _way(problem: ColumnProblem, buffer: int, source: int, target: int) -> tuple[Link, int]:
    """The link that joins two units, and the delay of a buffer on it."""
    link, units = problem.links.get((source, target)), problem.machine.units
    if link is None:
        raise ScheduleError(
            f"{problem.tasks.template.buffers[buffer].name} must move from {units[source].name} to "
            f"{units[target].name}, which no link joins",
            where=problem.machine.name,
            fix="add the link to the machine or place the stages on the same unit",
        )
    size = problem.tasks.template.buffers[buffer].bytes
    return link, link.hold_ns(size) * max(1, len(link.channels)) + link.latency_ns


class _Wires:
    """Messages of one micro-batch: one for each buffer and unit that reads it elsewhere."""

    def __init__(self, problem: ColumnProblem, unit: list[int], semantics: Transfers) -> None:
        self._problem, self._unit, self._latent = problem, unit, semantics == "latency"
        self._known: dict[tuple[int, int], int] = {}
        self._names: dict[str, int] = {}
        self._ways: list[Way] = []
        self._delays: list[int] = []
        self._buffers: list[int] = []
        self.targets: list[int] = []

    @property
    def channels(self) -> int:
        return len(self._names)

    def home(self, buffer: int) -> int:
        """Where a buffer is made, or lies from the start."""
        one = self._problem.tasks.template.buffers[buffer]
        return self._problem.units[one.stage] if one.producer == NONE else self._unit[one.producer]

    def refuse_once(self, row: int, buffer: int, rows: int) -> None:
        one = self._problem.tasks.template.buffers[buffer]
        if one.resident or row >= rows:
            task = self._problem.tasks.template.tasks[row].id
            raise ScheduleError(
                f"{task} reads {one.name} from another unit, and one of both is there once in a step",
                where="columns of lanes",
                fix="use the task graph of objects",
            )

    def message(self, buffer: int, target: int) -> int:
        """``-1 - m`` for the message of a buffer to a unit; numbered anew by :meth:`ordered`."""
        known = self._known.get((buffer, target))
        if known is None:
            known = self._known[buffer, target] = len(self._ways)
            one, source = self._problem.tasks.template.buffers[buffer], self.home(buffer)
            link, delay = _way(self._problem, buffer, source, target)
            units = self._problem.machine.units
            names = link.channels or (f"{units[source].name}->{units[target].name}",)
            route = tuple(self._names.setdefault(name, len(self._names)) for name in names)
            self._ways.append(Way(one.producer, source, link.hold_ns(one.bytes), link.latency_ns, route))
            self._delays.append(delay)
            self._buffers.append(buffer)
            self.targets.append(target)
        return -1 - known

    def ordered(self) -> tuple[list[int], list[Way]]:
        """Messages by (source row, target unit, buffer), those that are there from the start first."""
        order = sorted(range(len(self._ways)), key=lambda m: (self._ways[m].source, self.targets[m], self._buffers[m]))
        return order, [self._ways[old] for old in order]

    def settle(self, needs: list[int], lags: list[int], rank: dict[int, int]) -> None:
        """Number the messages that a row needs anew; under ``latency`` wait for their source instead."""
        for position, need in enumerate(needs):
            if need >= 0:
                continue
            old = -1 - need
            if self._latent and self._ways[old].source != NONE:
                needs[position], lags[position] = self._ways[old].source, self._delays[old]
            else:
                needs[position] = -1 - rank[old]


def _columns(
    copies: int,
    rows: int,
    unit: Sequence[int],
    duration: Sequence[int] | Ticks,
    needs: list[list[int]],
    lags: list[list[int]],
    gathers: list[list[int]],
    ways: list[Way],
    initial: list[int],
    channels: int,
    semantics: Transfers,
    lane_first: Ticks,
    lane: Index,
) -> Columns:
    latent = semantics == "latency"
    # A message that holds nothing for any time needs no channel, unless it may have to queue behind one that does.
    slow = set() if latent else {channel for way in ways if way.hold for channel in way.route}
    routes = [[channel for channel in way.route if channel in slow] for way in ways]
    latency = [way.hold * len(way.route) + way.latency if latent else way.latency for way in ways]
    sends = np.bincount([way.source for way in ways if way.source != NONE], minlength=len(unit))
    send_first = _offsets(sends if not latent else sends * 0)
    if not latent:
        send_first += sum(way.source == NONE for way in ways)
    return Columns(
        copies,
        rows,
        np.array(unit, dtype=np.int32),
        np.asarray(duration, dtype=np.int64),
        _offsets([len(need) for need in needs]),
        _flat(needs).astype(np.int32),
        _flat(lags),
        _offsets([len(row) for row in gathers]),
        _flat(gathers).astype(np.int32),
        send_first,
        np.array(initial, dtype=np.int64),
        np.array([way.hold for way in ways], dtype=np.int64),
        np.array(latency, dtype=np.int64),
        _offsets([len(route) for route in routes]),
        _flat(routes).astype(np.int32),
        np.array([way.source for way in ways], dtype=np.int32),
        channels,
        _shared(ways, routes, channels),
        lane_first,
        lane,
    )


def _shared(ways: list[Way], routes: list[list[int]], channels: int) -> npt.NDArray[np.bool_]:
    """Channels that several units or several other channels feed."""
    feeder = [NONE] * channels
    shared = np.zeros(channels, dtype=np.bool_)
    for way, route in zip(ways, routes, strict=True):
        before = way.source_unit
        for channel in route:
            if feeder[channel] not in (NONE, before):
                shared[channel] = True
            feeder[channel] = before
            before = -2 - channel
    return shared


def _check_lanes(problem: ColumnProblem, lanes: LaneColumns) -> None:
    """Every item once, on the unit of its stage."""
    count, units = len(problem.tasks), len(problem.machine.units)
    if len(lanes.first) != units + 1 or len(lanes.items) != count or lanes.first[-1] != count:
        raise ScheduleError(f"lanes hold {len(lanes.items)} items of {count}", where=lanes.name or "columns of lanes")
    seen = np.zeros(count, dtype=np.bool_)
    copies, rows, unit = problem.tasks.microbatches, problem.tasks.rows, np.array(problem.unit, dtype=np.int32)
    for index in range(units):
        lane = lanes.items[lanes.first[index] : lanes.first[index + 1]]
        if len(lane) and (lane.min() < 0 or lane.max() >= count):
            raise ScheduleError(f"lane {index} has an item that does not exist", where=lanes.name or "columns of lanes")
        row = np.where(lane < rows * copies, lane // copies, lane - rows * copies + rows)
        if (unit[row] != index).any():
            raise ScheduleError(f"lane {index} has a task of another unit", where=lanes.name or "columns of lanes")
        seen[lane] = True
    if not seen.all():
        raise ScheduleError("an item is missing from the lanes", where=lanes.name or "columns of lanes")


def _offsets(counts: Sequence[int] | Ticks) -> Ticks:
    first = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(np.asarray(counts, dtype=np.int64), out=first[1:])
    return first


def _flat(rows: list[list[int]]) -> Ticks:
    return np.fromiter(chain.from_iterable(rows), dtype=np.int64)
