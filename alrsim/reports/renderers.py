"""How each kind of result is shown: as text, as rows of a data frame, as a picture, as files.

Kinds that have a file of their own, some above the reports, are named by the import path of their renderer.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from alrsim.errors import OptionError
from alrsim.reports.calibration import calibrate_rows, calibrate_text, costs_rows, costs_text
from alrsim.reports.parts import Parts, axes_or_new, no_files, no_picture
from alrsim.reports.result import BUBBLES, CompareResult
from alrsim.reports.step_result import ScheduleResult, StepResult
from alrsim.showing import Renderer
from alrsim.timeline.timeline import Timeline
from alrsim.units import format_ns
from alrsim.warning import warn

if TYPE_CHECKING:
    from alrsim.reports.gantt import Panel


def compare_text(result: CompareResult) -> str:
    """Headline, table, cost model, verdict and every note."""
    from alrsim.reports.tables import compare_table, headline, to_text

    lines = [headline(result), to_text(compare_table(result)).rstrip("\n") + "\n", f"{cost_model_note(result)}."]
    executor = next((one.measured.executor for one in result.methods if one.measured), "")
    lines += [f"measured by executor {executor}."] if executor else []
    lines.append(result.verdict())
    for method in result.methods:
        lines += [
            f"{method.method} does not fit: {shortage}; try more `units`, more `microbatches` or `precision`"
            for shortage in method.shortages
        ]
        lines += [f"{method.method}: {note}" for note in method.notes]
        lines += [f"{method.method}, measured: {flag}" for flag in (method.measured.flags if method.measured else ())]
    return "\n".join(lines)


def cost_model_note(result: CompareResult) -> str:
    """Which cost model predicted, and how wrong it is known to be."""
    return f"predicted by cost model {result.cost_model}; its error: {result.cost_model_error}"


def compare_rows(result: CompareResult) -> list[dict[str, Any]]:
    """One row per method."""
    return [
        {
            "method": one.method,
            "makespan_ns": one.makespan_ns,
            "speedup": one.speedup,
            **{name: getattr(one, name) for name in BUBBLES},
            "forwards_per_step": one.forwards_per_step,
            "peak_memory_bytes": max(one.peak_memory_bytes.values(), default=0),
            **({} if one.bound is None else {"gap": one.bound.gap}),
            **({} if one.measured is None else {"measured_ns": one.measured.makespan_ns}),
        }
        for one in result.methods
    ]


def draw_compare(result: CompareResult, axes: Any = None) -> Any:
    """A bar per method: its predicted makespan, the busy part dark."""
    axes = axes_or_new(axes)
    names = [one.method for one in result.methods]
    times = [one.makespan_ns / 1e6 for one in result.methods]
    busy = [time * (1 - one.idle_fraction) for time, one in zip(times, result.methods, strict=True)]
    axes.barh(names, times, color="#dddddd", label="idle")
    axes.barh(names, busy, color="#0072b2", label="busy (mean over the units)")
    axes.invert_yaxis()
    axes.set_xlabel("predicted step time, ms" if result.time_unit == "ns" else "steps")
    axes.legend(fontsize=8)
    return axes


def compare_files(result: CompareResult) -> dict[str, bytes]:
    """``gantt.png``, ``memory.png`` and ``trace.json.gz``."""
    from alrsim.reports.gantt import draw_gantt, too_large
    from alrsim.reports.memory_plot import MemoryRow, draw_memory
    from alrsim.reports.tables import headline
    from alrsim.reports.trace import trace_bytes, trace_document

    title = headline(result)
    lines = [
        (one.method, line)
        for one in result.methods
        for line in (one.timeline, one.measured_timeline)
        if line is not None
    ]
    if why := too_large([line for _, line in lines]):
        warn(f"charts and trace are left out: {why}")
        return {}
    rows = [MemoryRow(one.method, one.timeline, one.measured_timeline) for one in result.methods]
    machine = result.methods[0].step.machine
    capacity = {unit.name: unit.memory_bytes for unit in machine.units}
    trace = trace_document(
        lines,
        tasks={one.method: one.step.tasks for one in result.methods},
        about={"model": result.model, "hardware": result.hardware, "cost_model": result.cost_model},
    )
    return {
        "gantt.png": draw_gantt(compare_panels(result), title, note=cost_model_note(result)),
        "memory.png": draw_memory(rows, f"Live memory: {title}", capacity=capacity),
        "trace.json.gz": trace_bytes(trace),
    }


def compare_panels(result: CompareResult) -> "list[Panel]":
    """Predicted above measured, method by method."""
    from alrsim.reports.gantt import Panel
    from alrsim.reports.tables import format_time

    panels = []
    for row in result.methods:
        idle = 100 * row.idle_fraction
        words = f"predicted {format_time(row.makespan_ns, result.cost_model)} · idle {idle:.1f} % · {row.speedup:.2f}x"
        panels.append(Panel(row.method, row.timeline, words))
        if row.measured_timeline is not None and row.measured is not None:
            got = row.measured
            words = (
                f"measured {format_ns(got.makespan_ns)} (median of {got.repeats}) · "
                f"prediction off by {100 * got.makespan_error:+.1f} % · {got.speedup:.2f}x"
            )
            panels.append(Panel(row.method, row.measured_timeline, words))
    return panels


def step_text(result: StepResult) -> str:
    """The chart, every number, the bound, and what the time is made of."""
    from alrsim.reports.bound import bound_line
    from alrsim.reports.tables import metrics_table, to_text
    from alrsim.reports.text import draw_text
    from alrsim.reports.timescale import scale_for
    from alrsim.timeline.terms import terms_line

    lines = [] if result.timeline is None else [draw_text(result.timeline, width=120)]
    lines.append(to_text(metrics_table(result)).rstrip("\n") + "\n")
    if result.bound is not None:
        scale = scale_for(float(result.makespan), result.time_unit)
        lines.append(bound_line(result.bound, scale.text))
    predicted = result.predicted or result.timeline
    if predicted is not None and (terms := predicted.facts.terms_ns) is not None:
        lines.append(f"predicted by cost model {predicted.cost_model}: {terms_line(terms)}")
    if result.cost_model_error:
        lines.append(f"its error: {result.cost_model_error}")
    if result.facts.get("executor"):
        lines.append(f"run by executor {result.facts['executor']}: {result.facts['transport']}")
    lines += [f"note: {note}" for note in result.notes]
    return "\n".join(lines)


def step_rows(result: StepResult) -> list[dict[str, Any]]:
    """One row per span.

    Raises:
        OptionError: there are too many.
    """
    if result.spans_left_out is not None:
        raise OptionError(
            f"{result.spans_left_out:,} spans are too many for rows", where=result.name, fix="look at its metrics"
        )
    return [asdict(span) for span in result.spans]


def draw_step(result: StepResult, axes: Any = None) -> Any:
    """The Gantt chart."""
    return draw_timeline(result.timeline, axes)


def step_files(result: StepResult) -> dict[str, bytes]:
    """``gantt.png``, ``trace.json.gz`` and, with a model, ``memory.png``."""
    from alrsim.reports.gantt import Panel, draw_gantt, too_large
    from alrsim.reports.memory_plot import MemoryRow, draw_memory
    from alrsim.reports.trace import trace_bytes, trace_document

    line = result.timeline
    if line is None:
        return {}  # read from a file
    if why := too_large([line]):
        warn(f"charts and trace are left out: {why}")
        return {}
    word = "predicted" if line.source == "simulated" else "measured"
    title = f"{result.name}: {result.about.get('model', 'durations as typed')}"
    tasks = {result.name: result.step.tasks}
    document = trace_document([(result.name, line)], tasks=tasks, about=dict(result.about))
    files = {
        "gantt.png": draw_gantt([Panel(result.name, line, word)], title),
        "trace.json.gz": trace_bytes(document),
    }
    if "durations" not in result.about:
        rows: Sequence[Any] = [line] if result.predicted is None else [result.predicted, line]
        files["memory.png"] = draw_memory([MemoryRow(result.name, *rows)], f"Live memory: {title}")
    return files


def schedule_text(result: ScheduleResult) -> str:
    """The lanes, the bound, and what the time is made of."""
    from alrsim.reports.bound import bound_line
    from alrsim.reports.tables import format_time
    from alrsim.timeline.terms import Terms, terms_line

    def time(ticks: float) -> str:
        return format_time(ticks, result.cost_model)

    lines = [f"{result.method} for {result.model}: {result.stages} stages, {result.tasks} tasks"]
    lines += [f"{unit}: {lane}" for unit, lane in result.schedule.items()]
    bound = "" if result.bound is None else f"; {bound_line(result.bound, time)}"
    lines.append(f"makespan {time(result.makespan_ns)}{bound}")
    if result.terms_ns is not None:
        lines.append(terms_line(Terms(**result.terms_ns)))
    return "\n".join(lines)


def schedule_rows(result: ScheduleResult) -> list[dict[str, Any]]:
    """One row per task, in lane order."""
    return [
        {"unit": unit, "position": at, "task": task}
        for unit, lane in result.schedule.items()
        for at, task in enumerate(lane.split())
    ]


def draw_schedule(result: ScheduleResult, axes: Any = None) -> Any:
    """The Gantt chart of the predicted times."""
    return draw_timeline(result.step.timeline, axes)


def timeline_rows(line: Timeline) -> list[dict[str, Any]]:
    """One row per span; times in ticks."""
    return [
        {"task": str(one.task), "unit": one.unit, "start": one.start, "end": one.end, "kind": one.task.kind}
        for one in line.spans
    ]


def draw_timeline(line: Timeline, axes: Any = None) -> Any:
    """The Gantt chart."""
    from alrsim.reports.gantt import draw_gantt_into

    axes = axes_or_new(axes)
    draw_gantt_into(axes, line)
    return axes


def timeline_text(line: Timeline) -> str:
    """The Gantt chart in characters."""
    from alrsim.reports.text import draw_text

    return draw_text(line, width=120)


RENDERERS: dict[str, Renderer | str] = {
    "replay": "alrsim.validation.replaying:RENDERER",
    "validate": "alrsim.validation.report:RENDERER",
    "sweep": "alrsim.sweeps.result:RENDERER",
    "figure2": "alrsim.steps.figure2_text:RENDERER",
    "compare": Parts(compare_text, compare_rows, draw_compare, compare_files),
    "calibrate": Parts(calibrate_text, calibrate_rows, no_picture, no_files),
    "costs": Parts(costs_text, costs_rows, no_picture, no_files),
    "order": Parts(schedule_text, schedule_rows, draw_schedule, no_files),
    "timeline": Parts(timeline_text, timeline_rows, draw_timeline, no_files),
    "export": "alrsim.reports.model_counts:EXPORT",
    "graph-counts": "alrsim.reports.model_counts:GRAPH",
    "machines": "alrsim.reports.machines:MACHINES",
    "profile": "alrsim.reports.machines:PROFILE",
    "reproduce": "alrsim.experiments.report:RENDERER",
    "profile-review": "alrsim.reports.machines:REVIEW",
    "stage-counts": "alrsim.reports.model_counts:STAGES",
    "step": Parts(step_text, step_rows, draw_step, step_files),
    "gradcheck": "alrsim.quality.gradcheck_report:RENDERER",
    "train": "alrsim.training.report:RENDERER",
    "trajectory": "alrsim.quality.trajectory_report:RENDERER",
    "plan": "alrsim.reports.plan_view:RENDERER",
    "explain": "alrsim.reports.explained_view:RENDERER",
}
"""A renderer by kind of result; as text where it stands, for kinds above this package."""
