"""The timeline: one type for what was simulated and what was measured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from alrsim.showing import Shown
from alrsim.tasks.taskgraph import Category
from alrsim.tasks.token import TaskId
from alrsim.timeline.facts import Facts
from alrsim.units import Bytes, Ns

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


@dataclass(frozen=True)
class SpanColumns:
    """When units are busy, as columns: the form in which millions of spans fit.

    Attributes:
        first: ``start[first[u]:first[u + 1]]`` belong to unit ``u``; length units + 1.
        start: Ticks, ascending inside a unit. A fused pair of tasks is one entry.
        end: Ticks.
    """

    first: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Timeline(Shown):
    """Spans, transfers and memory of one training step under one schedule.

    A timeline made by :func:`deferred` holds columns, and makes spans, transfers and memory points when they are asked
    for; nothing else tells it from any other.

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
        if self.columns is not None:
            return int(self.columns.end.max(initial=0))
        return max((span.end for span in self.spans), default=0)

    @property
    def columns(self) -> SpanColumns | None:
        """The spans as columns, where it was made from some."""
        columns: SpanColumns | None = self.__dict__.get("_columns")
        return columns

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
    columns: SpanColumns,
    spans: Callable[[Timeline], tuple[Span, ...]],
    transfers: Callable[[Timeline], tuple[TransferSpan, ...]],
    memory: Callable[[Timeline], tuple[MemPoint, ...]],
    **values: Any,
) -> Timeline:
    """A timeline whose objects are made when they are asked for.

    Args:
        columns: What metrics read instead of the spans.
        spans: Makes the spans; it gets the timeline, as ``transfers`` and ``memory`` do.
        values: The other fields.
    """
    timeline = later(Timeline(spans=(), **values), spans=spans, transfers=transfers, memory=memory)
    timeline.__dict__["_columns"] = columns
    return timeline
