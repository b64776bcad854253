"""List scheduling of large problems in machine code: the lanes of :func:`alrsim.schedulers.dispatch.dispatch`, sooner.

One queue per unit, no gate. What the dispatcher compares as tuples is one whole number per task here, its rank among
all tasks by (key, reference index); tasks, inputs and delays are columns. Times are equal, so lanes are equal.
"""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from alrsim.allocation import collector_paused
from alrsim.compiled import machine_code
from alrsim.schedule.evaluate import by_source
from alrsim.schedule.lane_columns import offsets
from alrsim.schedule.lower import Delays
from alrsim.schedulers.placement import Placement
from alrsim.tasks.problem import Problem
from alrsim.tasks.token import NONE

Ints = npt.NDArray[np.int64]

_MOST = float(2**62)


class Inputs(NamedTuple):
    """A problem with its placement as columns.

    Attributes:
        unit: Per task.
        duration: Per task, on its unit.
        release: When what was there from the start has reached the unit.
        first: ``after[first[t]:first[t + 1]]`` are the tasks that wait for task ``t``, ascending.
        after: Waiting tasks.
        lag: Ticks between the end of ``t`` and each of them.
    """

    unit: Ints
    duration: Ints
    release: Ints
    first: Ints
    after: Ints
    lag: Ints


@collector_paused()
def columns_of(problem: Problem, placement: Placement) -> Inputs | None:
    """The columns; ``None`` where times may not fit into 64 bits.

    Raises:
        ScheduleError: data must move where no link is.
    """
    tasks, buffers = problem.tasks.tasks, problem.tasks.buffers
    count = len(tasks)
    stage_unit = np.array(placement, dtype=np.int64)
    unit = stage_unit[np.fromiter((task.id.stage for task in tasks), np.int64, count)]
    try:
        rows = zip(problem.durations, unit.tolist(), strict=True)
        duration = np.fromiter((row[at] for row, at in rows), np.int64, count)
    except OverflowError:
        return None
    reads, reader = _flat([task.reads for task in tasks])
    before, waiting = _flat([task.after for task in tasks])
    producer = np.fromiter((buffer.producer for buffer in buffers), np.int64, len(buffers))
    home = stage_unit[np.fromiter((buffer.stage for buffer in buffers), np.int64, len(buffers))]
    made = producer[reads]
    source = np.where(made == NONE, home[reads], unit[made])
    lag = _lags(problem, reads, source, unit[reader])
    release = np.zeros(count, np.int64)
    there = made == NONE
    np.maximum.at(release, reader[there], lag[there])
    sources = np.concatenate([made[~there], before])
    targets = np.concatenate([reader[~there], waiting])
    lags = np.concatenate([lag[~there], np.zeros(len(before), np.int64)])
    if (
        float(duration.sum(dtype=np.float64)) + float(lags.sum(dtype=np.float64)) + float(release.max(initial=0))
        > _MOST
    ):
        return None
    return Inputs(unit, duration, release, *by_source(sources, targets, lags, count))


def _flat(rows: Sequence[tuple[int, ...]]) -> tuple[Ints, Ints]:
    """All members of the rows, and the row of each."""
    sizes = np.fromiter(map(len, rows), np.int64, len(rows))
    members = np.fromiter(chain.from_iterable(rows), np.int64, int(sizes.sum()))
    return members, np.repeat(np.arange(len(rows), dtype=np.int64), sizes)


def _lags(problem: Problem, buffers: Ints, source: Ints, target: Ints) -> Ints:
    """Ticks that each message travels; those of one size between two units are asked for once."""
    found = np.zeros(len(buffers), np.int64)
    far = np.flatnonzero(source != target)
    if not len(far):
        return found
    sizes = np.fromiter((buffer.bytes for buffer in problem.tasks.buffers), np.int64, len(problem.tasks.buffers))
    delays, units = Delays(problem), len(problem.machine.units)
    _, size_rank = np.unique(sizes, return_inverse=True)
    key = (size_rank[buffers[far]] * units + source[far]) * units + target[far]
    _, example, inverse = np.unique(key, return_index=True, return_inverse=True)
    ways = [delays.between(int(buffers[far[i]]), int(source[far[i]]), int(target[far[i]])) for i in example.tolist()]
    found[far] = np.array(ways, dtype=np.int64)[inverse]
    return found


def path_lengths(inputs: Inputs) -> Ints:
    """Ticks of the longest path from the start of each task to the end of the step, lanes ignored."""
    longest = np.zeros(len(inputs.unit), np.int64)
    _paths(inputs.duration, inputs.first, inputs.after, inputs.lag, longest)
    return longest


def lanes_of(inputs: Inputs, keys: Sequence[Ints], units: int) -> list[list[int]]:
    """Lanes of task indices: each free unit starts the ready task with the smallest key.

    Args:
        keys: Columns of the key, the most significant first; ties go to the earlier task.
    """
    count = len(inputs.unit)
    by_rank = np.lexsort([np.arange(count), *reversed(keys)]).astype(np.int64)
    rank = np.empty(count, np.int64)
    rank[by_rank] = np.arange(count, dtype=np.int64)
    pending = np.bincount(inputs.after, minlength=count).astype(np.int64)
    room = offsets(np.bincount(inputs.unit, minlength=units))
    lanes, filled = np.zeros(count, np.int64), room[:-1].copy()
    _dispatch(
        inputs.unit, inputs.duration, inputs.release.copy(), inputs.first, inputs.after, inputs.lag,
        rank, by_rank, pending, room, lanes, filled,
    )  # fmt: skip
    return [lanes[low:high].tolist() for low, high in zip(room[:-1].tolist(), filled.tolist(), strict=True)]


@machine_code
def _paths(duration: Ints, first: Ints, after: Ints, lag: Ints, longest: Ints) -> None:
    for back in range(len(duration)):
        task = len(duration) - 1 - back
        rest = 0
        for edge in range(first[task], first[task + 1]):
            rest = max(rest, lag[edge] + longest[after[edge]])
        longest[task] = duration[task] + rest


@machine_code
def _dispatch(
    unit: Ints,
    duration: Ints,
    earliest: Ints,
    first: Ints,
    after: Ints,
    lag: Ints,
    rank: Ints,
    by_rank: Ints,
    pending: Ints,
    room: Ints,
    lanes: Ints,
    filled: Ints,
) -> None:
    """Events are ends (``task``) and arrivals (``task + count``); units that an instant touches start at its end."""
    count, units = len(unit), len(room) - 1
    times, events, waiting = np.empty(2 * count + 1, np.int64), np.empty(2 * count + 1, np.int64), 0
    ready, sizes = np.empty(count, np.int64), np.zeros(units, np.int64)
    busy, touched = np.zeros(units, np.bool_), np.zeros(units, np.bool_)
    for task in range(count):
        if pending[task] == 0:
            waiting = _push(times, events, waiting, earliest[task], task + count)
    while waiting:
        now = times[0]
        while waiting and times[0] == now:
            event = events[0]
            waiting = _pop(times, events, waiting)
            if event >= count:
                at = unit[event - count]
                touched[at] = True
                sizes[at] = _rise(ready, room[at], sizes[at], rank[event - count])
                continue
            touched[unit[event]] = True
            busy[unit[event]] = False
            for edge in range(first[event], first[event + 1]):
                other = after[edge]
                earliest[other] = max(earliest[other], now + lag[edge])
                pending[other] -= 1
                if pending[other] == 0:
                    waiting = _push(times, events, waiting, earliest[other], other + count)
        for at in range(units):
            if touched[at]:
                touched[at] = False
                if not busy[at] and sizes[at]:
                    task = by_rank[ready[room[at]]]
                    sizes[at] = _sink(ready, room[at], sizes[at])
                    busy[at] = True
                    lanes[filled[at]] = task
                    filled[at] += 1
                    waiting = _push(times, events, waiting, now + duration[task], task)


@machine_code
def _push(times: Ints, events: Ints, size: int, time: int, event: int) -> int:
    """Into the heap of events; returns its new size."""
    place = size
    while place and times[(place - 1) // 2] > time:
        times[place], events[place] = times[(place - 1) // 2], events[(place - 1) // 2]
        place = (place - 1) // 2
    times[place], events[place] = time, event
    return size + 1


@machine_code
def _pop(times: Ints, events: Ints, size: int) -> int:
    """Drop the earliest event."""
    size -= 1
    time, event, place = times[size], events[size], 0
    while 2 * place + 1 < size:
        child = 2 * place + 1
        if child + 1 < size and times[child + 1] < times[child]:
            child += 1
        if times[child] >= time:
            break
        times[place], events[place] = times[child], events[child]
        place = child
    times[place], events[place] = time, event
    return size


@machine_code
def _rise(heap: Ints, base: int, size: int, value: int) -> int:
    """Into a unit's heap of ready ranks; returns its new size."""
    place = size
    while place and heap[base + (place - 1) // 2] > value:
        heap[base + place] = heap[base + (place - 1) // 2]
        place = (place - 1) // 2
    heap[base + place] = value
    return size + 1


@machine_code
def _sink(heap: Ints, base: int, size: int) -> int:
    """Drop the smallest rank."""
    size -= 1
    value, place = heap[base + size], 0
    while 2 * place + 1 < size:
        child = 2 * place + 1
        if child + 1 < size and heap[base + child + 1] < heap[base + child]:
            child += 1
        if heap[base + child] >= value:
            break
        heap[base + place] = heap[base + child]
        place = child
    heap[base + place] = value
    return size
