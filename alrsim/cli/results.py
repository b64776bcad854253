"""From planned and measured methods to the result that tables and JSON show, and to the files beside it."""

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from alrsim.cli.output import encode
from alrsim.cli.pipeline import Planned
from alrsim.hardware.machine import Machine
from alrsim.reports.result import CompareResult, MeasuredResult, MethodResult, Shortage, compare_document
from alrsim.timeline.comparison import Comparison
from alrsim.timeline.memory import memory_by_category, memory_error, peak_memory, resident_peaks
from alrsim.timeline.metrics import bubble_size, named_shares, speedup
from alrsim.timeline.timeline import Timeline
from alrsim.units import format_ns

if TYPE_CHECKING:
    from alrsim.reports.gantt import Panel


def bubbles_of(timeline: Timeline) -> dict[str, float]:
    """Every named bubble; ``bubble_size_ns`` is the mean idle time per unit (per unit in ``simulate --json``)."""
    shares = {name: float(share) for name, share in named_shares(timeline).items()}
    idle = bubble_size(timeline)
    mean = Fraction(sum(idle.values()), max(1, len(idle)))
    return {**shares, "bubble_size_ns": round(mean)}


def shortages_of(machine: Machine, timeline: Timeline) -> tuple[Shortage, ...]:
    """Units whose peak is above their capacity."""
    peaks = peak_memory(timeline)
    return tuple(
        Shortage(unit.name, peaks[unit.name], unit.memory_bytes)
        for unit in machine.units
        if unit.memory_bytes is not None and peaks[unit.name] > unit.memory_bytes
    )


def method_result(planned: Planned, first: Planned, measured: Timeline | None, base: Timeline | None) -> MethodResult:
    """One row.

    Args:
        first: The first method of the comparison, predicted.
        measured: What running this method gave.
        base: What running the first method gave.
    """
    timeline = planned.timeline
    tasks = planned.problem.tasks
    return MethodResult(
        method=planned.method.label,
        schedule=planned.schedule.as_dict(),
        makespan_ns=timeline.makespan,
        speedup=float(speedup(first.timeline, timeline)),
        bubbles=bubbles_of(timeline),
        peak_memory_bytes=peak_memory(timeline),
        memory_by_category={
            unit: {category.value: count for category, count in live.items()}
            for unit, live in memory_by_category(timeline).items()
        },
        forwards_per_step=tasks.forwards_per_step,
        shortages=shortages_of(planned.problem.machine, timeline),
        notes=tasks.notes,
        measured=None if measured is None or base is None else measured_result(timeline, measured, base),
        gap=planned.gap,
        terms=timeline.facts.terms_ns,
    )


def measured_result(predicted: Timeline, measured: Timeline, base: Timeline) -> MeasuredResult:
    """The measured columns; refuses to compare two different schedules."""
    error = Comparison(predicted, measured).makespan_error
    facts = measured.facts
    slowest, fastest = facts.makespan_max_ns or measured.makespan, facts.makespan_min_ns or measured.makespan
    return MeasuredResult(
        makespan_ns=measured.makespan,
        repeats=facts.repeats or 1,
        spread=(slowest - fastest) / measured.makespan,
        makespan_error=float(error),
        speedup=float(speedup(base, measured)),
        peak_memory_bytes=peak_memory(measured),
        flags=facts.flags or (),
        peak_memory_error=memory_error(predicted, measured),
        peak_rss_bytes=resident_peaks(measured),
        executor=facts.executor or "",
    )


def known_error(cost_model: str, rows: Sequence[MethodResult], words: str = "") -> str:
    """What is known of the cost model's error, in words.

    Args:
        words: What a calibration says of it.
    """
    if cost_model == "unit":
        return "none, every task takes one step by definition"
    errors = [row.measured.makespan_error for row in rows if row.measured is not None]
    if errors:
        low, high = min(errors), max(errors)
        return f"{100 * low:+.1f} % to {100 * high:+.1f} % of the makespans measured here"
    if words:
        return words
    return "unknown for this machine; it is not calibrated, so trust ranking and ratios more than times"


def compare_result(
    model: str,
    hardware: str,
    planned: Sequence[Planned],
    measured: Sequence[Timeline | None],
    *,
    warnings: tuple[str, ...] = (),
) -> CompareResult:
    """The whole comparison; speed-ups are over the first method."""
    first, base = planned[0], measured[0]
    rows = tuple(method_result(p, first, m, base) for p, m in zip(planned, measured, strict=True))
    return CompareResult(
        model=model,
        hardware=hardware,
        units=len(first.problem.machine.units),
        microbatches=first.options.microbatches,
        copies=first.options.copies,
        cost_model=first.problem.cost_model,
        cost_model_error=known_error(first.problem.cost_model, rows, first.cost_error),
        methods=rows,
        warnings=warnings,
        time_unit=first.problem.time_unit,
    )


def report_files(
    result: CompareResult, planned: Sequence[Planned], measured: Sequence[Timeline | None]
) -> dict[str, bytes]:
    """``result.json``, ``gantt.png``, ``memory.png`` and ``trace.json.gz``, all in memory."""
    from alrsim.reports.gantt import draw_gantt
    from alrsim.reports.memory_plot import MemoryRow, draw_memory
    from alrsim.reports.tables import headline
    from alrsim.reports.trace import trace_bytes, trace_document

    title = headline(result)
    labels = [p.method.label for p in planned]
    lines = [
        (label, line)
        for label, p, m in zip(labels, planned, measured, strict=True)
        for line in (p.timeline, m)
        if line is not None
    ]
    rows = [MemoryRow(label, p.timeline, m) for label, p, m in zip(labels, planned, measured, strict=True)]
    capacity = {unit.name: unit.memory_bytes for unit in planned[0].problem.machine.units}
    trace = trace_document(
        lines,
        tasks={label: p.problem.tasks for label, p in zip(labels, planned, strict=True)},
        about={"model": result.model, "hardware": result.hardware, "cost_model": result.cost_model},
    )
    return {
        "result.json": encode(compare_document(result)),
        "gantt.png": draw_gantt(panels_of(result, planned, measured), title, note=cost_model_note(result)),
        "memory.png": draw_memory(rows, f"Live memory: {title}", capacity=capacity),
        "trace.json.gz": trace_bytes(trace),
    }


def cost_model_note(result: CompareResult) -> str:
    """Which cost model predicted, and how wrong it is known to be."""
    return f"predicted by cost model {result.cost_model}; its error: {result.cost_model_error}"


def panels_of(result: CompareResult, planned: Sequence[Planned], measured: Sequence[Timeline | None]) -> "list[Panel]":
    """Predicted above measured, method by method."""
    from alrsim.reports.gantt import Panel
    from alrsim.reports.tables import format_time

    panels = []
    for row, plan, run in zip(result.methods, planned, measured, strict=True):
        idle = 100 * row.bubbles["idle_fraction"]
        words = f"predicted {format_time(row.makespan_ns, result.cost_model)} · idle {idle:.1f} % · {row.speedup:.2f}x"
        panels.append(Panel(row.method, plan.timeline, words))
        if run is not None and row.measured is not None:
            got = row.measured
            words = (
                f"measured {format_ns(got.makespan_ns)} (median of {got.repeats}) · "
                f"prediction off by {100 * got.makespan_error:+.1f} % · {got.speedup:.2f}x"
            )
            panels.append(Panel(row.method, run, words))
    return panels
