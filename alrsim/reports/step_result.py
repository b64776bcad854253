"""A step in time: what simulating or executing a schedule gave, with every number of its timeline by name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

from alrsim.documents import Document, Live
from alrsim.errors import OptionError
from alrsim.files import save_value
from alrsim.reports.bound import Bound, bound_of
from alrsim.schedule.proof import Gap
from alrsim.timeline.memory import memory_by_category, peak_memory, resident_peaks
from alrsim.timeline.metrics import bubble_size, named_shares, rank_span, typed, work
from alrsim.timeline.timeline import MANY_SPANS, Timeline
from alrsim.units import Bytes

Number = int | float
"""A time in the document's time unit: whole where it is, else the nearest float."""


@dataclass(frozen=True)
class Metrics:
    """Bubbles of a timeline, each a share of 1, as :mod:`alrsim.timeline.metrics` defines them."""

    idle_fraction: float
    overhead_ratio: float
    rank_span_bubble: float
    internal_idle: float
    grid_idle: float
    layer_rows_idle: float


@dataclass(frozen=True)
class SpanRow:
    """A task on a unit."""

    task: str
    unit: str
    start: Number
    end: Number


@dataclass(frozen=True)
class TransferRow:
    """A buffer on its way from unit to unit."""

    buffer: str
    source: str
    target: str
    start: Number
    end: Number
    bytes: Bytes


@dataclass(frozen=True)
class StepResult(Document):
    """A simulated or a measured step.

    Attributes:
        name: Of the schedule: its file or its method.
        about: Model and hardware, or the durations.
        time_unit: ``ns``, or ``user``: the unit of the durations.
        bound: Of a prediction: its makespan beside its lower bounds.
        bubble_size: Idle time by unit.
        peak_memory_bytes: By unit; empty for a textbook problem, which has no bytes.
        predicted_peak_memory_bytes: Of a measured run: what was predicted for the same schedule.
        peak_rss_bytes: Of a measured run: resident memory.
        spans_left_out: Number of spans, where there are too many to write down: then spans, transfers and schedule
            are empty.
        timeline: Live: as the engine or the executor gave it.
        predicted: Live: of a measured run, the predicted timeline of the same schedule.
        step: Live: the scheduled step.
    """

    kind: ClassVar[str] = "step"
    version: ClassVar[int] = 2

    name: str
    about: Mapping[str, Any]
    rule: str
    stages: int
    microbatches: int
    forwards_per_step: float
    transfer_semantics: str
    schedule: Mapping[str, str]
    notes: tuple[str, ...]
    source: str
    cost_model: str
    cost_model_error: str
    schedule_digest: str
    time_unit: str
    makespan: Number
    work: Number
    rank_span: Number
    metrics: Metrics
    bubble_size: Mapping[str, Number]
    peak_memory_bytes: Mapping[str, Bytes]
    memory_by_category: Mapping[str, Mapping[str, Bytes]]
    units: tuple[str, ...]
    layer_units: tuple[str, ...]
    bound: Bound | None
    spans: tuple[SpanRow, ...]
    transfers: tuple[TransferRow, ...]
    facts: Mapping[str, Any]
    predicted_peak_memory_bytes: Mapping[str, Bytes] | None = None
    peak_rss_bytes: Mapping[str, Bytes] | None = None
    spans_left_out: int | None = None
    timeline: Live = field(default=None, repr=False, compare=False)
    predicted: Live = field(default=None, repr=False, compare=False)
    step: Live = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        return f"StepResult({self.name}, {self.source}: {self.makespan} {self.time_unit} on {len(self.units)} units)"

    @property
    def exact_makespan(self) -> Fraction:
        """The makespan as an exact rational, in the document's time unit."""
        return typed(self._timeline(), self._timeline().makespan)

    def write(self, path: str | Path) -> None:
        """Write the timeline to a file, to be loaded again.

        Raises:
            OptionError: a result that was read from a file.
            FileError: the file cannot be written.
        """
        save_value("timeline", self._timeline(), Path(path))

    def plot_beside(self, other: "StepResult", *, across_machines: bool = False) -> Any:
        """This timeline above another one, on one time axis.

        Args:
            across_machines: Allow timelines of different machines.

        Raises:
            OptionError: timelines of different machines.

        Returns:
            The matplotlib figure.
        """
        from alrsim.reports.gantt import Panel, gantt_figure

        here, there = self.about.get("hardware"), other.about.get("hardware")
        if here != there and not across_machines:
            raise OptionError(f"one is of {here}, the other of {there}", fixes=[("across_machines", True)])
        panels = [Panel(one.name, one._timeline(), one.source) for one in (self, other)]
        return gantt_figure(panels, self.name)

    def _timeline(self) -> Timeline:
        if self.timeline is None:
            raise OptionError("was read from a file; load its timeline", where=self.name)
        found: Timeline = self.timeline
        return found


def step_result(
    name: str,
    about: Mapping[str, Any],
    step: Any,
    timeline: Timeline,
    *,
    predicted: Timeline | None = None,
    gap: Gap | None = None,
    notes: tuple[str, ...] = (),
    cost_error: str = "",
) -> StepResult:
    """Every number of a timeline, by name.

    Args:
        step: The scheduled step that was carried out.
        predicted: Of a measured run: the prediction of the same schedule.
        gap: Of a prediction: its makespan beside its lower bounds.
        notes: What was changed to fit the schedule to the problem.
        cost_error: What is known of the cost model's error, as words.
    """

    def time(ticks: int) -> Number:
        return number(typed(timeline, ticks))

    measured, has_bytes = timeline.source == "measured", "durations" not in about
    tasks, few = step.summary, timeline.span_count <= MANY_SPANS
    categories = memory_by_category(timeline) if has_bytes else {}
    expected = {} if predicted is None else peak_memory(predicted)
    return StepResult(
        name=name,
        about=about,
        rule=tasks.rule,
        stages=tasks.stages,
        microbatches=tasks.microbatches,
        forwards_per_step=tasks.forwards_per_step,
        transfer_semantics=timeline.facts.transfer_semantics or "",
        schedule=step.lanes,
        notes=(*notes, *tasks.notes),
        source=timeline.source,
        cost_model=timeline.cost_model,
        cost_model_error=cost_error,
        schedule_digest=timeline.schedule_digest,
        time_unit=timeline.time_unit,
        makespan=time(timeline.makespan),
        work=time(work(timeline)),
        rank_span=time(rank_span(timeline)),
        metrics=Metrics(**{name: float(share) for name, share in named_shares(timeline).items()}),
        bubble_size={unit: time(ticks) for unit, ticks in bubble_size(timeline).items()},
        peak_memory_bytes=peak_memory(timeline) if has_bytes else {},
        memory_by_category={unit: {kind.value: n for kind, n in live.items()} for unit, live in categories.items()},
        units=timeline.units,
        layer_units=timeline.layer_units or timeline.units,
        bound=None if gap is None else bound_of(gap, timeline.ticks_per_unit),
        spans=tuple(
            SpanRow(str(one.task), one.unit, time(one.start), time(one.end)) for one in (timeline.spans if few else ())
        ),
        transfers=tuple(
            TransferRow(one.buffer, one.source, one.target, time(one.start), time(one.end), one.bytes)
            for one in (timeline.transfers if few else ())
        ),
        spans_left_out=None if few else timeline.span_count,
        facts=timeline.facts.to_json(),
        predicted_peak_memory_bytes=expected if measured else None,
        peak_rss_bytes=resident_peaks(timeline) if measured else None,
        timeline=timeline,
        predicted=predicted,
        step=step,
    )


def number(value: Fraction) -> Number:
    """An integer where the value is whole, else the nearest float."""
    return value.numerator if value.denominator == 1 else float(value)


@dataclass(frozen=True)
class ScheduleResult(Document):
    """An order of tasks on units, with its predicted time.

    Attributes:
        tasks: Number of tasks.
        digest: Of the order: equal digests are the same schedule.
        makespan_ns: Predicted (in steps on abstract units).
        bound: The makespan beside its lower bounds; ``None`` where fused pairs leave none.
        terms_ns: What the makespan is made of; ``None`` in steps.
        schedule: Lane by unit, as text.
        step: Live: the scheduled step.
    """

    kind: ClassVar[str] = "order"
    version: ClassVar[int] = 2

    model: str
    hardware: str
    method: str
    rule: str
    stages: int
    microbatches: int
    tasks: int
    digest: str
    makespan_ns: int
    bound: Bound | None
    terms_ns: Mapping[str, int] | None
    cost_model: str
    schedule: Mapping[str, str]
    step: Live = field(default=None, repr=False, compare=False)

    def write(self, path: str | Path) -> None:
        """Write the schedule: ``.json`` is alrsim's own form, ``.csv`` PyTorch's.

        Raises:
            OptionError: another ending, or a result that was read from a file.
            FileError: the file cannot be written.
        """
        if self.step is None:
            raise OptionError("was read from a file, which does not hold what it was made for", where=self.method)
        self.step.write(path)


def schedule_result(step: Any) -> ScheduleResult:
    """A scheduled step of a model, as a result."""
    line, found, terms, tasks = step.timeline, step.gap, step.timeline.facts.terms_ns, step.summary
    return ScheduleResult(
        model=step.about["model"],
        hardware=step.about["hardware"],
        method=step.name,
        rule=tasks.rule,
        stages=tasks.stages,
        microbatches=tasks.microbatches,
        tasks=tasks.tasks,
        digest=step.digest,
        makespan_ns=line.makespan,
        bound=None if found is None else bound_of(found),
        terms_ns=None if terms is None else terms.named,
        cost_model=line.cost_model,
        schedule=step.lanes,
        step=step,
    )
