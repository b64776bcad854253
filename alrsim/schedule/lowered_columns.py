"""A step of equal micro-batches with its lanes, lowered to columns without writing it out."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from alrsim.errors import OptionError, ScheduleError
from alrsim.hardware.machine import Link, Machine
from alrsim.schedule.lane_columns import MAX_ITEMS, Columns, Index, Ticks, Way, assemble
from alrsim.tasks.problem import Semantics
from alrsim.tasks.task_columns import TaskColumns
from alrsim.tasks.token import NONE


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
    def unit(self) -> list[int]:
        """Unit per row."""
        return [self.units[task.id.stage] for task in self.tasks.template.tasks]


@dataclass(frozen=True)
class LaneColumns:
    """One lane per unit as columns: ``items[first[u]:first[u + 1]]``; items as :class:`TaskColumns` numbers them."""

    first: Ticks
    items: Index
    name: str = ""


def lower_columns(problem: ColumnProblem, lanes: LaneColumns, semantics: Semantics) -> Columns:
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
    return assemble(
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
    link, units = problem.machine.link(source, target), problem.machine.units
    if link is None:
        raise ScheduleError(
            f"{problem.tasks.template.buffers[buffer].name} must move from {units[source].name} to "
            f"{units[target].name}, which no link joins",
            where=problem.machine.name,
            fix="add the link to the machine or place the stages on the same unit",
        )
    size = problem.tasks.template.buffers[buffer].bytes
    return link, link.delay_ns(size)


class _Wires:
    """Messages of one micro-batch: one for each buffer and unit that reads it elsewhere."""

    def __init__(self, problem: ColumnProblem, unit: list[int], semantics: Semantics) -> None:
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
