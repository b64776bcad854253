"""The timeline: one type for what was simulated and what was measured."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from alrsim.tasks.taskgraph import Category
from alrsim.tasks.token import TaskId
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
class Timeline:
    """Spans, transfers and memory of one training step under one schedule.

    Attributes:
        source: ``simulated`` or ``measured``.
        schedule_digest: Of the schedule that was carried out; two timelines are compared only if it is equal.
        units: Unit names in machine order.
        spans: Sorted by (start, unit order, end).
        cost_model: What made the durations of a simulated timeline (``roofline``, ``measured``, ``durations``...).
        layer_units: Units that run at least one layer stage; the others only run the loss module.
        time_unit: ``ns`` or ``user``.
        ticks_per_unit: Divide ticks by this for the typed unit.
        facts: Of a measured run: device, torch version, threads, repeats, seed, flags...
    """

    source: Source
    schedule_digest: str
    units: tuple[str, ...]
    spans: tuple[Span, ...]
    transfers: tuple[TransferSpan, ...] = ()
    memory: tuple[MemPoint, ...] = ()
    cost_model: str = ""
    layer_units: tuple[str, ...] = ()
    time_unit: str = "ns"
    ticks_per_unit: int = 1
    facts: Mapping[str, str | int | float | bool | tuple[str, ...]] = field(default_factory=dict)

    @property
    def makespan(self) -> Ns:
        """End of the last span (a step starts at 0)."""
        return max((span.end for span in self.spans), default=0)
