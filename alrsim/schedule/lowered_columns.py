"""A step of equal micro-batches with its lanes, lowered to columns without writing it out."""

from dataclasses import dataclass

import numpy as np

from alrsim.errors import ScheduleError
from alrsim.schedule.lane_columns import Columns, Index, Ticks, assemble
from alrsim.schedule.lower import Wire
from alrsim.tasks.problem import Semantics
from alrsim.tasks.repeated import RepeatedProblem
from alrsim.tasks.token import NONE


@dataclass(frozen=True)
class LaneColumns:
    """One lane per unit as columns: ``items[first[u]:first[u + 1]]``, numbered as in :class:`RepeatedProblem`."""

    first: Ticks
    items: Index
    name: str = ""


@dataclass(frozen=True, order=True, slots=True)
class Crossing:
    """A buffer of one micro-batch that is read on another unit than its own. They are numbered in ascending order.

    Attributes:
        source: Row that makes it, ``NONE`` if it is there from the start.
    """

    source: int
    target: int
    buffer: int


def crossings(problem: RepeatedProblem) -> list[Crossing]:
    """Messages of one micro-batch: one for each buffer and unit that reads it elsewhere.

    Raises:
        ScheduleError: something that is there once (an update, a parameter) is needed on another unit.
    """
    found: set[Crossing] = set()
    for row, task in enumerate(problem.graph.tasks):
        for index in task.reads:
            if problem.home(index) != problem.unit[row]:
                buffer = problem.graph.buffers[index]
                if buffer.resident or row >= problem.rows:
                    raise ScheduleError(
                        f"{task.id} reads {buffer.name} from another unit, and one of both is there once in a step"
                    )
                found.add(Crossing(buffer.producer, problem.unit[row], index))
    return sorted(found)


def lower_columns(problem: RepeatedProblem, lanes: LaneColumns, semantics: Semantics) -> Columns:
    """A step of equal micro-batches with its lanes, without writing it out.

    Raises:
        ScheduleError: data must move between units that no link joins; something that is there once is needed on
            another unit; the lanes do not hold every item once, on its stage's unit.
    """
    _check_lanes(problem, lanes)
    graph, unit, rows, copies = problem.graph, problem.unit, problem.rows, problem.microbatches
    crossed, wire = crossings(problem), Wire(problem.one)
    number = {(one.buffer, one.target): position for position, one in enumerate(crossed)}
    needs: list[list[int]] = []
    lags: list[list[int]] = []
    gathers: list[list[int]] = []
    for row, task in enumerate(graph.tasks):
        local, need, lag = {*task.after}, list[int](), list[int]()
        for index in task.reads:
            producer, home = graph.buffers[index].producer, problem.home(index)
            if home == unit[row]:
                local.update([producer] if producer != NONE else [])
            elif semantics == "latency" and producer != NONE:  # waits for the source and the way
                need.append(producer)
                lag.append(wire.delays.between(index, home, unit[row]))
            else:
                need.append(-1 - number[index, unit[row]])
                lag.append(0)
        if row >= rows:
            gathers.append(sorted(local))
        else:
            needs.append([*sorted(local), *need])
            lags.append([0] * len(local) + lag)
    for one in crossed:
        wire.message(one.source, problem.home(one.buffer), one.target, one.buffer)
    ways = wire.messages
    early = [(crossed[m].target, copy, m) for m, way in enumerate(ways) if way.source == NONE for copy in range(copies)]
    return assemble(
        copies,
        rows,
        unit,
        problem.duration,
        needs,
        lags,
        gathers,
        ways,
        [message * copies + copy for _, copy, message in sorted(early)],
        len(wire.channels),
        semantics,
        lanes.first,
        lanes.items,
    )


def _check_lanes(problem: RepeatedProblem, lanes: LaneColumns) -> None:
    """Every item once, on the unit of its stage."""
    count, units, where = len(problem), len(problem.one.machine.units), lanes.name or "columns of lanes"
    if len(lanes.first) != units + 1 or len(lanes.items) != count or lanes.first[-1] != count:
        raise ScheduleError(f"lanes hold {len(lanes.items)} items of {count}", where=where)
    seen = np.zeros(count, dtype=np.bool_)
    unit = np.array(problem.unit, dtype=np.int32)
    for index in range(units):
        lane = lanes.items[lanes.first[index] : lanes.first[index + 1]]
        if len(lane) and (lane.min() < 0 or lane.max() >= count):
            raise ScheduleError(f"lane {index} has an item that does not exist", where=where)
        if (unit[row_of(problem, lane)] != index).any():
            raise ScheduleError(f"lane {index} has a task of another unit", where=where)
        seen[lane] = True
    if not seen.all():
        raise ScheduleError("an item is missing from the lanes", where=where)


def row_of(problem: RepeatedProblem, items: Index) -> Index:
    """The row of every item."""
    copies, rows = np.int32(problem.microbatches), np.int32(problem.rows)
    split = np.int32(problem.rows * problem.microbatches)
    return np.where(items < split, items // copies, items - split + rows)
