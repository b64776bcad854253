"""A plan as text, rows and pictures."""

from typing import Any

from alrsim.reports.parts import Parts, axes_or_new
from alrsim.reports.plan_result import PlanResult, PlanRow
from alrsim.reports.tables import plain_table, to_text
from alrsim.units import format_bytes, format_ns

SHOWN = 6
"""Plans in the table."""


def value_text(value: float, target: str) -> str:
    """A number in the unit of the target."""
    if target == "memory":
        return format_bytes(value)
    return f"{value:.4g} J" if target == "energy" else format_ns(value)


def plan_text(result: PlanResult) -> str:
    """The plan for a terminal: what was compared, what is chosen, how good it is, and why."""
    lines = _textbook_lines(result) if result.durations is not None else _model_lines(result)
    return "\n".join([*lines, *(f"note: {note}" for note in result.notes)])


def _textbook_lines(result: PlanResult) -> list[str]:
    """The table of rules, and the chosen lanes."""
    chosen, space = result.chosen, result.space
    rows = [
        [one.rule, str(one.tasks), f"{one.makespan:g}", f"{one.bound:g}", f"{100 * one.gap:.1f} %", one.status]
        for one in result.ranked
    ]
    return [
        f"{chosen.stages} stages x {chosen.microbatches} micro-batches on {result.units} units; free to choose: order, "
        f"{space.freedom}",
        to_text(plain_table(["rule", "tasks", "makespan", "lower bound", "gap", "status"], rows)).rstrip(),
        f"chosen: {chosen.label}",
        *(f"{unit}: {lane}" for unit, lane in result.schedule.items()),
        f"why: {result.why()}",
    ]


def _model_lines(result: PlanResult) -> list[str]:
    chosen, space, target = result.chosen, result.space, result.target
    goal = target if result.cosine is None else f"{target} {result.cosine:g}"
    table = plain_table(
        ["plan", "step", "peak memory", "energy", "lower bound"], [_row(one, target) for one in result.ranked[:SHOWN]]
    )
    lines = [
        f"{result.model}, batch {result.batch}, on {result.units} units of {result.hardware}: least {goal}",
        to_text(table).rstrip(),
        f"chosen: {chosen.label}",
    ]
    for number, stage in enumerate(result.stages):
        rest = "" if stage.first == stage.last else f" .. {stage.last}"
        lines.append(f"  stage {number} on {stage.unit}: {stage.first}{rest}")
    if (formats := chosen.formats) is not None:
        kept = f", kept inputs {formats.saved}, noise {formats.noise}" if chosen.copies else ""
        lines.append(f"  formats: parameters {formats.parameters}, activations {formats.activations}{kept}")
    if (other := result.runner_up) is not None:
        lines.append(f"runner-up: {other.label}: {other.value / result.value if result.value else 1:.3g}x")
    lines.append(
        f"{value_text(result.value, target)}; lower bound {value_text(result.bound, target)}, gap "
        f"{100 * result.gap:.1f} % over all {space.candidates} candidates: {space.pruned} excluded by their bounds, "
        f"{space.evaluated} carried out, {space.misfits} did not fit; any order, {space.freedom}"
    )
    lines.append(f"space: {space.words}")
    if result.cosine is not None:
        lines.append(f"expected cosine: {chosen.expected_cosine:.3f}")
    lines.append(f"why: {result.why()}")
    if (more := result.one_more_unit) is not None:
        lines.append(f"one more unit ({more.units}) would give {more.gain:.2f}x: {more.plan}")
    return lines


def _row(one: PlanRow, target: str) -> list[str]:
    energy = "-" if one.energy_joules is None else f"{one.energy_joules:.3g} J"
    memory = format_bytes(max(one.peak_memory_bytes.values(), default=0))
    return [one.label, format_ns(one.makespan), memory, energy, value_text(one.bound, target)]


def plan_rows(result: PlanResult) -> list[dict[str, Any]]:
    """One row per plan that was carried out."""
    names = ("label", "rule", "cut", "stages", "microbatches", "copies", "noise_mode", "makespan", "value", "bound")
    return [
        {
            **{name: getattr(one, name) for name in names},
            "gap": one.gap,
            "energy_joules": one.energy_joules,
            "peak_memory_bytes": max(one.peak_memory_bytes.values(), default=0),
            "expected_cosine": one.expected_cosine,
        }
        for one in result.ranked
    ]


def draw_plan(result: PlanResult, axes: Any = None) -> Any:
    """The Gantt chart of the chosen plan."""
    from alrsim.reports.gantt import draw_gantt_into

    axes = axes_or_new(axes)
    draw_gantt_into(axes, result.step.timeline, result.chosen.label)
    return axes


def plan_files(result: PlanResult) -> dict[str, bytes]:
    """``gantt.png`` of the chosen plan and its runner-up."""
    from alrsim.reports.gantt import Panel, draw_gantt

    shown = [one for one in (result.chosen, result.runner_up) if one is not None and one.step is not None]
    if not shown:
        return {}  # read from a file
    title = f"{result.model or 'durations as typed'}: least {result.target}"
    return {"gantt.png": draw_gantt([Panel(one.label, one.step.timeline, "predicted") for one in shown], title)}


RENDERER = Parts(plan_text, plan_rows, draw_plan, plan_files)
