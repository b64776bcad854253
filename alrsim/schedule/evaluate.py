"""The pure evaluator: when does each task of a schedule start and end, if nothing but lanes is shared?

Longest path over the lowered schedule with `latency` semantics:

    start(i) = max(end of the item before i in its lane,
                   end(j) for every local or plain predecessor j,
                   end(source) + delay for every message that i reads)        end(i) = start(i) + duration(i)

A message without a source leaves at time 0. The simulator must agree exactly wherever no link or core is contended.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from alrsim.compiled import available, machine_code
from alrsim.errors import DeadlockError
from alrsim.schedule.lane_columns import offsets
from alrsim.schedule.lower import Lowered
from alrsim.tasks.token import NONE

Ticks = npt.NDArray[np.int64]

_COMPILE_FROM = 20_000
"""Items from which loading numba pays off; below, the same function runs as plain Python."""


@dataclass(frozen=True, slots=True)
class Arrays:
    """The part of a lowered schedule that stays the same when only the order inside the lanes changes.

    Attributes:
        duration: Ticks per item.
        release: Earliest start per item (messages that are there from the start).
        first: ``after[first[i]:first[i + 1]]`` are the items that wait for item ``i``; length items + 1.
        after: Waiting items.
        delay: Ticks between the end of ``i`` and the earliest start of each.
        waits: Number of such predecessors per item.
    """

    duration: Ticks
    release: Ticks
    first: Ticks
    after: Ticks
    delay: Ticks
    waits: Ticks


def evaluate(lowered: Lowered) -> tuple[Ticks, Ticks]:
    """Start and end of every item, in ticks.

    Raises:
        DeadlockError: the lanes wait for each other (:func:`alrsim.schedule.check.check` names the cycle).
    """
    compiled = len(lowered.duration) >= _COMPILE_FROM or _is_loaded()
    return evaluate_lanes(compile_arrays(lowered), lowered.lanes, compiled=compiled)


def evaluate_lanes(arrays: Arrays, lanes: Sequence[Sequence[int]], *, compiled: bool = True) -> tuple[Ticks, Ticks]:
    """The same for other orders of the same items on the same units, as a search tries them.

    Args:
        compiled: Whether to load numba for it (half a second, once); a single small evaluation does not pay for that.

    Raises:
        DeadlockError: see :func:`evaluate`.
    """
    following = follow(lanes, len(arrays.duration))
    starts, ends, done = run(arrays, following, compiled=compiled)
    if done < len(starts):
        raise DeadlockError(
            f"the lanes wait for each other: {len(starts) - done} of {len(starts)} items can never run",
            where="schedule",
            fix="check(problem, schedule) names the cycle",
        )
    return starts, ends


def run(arrays: Arrays, following: Ticks, *, compiled: bool = True) -> tuple[Ticks, Ticks, int]:
    """The bare kernel: starts, ends, and how many items could run (fewer than all: a deadlock).

    Args:
        following: The next item in the lane, per item; ``NONE`` at the end of a lane.
    """
    starts, ends, waits = arrays.release.copy(), np.zeros_like(arrays.release), arrays.waits.copy()
    queue = np.empty_like(waits)
    table = (arrays.duration, arrays.first, arrays.after, arrays.delay, following, waits)
    if compiled and available():
        return starts, ends, int(_compiled()(*table, starts, ends, queue))
    begins, finishes = starts.tolist(), ends.tolist()
    columns: list[Any] = [column.tolist() for column in table]
    plain: Callable[..., int] = _relax
    done = plain(*columns, begins, finishes, queue.tolist())
    return np.array(begins, dtype=np.int64), np.array(finishes, dtype=np.int64), done


def _is_loaded() -> bool:
    """Whether this process has paid for the compiled kernel already."""
    return _compiled.cache_info().currsize > 0


def compile_arrays(lowered: Lowered) -> Arrays:
    """Flatten a lowered schedule; linear in items, predecessors and message readers."""
    items = len(lowered.duration)
    messages = lowered.messages
    release = [0] * items
    delays = [message.delay for message in messages]
    for message, delay in zip(messages, delays, strict=True):
        if message.source == NONE:
            for reader in message.readers:
                release[reader] = max(release[reader], delay)
    sent = [index for index, message in enumerate(messages) if message.source != NONE]
    fan = np.array([len(messages[index].readers) for index in sent], dtype=np.int64)
    counts = np.fromiter(map(len, lowered.preds), dtype=np.int64, count=items)
    local = np.fromiter(chain.from_iterable(lowered.preds), dtype=np.int64, count=int(counts.sum()))
    remote = np.repeat(np.array([messages[index].source for index in sent], dtype=np.int64), fan)
    source = np.concatenate([local, remote])
    target = np.concatenate(
        [
            np.repeat(np.arange(items, dtype=np.int64), counts),
            np.fromiter(chain.from_iterable(messages[index].readers for index in sent), dtype=np.int64),
        ]
    )
    lag = np.concatenate(
        [np.zeros(len(local), dtype=np.int64), np.repeat(np.array([delays[i] for i in sent], dtype=np.int64), fan)]
    )
    waits = np.bincount(target, minlength=items).astype(np.int64)
    duration, earliest = np.array(lowered.duration, dtype=np.int64), np.array(release, dtype=np.int64)
    return Arrays(duration, earliest, *by_source(source, target, lag, items), waits)


def by_source(source: Ticks, target: Ticks, lag: Ticks, count: int) -> tuple[Ticks, Ticks, Ticks]:
    """Edges by what they come from, in their order: where those of each of ``count`` sources begin, targets, lags."""
    order = np.argsort(source, kind="stable")
    return offsets(np.bincount(source, minlength=count)), target[order], lag[order]


def follow(lanes: Sequence[Sequence[int]], items: int) -> Ticks:
    """The next item in the lane, per item; ``NONE`` at the end of a lane."""
    following = np.full(items, NONE, dtype=np.int64)
    for lane in lanes:
        row = np.asarray(lane, dtype=np.int64)
        following[row[:-1]] = row[1:]
    return following


def _relax(
    duration: Any, first: Any, after: Any, delay: Any, following: Any, waits: Any, starts: Any, ends: Any, queue: Any
) -> int:
    """Kahn's algorithm over ``waits``, relaxing ``starts``; returns how many items ran. Also compiled by numba."""
    items = len(duration)
    for item in range(items):
        if following[item] >= 0:
            waits[following[item]] += 1
    tail = 0
    for item in range(items):
        if waits[item] == 0:
            queue[tail] = item
            tail += 1
    head = 0
    while head < tail:
        item = queue[head]
        head += 1
        end = starts[item] + duration[item]
        ends[item] = end
        for edge in range(first[item], first[item + 1]):
            other = after[edge]
            if end + delay[edge] > starts[other]:
                starts[other] = end + delay[edge]
            waits[other] -= 1
            if waits[other] == 0:
                queue[tail] = other
                tail += 1
        other = following[item]
        if other >= 0:
            if end > starts[other]:
                starts[other] = end
            waits[other] -= 1
            if waits[other] == 0:
                queue[tail] = other
                tail += 1
    return tail


@cache
def _compiled() -> Callable[..., int]:
    """:func:`_relax` in machine code, as one process loads it once."""
    return machine_code(_relax)
