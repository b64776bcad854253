"""Peaks of live bytes of a step of equal micro-batches, from columns of times.

The lifetimes are those of :mod:`alrsim.timeline.memory`; here every buffer of the one micro-batch has an array of
starts and one of ends, with an entry per micro-batch.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from alrsim.schedule.lane_columns import Ticks
from alrsim.schedule.lowered_columns import crossings
from alrsim.simulation.machine.tables import Marks
from alrsim.tasks.repeated import RepeatedProblem
from alrsim.tasks.taskgraph import Buffer, Category
from alrsim.tasks.token import NONE
from alrsim.units import Bytes


@dataclass(frozen=True, slots=True)
class _Lives:
    """So many bytes on a unit from each start to its end."""

    category: Category
    bytes: Bytes
    start: Ticks
    end: Ticks


def peak_bytes(problem: RepeatedProblem, marks: Marks) -> tuple[Mapping[Category, Bytes], ...]:
    """Live bytes per category at each unit's peak (its first instant), as
    :func:`alrsim.timeline.memory.memory_by_category` has them of a timeline with spans.

    Args:
        marks: Times of all items and messages.
    """
    lives = _Lifetimes(problem, marks)
    units = range(len(problem.one.machine.units))
    return tuple(_peak(lives.resident[unit], [one for one in lives.on(unit) if one.bytes]) for unit in units)


def _peak(resident: Mapping[Category, Bytes], lives: list[_Lives]) -> Mapping[Category, Bytes]:
    moment, best = 0, 0
    if lives:
        times = np.concatenate([side for one in lives for side in (one.start, one.end)])
        sizes = [size for one in lives for size in (one.bytes, -one.bytes)]
        changes = np.repeat(sizes, [len(side) for one in lives for side in (one.start, one.end)])
        order = np.argsort(times, kind="stable")  # every array ascends already, or nearly: merging is fast
        times, live = times[order], np.cumsum(changes[order])
        last = np.flatnonzero(np.append(times[1:] != times[:-1], True))  # what changes at one instant changes together
        at = last[np.argmax(live[last])]
        start = int(live[last[0]]) if times[0] == 0 else 0
        moment, best = int(times[at]), int(live[at])
        if best <= start:
            moment = 0
    found = dict(resident)
    for one in lives:
        count = int(np.sum((one.start <= moment) & (moment < one.end)))
        found[one.category] = found.get(one.category, 0) + count * one.bytes
    return {category: size for category, size in found.items() if size}


class _Lifetimes:
    """Who lives where; arrays are made unit by unit."""

    def __init__(self, problem: RepeatedProblem, marks: Marks) -> None:
        self._problem = problem
        self._ends: Ticks = marks.ends
        self._left: Ticks = marks.sent
        self._there: Ticks = marks.arrived
        units = len(problem.one.machine.units)
        self.resident: list[dict[Category, Bytes]] = [{} for _ in range(units)]
        self._plain: list[list[int]] = [[] for _ in range(units)]  # buffers that live on a unit
        self._sums: list[dict[str, None]] = [{} for _ in range(units)]  # sums with a term that does
        self._terms: dict[str, list[int]] = defaultdict(list)
        self._sent: dict[int, list[tuple[int, int]]] = defaultdict(list)  # by buffer: target unit and message
        self._scratch: list[list[int]] = [[] for _ in range(units)]  # rows
        for row, task in enumerate(problem.graph.tasks):
            if task.scratch:
                self._scratch[problem.unit[row]].append(row)
        for number, one in enumerate(crossings(problem)):
            self._sent[one.buffer].append((one.target, number))
        for index, buffer in enumerate(problem.graph.buffers):
            here = problem.home(index)
            if buffer.resident:
                live = self.resident[here]
                live[buffer.category] = live.get(buffer.category, 0) + buffer.bytes
                continue
            for unit in {here, *(target for target, _ in self._sent.get(index, ()))}:
                if buffer.accumulator:
                    self._sums[unit][buffer.accumulator] = None
                else:
                    self._plain[unit].append(index)
            if buffer.accumulator:
                self._terms[buffer.accumulator].append(index)

    def on(self, unit: int) -> Iterator[_Lives]:
        """Everything that lives on a unit for a while."""
        for index in self._plain[unit]:
            yield from self._buffer(index, unit)
        for name in self._sums[unit]:
            yield from self._sum(sorted(self._terms[name], key=lambda i: self._problem.graph.buffers[i].rank), unit)
        for row in self._scratch[unit]:
            size = self._problem.graph.tasks[row].scratch
            yield _Lives(Category.TEMP, size, self._start(row), self._end(row))

    def _end(self, row: int) -> Ticks:
        """End of a row in every micro-batch; one number where it is there once."""
        copies, rows = self._problem.microbatches, self._problem.rows
        if row < rows:
            return self._ends[row * copies : (row + 1) * copies]
        item = rows * copies + row - rows
        return self._ends[item : item + 1]

    def _start(self, row: int) -> Ticks:
        start: Ticks = self._end(row) - self._problem.duration[row]
        return start

    def _made(self, buffer: Buffer) -> Ticks:
        copies = self._problem.microbatches
        return np.zeros(copies, dtype=np.int64) if buffer.producer == NONE else self._end(buffer.producer)

    def _arrived(self, message: int) -> Ticks:
        copies = self._problem.microbatches
        return self._there[message * copies : (message + 1) * copies]

    def _read_until(self, buffer: Buffer, unit: int, at_least: Ticks) -> Ticks:
        for reader in buffer.readers:
            if self._problem.unit[reader] == unit:
                at_least = np.maximum(at_least, self._end(reader))
        return at_least

    def _gone(self, index: int, at_least: Ticks) -> Ticks:
        """When the last message has taken a buffer away."""
        for _, message in self._sent.get(index, ()):
            at_least = np.maximum(at_least, self._arrived(message))
        return at_least

    def _begun(self, buffer: Buffer) -> Ticks:
        return self._made(buffer) if buffer.producer == NONE else self._start(buffer.producer)

    def _buffer(self, index: int, unit: int) -> Iterator[_Lives]:
        """The original where it was made, a copy where it was sent."""
        buffer = self._problem.graph.buffers[index]
        if unit == self._problem.home(index):
            end = self._read_until(buffer, unit, self._gone(index, self._made(buffer)))
            yield _Lives(buffer.category, buffer.bytes, self._begun(buffer), end)
        for target, message in self._sent.get(index, ()):
            if target == unit:
                yield self._copy(buffer, message, self._read_until(buffer, unit, self._arrived(message)))

    def _copy(self, buffer: Buffer, message: int, end: Ticks) -> _Lives:
        copies = self._problem.microbatches
        return _Lives(buffer.category, buffer.bytes, self._left[message * copies : (message + 1) * copies], end)

    def _sum(self, ranked: list[int], unit: int) -> Iterator[_Lives]:
        """The terms of one sum on a unit; a ``temp`` term waits where the sum is taken until all before it are in."""
        buffers, readers = self._problem.graph.buffers, self._problem.unit
        reduced = self._reduced(ranked, unit)
        taken = {readers[reader] for index in ranked for reader in buffers[index].readers}
        for position, index in enumerate(ranked):
            buffer = buffers[index]
            if buffer.category is not Category.TEMP:
                yield from self._buffer(index, unit)
                continue
            waits = reduced[position] if unit in taken or not taken else None
            if unit == self._problem.home(index):
                made = self._made(buffer)
                yield _Lives(
                    buffer.category,
                    buffer.bytes,
                    self._begun(buffer),
                    self._gone(index, made if waits is None else np.maximum(made, waits)),
                )
            for target, message in self._sent.get(index, ()):
                if target == unit:
                    yield self._copy(buffer, message, self._arrived(message) if waits is None else waits)

    def _reduced(self, ranked: list[int], unit: int) -> list[Ticks]:
        """Per term: when it and all terms before it are on a unit, or made, if they are not sent there."""
        there = []
        for index in ranked:
            made = self._made(self._problem.graph.buffers[index])
            sent = next((message for target, message in self._sent.get(index, ()) if target == unit), None)
            there.append(made if sent is None else self._arrived(sent))
        table = np.stack(there, axis=1)
        if self._problem.graph.buffers[ranked[0]].accumulator.endswith(":grad"):  # one sum over all micro-batches
            table = np.maximum.accumulate(table.ravel()).reshape(table.shape)
        else:
            table = np.maximum.accumulate(table, axis=1)
        return list(table.T)
