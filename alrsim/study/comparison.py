"""``compare``: the main job. Methods side by side on one model and machine, predicted and measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from alrsim.errors import OptionError
from alrsim.hardware.machine import Machine
from alrsim.hardware.profile import load_machine
from alrsim.options import keyword
from alrsim.reports.bound import bound_of
from alrsim.reports.result import CompareResult, MeasuredResult, MethodResult, Shortage
from alrsim.steps.draft import workload
from alrsim.steps.method import DEFAULT_METHODS, Method, parse_methods
from alrsim.steps.model import load_model
from alrsim.steps.options import PREDICTION, RUN, RunOptions, StepOptions
from alrsim.steps.step import Step, make_steps
from alrsim.timeline.comparison import Comparison
from alrsim.timeline.memory import memory_by_category, memory_error, peak_memory, resident_peaks
from alrsim.timeline.metrics import bubble_size, named_shares, speedup
from alrsim.timeline.timeline import Timeline
from alrsim.verbs import verb


@dataclass(frozen=True, kw_only=True)
class CompareOptions(RunOptions, StepOptions):
    """Options of :func:`compare`."""

    methods: tuple[Method, ...] = keyword(
        "Methods, comma-separated; the first is the base.",
        default=parse_methods(DEFAULT_METHODS),
        metavar="LIST",
        parse=parse_methods,
        panel=PREDICTION,
    )
    measure: bool = keyword(
        "Run every schedule on this host too; predict from calibrated costs.", default=False, panel=RUN
    )


@verb(CompareOptions)
def compare(model: Any, hardware: str | Path | Machine = "cpu-2core", *, asked: CompareOptions) -> CompareResult:
    """Compare methods on a model and a machine: time, every named bubble, memory; measured too where it is asked for.

    Args:
        model: As :func:`alrsim.load_model` takes it.
        hardware: A profile by name or path, or a machine.

    Raises:
        OptionError: options that contradict each other.
        ModelError, ProfileError, ScheduleError, ExecutionError: what cannot be loaded, scheduled or run.

    >>> result = compare("mlp", "h100", units=2, microbatches=4, methods=["bp:gpipe", "bp:1f1b"])
    >>> [one.method for one in result]
    ['bp:gpipe', 'bp:1f1b']
    """
    refuse_unmeasured(asked)
    if asked.measure:
        from alrsim.steps.measuring import running_of

        running = running_of(asked)
    loaded, machine = load_model(model, **loading(asked)), load_machine(hardware, asked.units)
    if not asked.measure:
        work = workload(loaded, machine, asked)
        steps: Sequence[Step] = make_steps(work, asked.methods)
        return compare_result(steps, [None] * len(steps), work.sized.graph.warnings)
    from alrsim.steps.measured import measure_methods
    from alrsim.steps.measuring import open_bench, require_measurable

    require_measurable(machine, loaded)
    work = workload(loaded, machine, asked)
    steps, measured = measure_methods(open_bench(work, running), asked.methods)
    return compare_result(steps, measured, work.sized.graph.warnings)


def loading(asked: StepOptions) -> dict[str, Any]:
    """The options that are about loading the model."""
    return {"option": asked.option, "bind": asked.bind}


def refuse_unmeasured(asked: CompareOptions) -> None:
    """Options about measuring are refused where nothing is measured.

    Raises:
        OptionError: the first of them.
    """
    if asked.measure:
        return
    unread = next((name for name in ("executor", "limit") if name in asked.given), None)
    if unread is not None:
        raise OptionError("says how schedules are measured", field=unread, fix="add `measure`, or leave it out")


def compare_result(
    steps: Sequence[Step], measured: Sequence[Timeline | None], warnings: tuple[str, ...] = ()
) -> CompareResult:
    """The whole comparison; speed-ups are over the first method."""
    first, base = steps[0], measured[0]
    assert first.draft is not None
    rows = tuple(method_result(one, first, run, base) for one, run in zip(steps, measured, strict=True))
    return CompareResult(
        model=first.about["model"],
        hardware=first.about["hardware"],
        units=len(first.machine.units),
        microbatches=first.draft.options.microbatches,
        copies=first.draft.options.copies,
        cost_model=first.timeline.cost_model,
        cost_model_error=known_error(first.timeline.cost_model, rows, first.cost_error),
        time_unit=first.timeline.time_unit,
        warnings=warnings,
        methods=rows,
    )


def method_result(step: Step, first: Step, measured: Timeline | None, base: Timeline | None) -> MethodResult:
    """One row.

    Args:
        first: The first method of the comparison, predicted.
        measured: What running this method gave.
        base: What running the first method gave.
    """
    timeline = step.timeline
    idle, terms, found = bubble_size(timeline), timeline.facts.terms_ns, step.gap
    return MethodResult(
        method=step.name,
        schedule=step.lanes,
        makespan_ns=timeline.makespan,
        speedup=float(speedup(first.timeline, timeline)),
        **{name: float(share) for name, share in named_shares(timeline).items()},
        bubble_size_ns=round(Fraction(sum(idle.values()), max(1, len(idle)))),
        forwards_per_step=step.summary.forwards_per_step,
        peak_memory_bytes=peak_memory(timeline),
        memory_by_category={
            unit: {category.value: count for category, count in live.items()}
            for unit, live in memory_by_category(timeline).items()
        },
        shortages=shortages_of(step.machine, timeline),
        notes=step.summary.notes,
        bound=None if found is None else bound_of(found),
        terms_ns=None if terms is None else terms.named,
        measured=None if measured is None or base is None else measured_result(timeline, measured, base),
        step=step,
        measured_timeline=measured,
    )


def shortages_of(machine: Machine, timeline: Timeline) -> tuple[Shortage, ...]:
    """Units whose peak is above their capacity."""
    peaks = peak_memory(timeline)
    return tuple(
        Shortage(unit.name, peaks[unit.name], unit.memory_bytes, peaks[unit.name] - unit.memory_bytes)
        for unit in machine.units
        if unit.memory_bytes is not None and peaks[unit.name] > unit.memory_bytes
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
    return words or "unknown for this machine; it is not calibrated, so trust ranking and ratios more than times"
