"""The result of ``alrsim compare``: what the table shows and what ``result.json`` holds."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from alrsim.documents import Document, Live
from alrsim.errors import OptionError
from alrsim.options import choose
from alrsim.reports.bound import Bound
from alrsim.units import Bytes, Ns, format_bytes


@dataclass(frozen=True)
class Shortage:
    """A unit whose memory is too small.

    Attributes:
        need_bytes: Peak live bytes.
        capacity_bytes: What the unit has.
        short_bytes: The difference.
    """

    unit: str
    need_bytes: Bytes
    capacity_bytes: Bytes
    short_bytes: Bytes

    def __str__(self) -> str:
        need, has, short = map(format_bytes, (self.need_bytes, self.capacity_bytes, self.short_bytes))
        return f"unit {self.unit} needs {need}, has {has}; short by {short}"


@dataclass(frozen=True)
class MeasuredResult:
    """What running the schedule gave.

    Attributes:
        makespan_ns: Median over the repeats.
        spread: (slowest - fastest) / median.
        makespan_error: predicted / measured - 1: negative means that the prediction was too fast.
        speedup: Over the first method of the comparison, both measured.
        peak_memory_bytes: Most live tensor bytes by unit.
        peak_memory_error: predicted / measured - 1 of that, by unit (of units that hold anything).
        peak_rss_bytes: Most resident memory of the processes, Python and torch included: ``process``, or by unit.
        flags: What makes the number less than trustworthy: units > cores, tasks too short...
        executor: What ran it.
    """

    makespan_ns: Ns
    repeats: int
    spread: float
    makespan_error: float
    speedup: float
    peak_memory_bytes: Mapping[str, Bytes]
    flags: tuple[str, ...] = ()
    peak_memory_error: Mapping[str, float] = field(default_factory=dict)
    peak_rss_bytes: Mapping[str, Bytes] = field(default_factory=dict)
    executor: str = ""


@dataclass(frozen=True)
class MethodResult:
    """One method of a comparison. Every share is a fraction of 1.

    Attributes:
        method: ``rule:scheduler``.
        schedule: Lane by unit, as text.
        speedup: Over the first method of the comparison.
        idle_fraction, overhead_ratio, rank_span_bubble, internal_idle, grid_idle, layer_rows_idle: Bubbles, as
            :mod:`alrsim.timeline.metrics` defines them.
        bubble_size_ns: Idle time, mean over the units.
        forwards_per_step: Full-forward equivalents per sample and step.
        peak_memory_bytes: By unit.
        memory_by_category: By unit and category at the moment of that unit's peak, so that they add up to it.
        shortages: Units whose memory is too small.
        notes: Choices of the rule and of the scheduler that the reader should know.
        bound: The predicted makespan beside its lower bounds; ``None`` where fused pairs leave none.
        terms_ns: What the predicted makespan is made of; ``None`` in steps.
        step: Live: the scheduled step.
        measured_timeline: Live: of the measured run.
    """

    method: str
    schedule: Mapping[str, str]
    makespan_ns: Ns
    speedup: float
    idle_fraction: float
    overhead_ratio: float
    rank_span_bubble: float
    internal_idle: float
    grid_idle: float
    layer_rows_idle: float
    bubble_size_ns: Ns
    forwards_per_step: float
    peak_memory_bytes: Mapping[str, Bytes]
    memory_by_category: Mapping[str, Mapping[str, Bytes]]
    shortages: tuple[Shortage, ...] = ()
    notes: tuple[str, ...] = ()
    bound: Bound | None = None
    terms_ns: Mapping[str, Ns] | None = None
    measured: MeasuredResult | None = None
    step: Live = field(default=None, repr=False, compare=False)
    measured_timeline: Live = field(default=None, repr=False, compare=False)

    @property
    def makespan(self) -> Ns:
        """Predicted time of the step, in ns (in steps on abstract units)."""
        return self.makespan_ns

    @property
    def timeline(self) -> Any:
        """The predicted timeline; a result that was read from a file has none.

        Raises:
            OptionError: as said.
        """
        if self.step is None:
            raise OptionError("was read from a file, which holds no timeline", where=self.method)
        return self.step.timeline

    @property
    def bubbles(self) -> dict[str, float]:
        """Every named bubble."""
        return {name: getattr(self, name) for name in BUBBLES}


BUBBLES = (
    "idle_fraction",
    "overhead_ratio",
    "rank_span_bubble",
    "internal_idle",
    "grid_idle",
    "layer_rows_idle",
    "bubble_size_ns",
)


@dataclass(frozen=True)
class CompareResult(Document):
    """A comparison of methods on one model and machine.

    Attributes:
        cost_model: What made the predicted durations.
        cost_model_error: Known relative error of that cost model, as words; empty if unknown.
        time_unit: ``ns``, or ``user``: every time is in steps (abstract units).
        warnings: Of the model's import.
        methods: The first one is what the others are compared with.
    """

    kind: ClassVar[str] = "compare"
    version: ClassVar[int] = 2

    model: str
    hardware: str
    units: int
    microbatches: int
    copies: int
    cost_model: str
    cost_model_error: str
    time_unit: str
    warnings: tuple[str, ...]
    methods: tuple[MethodResult, ...]

    def __getitem__(self, key: str | int) -> MethodResult:
        """A method by its name or its place.

        Raises:
            OptionError: no such method in the comparison.
        """
        if isinstance(key, int):
            return self.methods[key]
        names = [method.method for method in self.methods]
        return self.methods[names.index(choose(key, names, what="method of this comparison"))]

    def __iter__(self) -> Iterator[MethodResult]:
        return iter(self.methods)

    def __len__(self) -> int:
        return len(self.methods)

    def __repr__(self) -> str:
        rows = ", ".join(f"{method.method} {method.makespan_ns}" for method in self.methods)
        return f"CompareResult({self.model} on {self.units} units of {self.hardware}: {rows} {self.time_unit})"

    def verdict(self) -> str:
        """One honest sentence or two: which method wins, by how much, and where BP is the better one."""
        return verdict(self)


def verdict(result: CompareResult) -> str:
    """One honest sentence or two: which method wins, by how much, and where BP is the better one.

    Measured times decide where there are any. A tie within 1 % is called a tie.
    """
    measured = all(method.measured is not None for method in result.methods)
    times = {m.method: float(m.measured.makespan_ns if m.measured else m.makespan_ns) for m in result.methods}
    if not measured:
        times = {m.method: float(m.makespan_ns) for m in result.methods}
    word = "measured" if measured else "predicted"
    ranked = sorted(times, key=lambda name: times[name])
    sentences = [f"Fastest ({word}): {ranked[0]}" + _margin(ranked, times) + "."]
    bp, lr = _best(ranked, ("bp",)), _best(ranked, ("lr", "alr"))
    if bp and lr:
        ratio = times[bp] / times[lr]
        if abs(ratio - 1) < 0.01:
            sentences.append(f"The best BP ({bp}) and the best LR method ({lr}) tie within 1 %.")
        elif ratio < 1:
            sentences.append(f"BP wins: {bp} is {1 / ratio:.2f}x faster than the best LR method ({lr}).")
        else:
            sentences.append(f"LR wins: {lr} is {ratio:.2f}x faster than the best BP ({bp}).")
        sentences.append(_work_caveat(result, bp, lr))
        sentences.append(_memory_sentence(result, bp))
    busy = [m.method for m in result.methods if m.measured and any("host busy" in flag for flag in m.measured.flags)]
    if busy:
        sentences.append(
            f"Other programs kept the host busy during {', '.join(busy)}: repeat on an idle host before trusting the "
            "measured times."
        )
    return "\n".join(filter(None, sentences))


def _margin(ranked: list[str], times: Mapping[str, float]) -> str:
    if len(ranked) < 2 or not times[ranked[0]]:
        return ""
    return f", {times[ranked[1]] / times[ranked[0]]:.2f}x faster than the next ({ranked[1]})"


def _best(ranked: list[str], rules: tuple[str, ...]) -> str:
    return next((name for name in ranked if name.split(":")[0] in rules), "")


def _work_caveat(result: CompareResult, bp: str, lr: str) -> str:
    """An LR step that copies the batch does more forward work than a BP step; the report must not hide it."""
    forwards = {method.method: method.forwards_per_step for method in result.methods}
    if forwards[lr] <= forwards[bp]:
        return ""
    return (
        f"A step of {lr} passes every sample forward {forwards[lr]:g} times, one of {bp} {forwards[bp]:g}: "
        "a step is timed here, not the progress that training makes in it."
    )


def _memory_sentence(result: CompareResult, bp: str) -> str:
    peaks = {method.method: max(method.peak_memory_bytes.values(), default=0) for method in result.methods}
    if not all(peaks.values()):
        return ""
    least = min(peaks, key=lambda name: peaks[name])
    beside = "" if least.startswith("bp") else f"; {bp} needs {format_bytes(peaks[bp])}"
    return f"Least peak memory on a unit: {least} ({format_bytes(peaks[least])}{beside})."
