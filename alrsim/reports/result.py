"""The result of ``alrsim compare``: what the table shows and what ``result.json`` holds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from alrsim.reports.bound import bound_document
from alrsim.schedule.proof import Gap
from alrsim.timeline.terms import Terms
from alrsim.units import Bytes, Ns, format_bytes


@dataclass(frozen=True)
class Shortage:
    """A unit whose memory is too small.

    Attributes:
        need: Peak live bytes.
        capacity: What the unit has.
    """

    unit: str
    need: Bytes
    capacity: Bytes

    def __str__(self) -> str:
        need, has, short = map(format_bytes, (self.need, self.capacity, self.need - self.capacity))
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
        method: ``rule:scheduler``, as on the command line.
        schedule: Lane by unit, as text.
        speedup: Over the first method of the comparison.
        bubbles: Share or time by name: ``idle_fraction``, ``overhead_ratio``, ``rank_span_bubble``,
            ``internal_idle``, ``grid_idle`` and the others that :mod:`alrsim.timeline.metrics` defines.
        peak_memory_bytes: By unit.
        memory_by_category: By unit and category at the moment of that unit's peak, so that they add up to it.
        forwards_per_step: Full-forward equivalents per sample and step.
        shortages: Units whose memory is too small.
        notes: Choices of the rule and of the scheduler that the reader should know.
        gap: The predicted makespan beside its lower bounds.
        terms: What the predicted makespan is made of; ``None`` in steps.
    """

    method: str
    schedule: Mapping[str, str]
    makespan_ns: Ns
    speedup: float
    bubbles: Mapping[str, float]
    peak_memory_bytes: Mapping[str, Bytes]
    memory_by_category: Mapping[str, Mapping[str, Bytes]]
    forwards_per_step: float
    shortages: tuple[Shortage, ...] = ()
    notes: tuple[str, ...] = ()
    measured: MeasuredResult | None = None
    gap: Gap | None = None
    terms: Terms | None = None


@dataclass(frozen=True)
class CompareResult:
    """A comparison of methods on one model and machine.

    Attributes:
        cost_model: What made the predicted durations.
        time_unit: ``ns``, or ``user``: every time is in steps (abstract units).
        cost_model_error: Known relative error of that cost model, as words; empty if unknown.
        warnings: Of the model's import, printed once.
    """

    model: str
    hardware: str
    units: int
    microbatches: int
    copies: int
    cost_model: str
    methods: tuple[MethodResult, ...]
    cost_model_error: str = ""
    warnings: tuple[str, ...] = ()
    time_unit: str = "ns"


def compare_document(result: CompareResult) -> dict[str, Any]:
    """The JSON of ``alrsim compare`` (schema ``compare.schema.json``)."""
    return {
        "model": result.model,
        "hardware": result.hardware,
        "units": result.units,
        "microbatches": result.microbatches,
        "copies": result.copies,
        "cost_model": result.cost_model,
        "cost_model_error": result.cost_model_error,
        "time_unit": result.time_unit,
        "warnings": list(result.warnings),
        "methods": [_method_document(method) for method in result.methods],
    }


def _method_document(method: MethodResult) -> dict[str, Any]:
    return {
        "method": method.method,
        "schedule": dict(method.schedule),
        "makespan_ns": method.makespan_ns,
        "speedup": method.speedup,
        **method.bubbles,
        "forwards_per_step": method.forwards_per_step,
        "peak_memory_bytes": dict(method.peak_memory_bytes),
        "memory_by_category": {unit: dict(live) for unit, live in method.memory_by_category.items()},
        "shortages": [
            {
                "unit": s.unit,
                "need_bytes": s.need,
                "capacity_bytes": s.capacity,
                "short_bytes": s.need - s.capacity,
            }
            for s in method.shortages
        ],
        "notes": list(method.notes),
        "bound": None if method.gap is None else bound_document(method.gap),
        "terms_ns": None if method.terms is None else method.terms.named,
        "measured": None if method.measured is None else _measured_document(method.measured),
    }


def _measured_document(measured: MeasuredResult) -> dict[str, Any]:
    return {
        "makespan_ns": measured.makespan_ns,
        "repeats": measured.repeats,
        "spread": measured.spread,
        "makespan_error": measured.makespan_error,
        "speedup": measured.speedup,
        "peak_memory_bytes": dict(measured.peak_memory_bytes),
        "peak_memory_error": dict(measured.peak_memory_error),
        "peak_rss_bytes": dict(measured.peak_rss_bytes),
        "flags": list(measured.flags),
        "executor": measured.executor,
    }


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
