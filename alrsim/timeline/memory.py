"""Live bytes over time, from the lifetimes of buffers under a timeline.

Lifetimes (half open: a buffer that ends when another begins does not count together with it):

- A resident buffer lives on its home unit for the whole step.
- Any other buffer lives on its producer's unit from the start of its producer to the end of the producer, of the
  last reader on that unit and of the last transfer that takes it away, whichever is latest. A buffer without a
  producer is on its home unit from time 0.
- A copy on another unit lives from the *start* of its transfer (a receiver posts its memory before the first byte
  comes) to the end of the last reader there.
- A term of an ordered sum that is ``temp`` lives, on the unit where the sum is taken, until it and all terms of
  smaller rank are in; then it has been added and is gone, whenever the sum is read. The sum itself is another
  buffer: the resident gradient, or the sum's first term, which is not ``temp`` and lives like any other buffer.
- What a task allocates and frees inside itself (``Task.scratch``) lives on its unit from its start to its end.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from alrsim.allocation import collector_paused
from alrsim.tasks.taskgraph import Buffer, Category, TaskGraph
from alrsim.tasks.token import NONE
from alrsim.timeline.timeline import MemPoint, Timeline, TransferSpan
from alrsim.units import Bytes, Ns


@dataclass(frozen=True, slots=True)
class Interval:
    """A buffer on a unit from ``start`` to ``end``; ``end`` is ``None`` for the whole step, ``buffer`` is ``NONE`` for
    a task's scratch."""

    buffer: int
    unit: str
    category: Category
    bytes: Bytes
    start: Ns
    end: Ns | None


@collector_paused()
def memory_points(graph: TaskGraph, timeline: Timeline, homes: Sequence[str]) -> tuple[MemPoint, ...]:
    """Live bytes per unit and category over time.

    Args:
        timeline: Spans and transfers of all tasks of the graph; its own memory is ignored.
        homes: Unit of each stage's resident buffers, the loss module last.

    Returns:
        Points by (time, unit order); every unit has one at time 0.
    """
    changes: dict[str, dict[Ns, dict[Category, Bytes]]] = {unit: {0: {}} for unit in timeline.units}
    for life in lifetimes(graph, timeline, homes):
        if life.bytes and (life.end is None or life.end > life.start):
            at = changes[life.unit]
            _add(at.setdefault(life.start, {}), life.category, life.bytes)
            if life.end is not None:
                _add(at.setdefault(life.end, {}), life.category, -life.bytes)
    points = [point for unit in timeline.units for point in _accumulate(unit, changes[unit])]
    order = {unit: index for index, unit in enumerate(timeline.units)}
    points.sort(key=lambda point: (point.time, order[point.unit]))
    return tuple(points)


def _add(change: dict[Category, Bytes], category: Category, size: Bytes) -> None:
    change[category] = change.get(category, 0) + size


def _accumulate(unit: str, changes: Mapping[Ns, Mapping[Category, Bytes]]) -> Iterator[MemPoint]:
    live: dict[Category, Bytes] = {}
    for time in sorted(changes):
        change = changes[time]
        if time and not any(change.values()):
            continue
        for category, size in change.items():
            _add(live, category, size)
        yield MemPoint(unit, time, {category: size for category, size in live.items() if size})


def lifetimes(graph: TaskGraph, timeline: Timeline, homes: Sequence[str]) -> Iterator[Interval]:
    """Every buffer on every unit that holds it, terms of sums and scratch too. Near-linear in tasks and buffers."""
    stays = _Stays(graph, timeline, homes)
    sums: dict[str, list[int]] = defaultdict(list)
    for index, buffer in enumerate(graph.buffers):
        if buffer.resident:
            yield Interval(index, stays.home(buffer), buffer.category, buffer.bytes, 0, None)
            yield from stays.copies(index)
        elif buffer.accumulator:
            sums[buffer.accumulator].append(index)
        else:
            yield stays.original(index)
            yield from stays.copies(index)
    for terms in sums.values():
        yield from stays.terms(sorted(terms, key=lambda index: graph.buffers[index].rank))
    for task, span in zip(graph.tasks, stays.spans, strict=True):
        if task.scratch:
            yield Interval(NONE, span.unit, Category.TEMP, task.scratch, span.start, span.end)


class _Stays:
    """Looks up where a buffer is made, goes and is read."""

    def __init__(self, graph: TaskGraph, timeline: Timeline, homes: Sequence[str]) -> None:
        self.graph, self.homes = graph, homes
        spans = {span.task: span for span in timeline.spans}
        self.spans = [spans[task.id] for task in graph.tasks]
        names = {buffer.name: index for index, buffer in enumerate(graph.buffers)}
        assert len(names) == len(graph.buffers), "two buffers have the same name"
        self.arrivals: dict[int, dict[str, TransferSpan]] = defaultdict(dict)
        for transfer in timeline.transfers:
            self.arrivals[names[transfer.buffer]][transfer.target] = transfer

    def home(self, buffer: Buffer) -> str:
        return self.homes[buffer.stage] if buffer.producer == NONE else self.spans[buffer.producer].unit

    def made(self, buffer: Buffer) -> tuple[Ns, Ns]:
        """Start and end of the producer."""
        if buffer.producer == NONE:
            return 0, 0
        return self.spans[buffer.producer].start, self.spans[buffer.producer].end

    def read_until(self, buffer: Buffer) -> dict[str, Ns]:
        """End of the last reader on every unit that has one."""
        last: dict[str, Ns] = {}
        for reader in buffer.readers:
            span = self.spans[reader]
            last[span.unit] = max(last.get(span.unit, 0), span.end)
        return last

    def gone(self, index: int) -> Ns:
        """End of the last transfer that takes the buffer away, 0 if there is none."""
        return max((one.end for one in self.arrivals[index].values()), default=0) if index in self.arrivals else 0

    def original(self, index: int) -> Interval:
        """The buffer where it was made."""
        buffer = self.graph.buffers[index]
        unit, (start, made) = self.home(buffer), self.made(buffer)
        end = max(made, self.gone(index), self.read_until(buffer).get(unit, 0))
        return Interval(index, unit, buffer.category, buffer.bytes, start, end)

    def copies(self, index: int) -> Iterator[Interval]:
        """The buffer where it was sent."""
        if index not in self.arrivals:
            return
        buffer = self.graph.buffers[index]
        last = self.read_until(buffer)
        for unit, sent in self.arrivals[index].items():
            yield Interval(index, unit, buffer.category, sent.bytes, sent.start, max(sent.end, last.get(unit, 0)))

    def terms(self, ranked: Sequence[int]) -> Iterator[Interval]:
        """The terms of one sum, which is taken on every unit that reads them, else where each was made."""
        reduced = dict.fromkeys(self._reducing_units(ranked), 0)  # per unit: when the terms so far were all in
        made_so_far = 0
        for index in ranked:
            buffer = self.graph.buffers[index]
            here, (start, made) = self.home(buffer), self.made(buffer)
            copies = self.arrivals.get(index, {})
            made_so_far = max(made_so_far, made)
            for unit in reduced:
                reduced[unit] = max(reduced[unit], copies[unit].end if unit in copies else made)
            if buffer.category is not Category.TEMP:
                yield self.original(index)
                yield from self.copies(index)
                continue
            end = reduced.get(here, made) if reduced else made_so_far
            yield Interval(index, here, buffer.category, buffer.bytes, start, max(end, self.gone(index)))
            for unit, sent in copies.items():
                yield Interval(index, unit, buffer.category, sent.bytes, sent.start, reduced.get(unit, sent.end))

    def _reducing_units(self, ranked: Iterable[int]) -> list[str]:
        readers = {reader for index in ranked for reader in self.graph.buffers[index].readers}
        return sorted({self.spans[reader].unit for reader in readers})


def peak_memory(timeline: Timeline) -> dict[str, Bytes]:
    """Most live bytes per unit over the step."""
    if timeline.peaks is not None:
        return {unit: sum(live.values()) for unit, live in zip(timeline.units, timeline.peaks, strict=True)}
    peaks = dict.fromkeys(timeline.units, 0)
    for point in timeline.memory:
        peaks[point.unit] = max(peaks[point.unit], point.total)
    return peaks


def memory_by_category(timeline: Timeline) -> dict[str, dict[Category, Bytes]]:
    """Live bytes per category at each unit's peak (the first instant of it); they sum to :func:`peak_memory`."""
    if timeline.peaks is not None:
        return {unit: dict(live) for unit, live in zip(timeline.units, timeline.peaks, strict=True)}
    best: dict[str, MemPoint] = {}
    for point in timeline.memory:
        if point.unit not in best or point.total > best[point.unit].total:
            best[point.unit] = point
    return {unit: dict(best[unit].live) if unit in best else {} for unit in timeline.units}


def memory_error(predicted: Timeline, measured: Timeline) -> dict[str, float]:
    """predicted / measured - 1 of every unit's peak; units that held nothing are left out."""
    expected = peak_memory(predicted)
    return {unit: expected[unit] / size - 1 for unit, size in peak_memory(measured).items() if size}


def resident_peaks(timeline: Timeline) -> dict[str, Bytes]:
    """Peak resident memory of the processes that ran a measured timeline. Empty where nothing was measured."""
    return {name: size for name, size in (timeline.facts.peak_rss_bytes or {}).items() if size}
