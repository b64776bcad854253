"""The timeline: one type for what was simulated and what was measured."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from alrsim.showing import Shown
from alrsim.tasks.taskgraph import Category
from alrsim.tasks.token import TaskId
from alrsim.timeline.facts import Facts
from alrsim.units import Bytes, Ns

Ticks = npt.NDArray[np.int64]
Source = Literal["simulated", "measured"]


@dataclass(frozen=True, slots=True)
class Span:
    """A task on a unit from ``start`` to ``end`` (ticks: ns, or fractions of the typed unit)."""

    task: TaskId
    unit: str
    start: Ns
    end: Ns


@dataclass(frozen=True, slots=True)
class TransferSpan:
    """A buffer on its way: ``start`` when it begins to occupy the link, ``end`` when the receiver has it."""

    buffer: str
    source: str
    target: str
    start: Ns
    end: Ns
    bytes: Bytes


@dataclass(frozen=True, slots=True)
class MemPoint:
    """Live bytes on a unit from ``time`` until its next point. Categories that are zero may be left out."""

    unit: str
    time: Ns
    live: Mapping[Category, Bytes]

    @property
    def total(self) -> Bytes:
        return sum(self.live.values())


MANY_SPANS = 1_000_000
"""Spans above which documents and charts leave them out, and say how many there are."""


@dataclass(frozen=True, slots=True)
class Occupancy:
    """What metrics read where spans have not been made, per unit in machine order.

    Attributes:
        spans: How many there are.
        busy: Ticks in which a unit runs a task; a fused pair counts once.
        extent: Ticks from the first start to the last end; 0 for a unit without tasks.
        end: Of the last span.
    """

    spans: int
    busy: tuple[Ns, ...]
    extent: tuple[Ns, ...]
    end: Ns


def occupancy_of(spans: int, lanes: Iterable[tuple[Ticks, Ticks]]) -> Occupancy:
    """Of units whose spans are columns.

    Args:
        lanes: Starts and ends of each unit, in the order of its lane.
    """
    busy, extent, last = [], [], 0
    for start, end in lanes:
        if not len(start):
            busy.append(0)
            extent.append(0)
            continue
        latest = np.maximum.accumulate(end)
        added = end - start
        added[1:] = np.maximum(end[1:] - np.maximum(start[1:], latest[:-1]), 0)
        busy.append(int(added.sum()))
        extent.append(int(latest[-1] - start[0]))
        last = max(last, int(latest[-1]))
    return Occupancy(spans, tuple(busy), tuple(extent), last)


@dataclass(frozen=True, repr=False)
class Timeline(Shown):
    """Spans, transfers and memory of one training step under one schedule.

    A timeline made by :func:`deferred` makes spans, transfers and memory points when they are asked for; nothing else
    tells it from any other.

    Attributes:
        source: ``simulated`` or ``measured``.
        schedule_digest: Of the schedule that was carried out; two timelines are compared only if it is equal.
        units: Unit names in machine order.
        spans: Sorted by (start, unit order, end).
        cost_model: What made the durations of a simulated timeline (``roofline``, ``measured``, ``durations``...).
        layer_units: Units that run at least one layer stage; the others only run the loss module.
        time_unit: ``ns`` or ``user``.
        ticks_per_unit: Divide ticks by this for the typed unit.
        facts: How it came about.
    """

    kind: ClassVar[str] = "timeline"

    source: Source
    schedule_digest: str
    units: tuple[str, ...]
    spans: tuple[Span, ...]
    transfers: tuple[TransferSpan, ...] = field(default_factory=tuple)
    memory: tuple[MemPoint, ...] = field(default_factory=tuple)
    cost_model: str = ""
    layer_units: tuple[str, ...] = ()
    time_unit: str = "ns"
    ticks_per_unit: int = 1
    facts: Facts = field(default_factory=Facts)

    @property
    def makespan(self) -> Ns:
        """End of the last span (a step starts at 0)."""
        if self.occupancy is not None:
            return self.occupancy.end
        return max((span.end for span in self.spans), default=0)

    @property
    def occupancy(self) -> Occupancy | None:
        """What metrics read instead of the spans, where those are made when they are asked for."""
        found: Occupancy | None = self.__dict__.get("_occupancy")
        return found

    @property
    def span_count(self) -> int:
        """How many spans there are, without making them."""
        return len(self.spans) if self.occupancy is None else self.occupancy.spans

    @cached_property
    def peaks(self) -> tuple[Mapping[Category, Bytes], ...] | None:
        """Live bytes at each unit's peak, where they are computed without making memory points."""
        make: Callable[[], tuple[Mapping[Category, Bytes], ...]] | None = self.__dict__.get("_peaks")
        return None if make is None else make()

    def __repr__(self) -> str:
        return f"Timeline({self.source}, {len(self.units)} units, {self.span_count:,} spans, makespan {self.makespan})"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Called for what has not been made yet."""
            make = self.__dict__.get("_makers", {}).get(name)
            if make is None:
                raise AttributeError(f"a timeline has no {name}")
            value = self.__dict__[name] = make(self)
            return value

    def __getstate__(self) -> dict[str, Any]:
        """Everything made, for a copy or another process."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


def later(timeline: Timeline, **makers: Callable[[Timeline], Any]) -> Timeline:
    """The same timeline, some fields of which are made when they are asked for.

    Args:
        makers: By field: what makes it; it gets the timeline.
    """
    for name in makers:
        timeline.__dict__.pop(name, None)
    timeline.__dict__["_makers"] = {**timeline.__dict__.get("_makers", {}), **makers}
    return timeline


def deferred(
    occupancy: Occupancy,
    spans: Callable[[Timeline], tuple[Span, ...]],
    transfers: Callable[[Timeline], tuple[TransferSpan, ...]],
    memory: Callable[[Timeline], tuple[MemPoint, ...]],
    *,
    peaks: Callable[[], tuple[Mapping[Category, Bytes], ...]] | None = None,
    **values: Any,
) -> Timeline:
    """A timeline whose objects are made when they are asked for.

    Args:
        occupancy: What metrics read instead of the spans.
        spans: Makes the spans; it gets the timeline, as ``transfers`` and ``memory`` do.
        peaks: Makes :attr:`Timeline.peaks`.
        values: The other fields.
    """
    timeline = later(Timeline(spans=(), **values), spans=spans, transfers=transfers, memory=memory)
    timeline.__dict__.update(_occupancy=occupancy, _peaks=peaks)
    return timeline
