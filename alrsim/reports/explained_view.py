"""An explanation as text, rows and pictures."""

from dataclasses import asdict
from typing import Any

from alrsim.errors import OptionError
from alrsim.reports.explained import CAUSE_WORDS
from alrsim.reports.explanation import Explanation, PathStep
from alrsim.reports.parts import Parts, axes_or_new
from alrsim.reports.step_result import Number
from alrsim.reports.tables import plain_table, to_text
from alrsim.reports.timescale import scale_for
from alrsim.schedule.idle import Cause

_AFTER = {
    "start": "starts the step",
    "lane": "follows in the lane",
    "input": "had to wait for its input",
    "core": "had to wait for a core",
    "send": "is sent when made",
    "channel": "queued behind it",
}
_SHOWN = 24


def explained_text(result: Explanation) -> str:
    """The answer to the question; without one critical path, idle time and slack."""
    if result.answer is not None:
        return "\n".join(result.answer.text)
    lines = [] if result.unit is not None else [path_line(result), path_table(result)]
    lines += ["idle time by reason, as a share of the makespan:", idle_table(result)]
    return "\n".join([*lines, *([] if result.unit is not None else [slack_line(result)])])


def _time(result: Explanation, value: Number) -> str:
    return scale_for(float(result.makespan), result.time_unit).text(float(value))


def _share(result: Explanation, value: Number) -> str:
    return f"{100 * value / (result.makespan or 1):.1f} %"


def path_line(result: Explanation) -> str:
    """How much of the critical path is spent where."""
    spent = dict[str, Number]()
    for step in result.critical_path:
        where = step.where if step.kind == "task" else "transfers"
        spent[where] = spent.get(where, 0) + step.end - step.start
    shares = ", ".join(f"{where} {_share(result, time)}" for where, time in spent.items() if time)
    tasks = sum(1 for step in result.critical_path if step.kind == "task")
    return f"critical path: {tasks} tasks, {_time(result, result.makespan)}: {shares}"


def path_table(result: Explanation) -> str:
    """The critical path, stretches of no time left out; the middle of a long one too."""
    rows = [_path_row(result, step) for step in result.critical_path if step.end > step.start]
    if len(rows) > _SHOWN:
        half = _SHOWN // 2
        rows = [*rows[:half], ["...", f"{len(rows) - _SHOWN} more", "", "", "", "in the JSON"], *rows[-half:]]
    return to_text(plain_table(["critical path", "on", "from", "to", "takes", "why then"], rows, left=2)).rstrip()


def _path_row(result: Explanation, step: PathStep) -> list[str]:
    times = [_time(result, value) for value in (step.start, step.end, step.end - step.start)]
    return [step.what, step.where, *times, _AFTER[step.after]]


def idle_table(result: Explanation) -> str:
    """Idle time of every unit by reason; rows add up to the unit's idle time."""
    found = result.idle_by_reason()
    causes = [cause for cause in Cause if any(cause.value in row for row in found.values())]
    rows = [
        [
            unit,
            _share(result, result.idle[unit].idle),
            *(_share(result, row[cause.value]) if cause.value in row else "-" for cause in causes),
        ]
        for unit, row in found.items()
    ]
    return to_text(plain_table(["unit", "idle", *(CAUSE_WORDS[cause] for cause in causes)], rows)).rstrip()


def slack_line(result: Explanation) -> str:
    """How many tasks may be later, and which one by most."""
    critical = sum(1 for free in result.slack.values() if not free)
    line = f"slack: {critical} of {len(result.slack)} tasks have none"
    if critical < len(result.slack):
        most = max(result.slack, key=lambda token: result.slack[token])
        line += f"; most has {most} ({_time(result, result.slack[most])})"
    return line


def explained_rows(result: Explanation) -> list[dict[str, Any]]:
    """One row per idle stretch."""
    units = result.idle if result.unit is None else (result.unit,)
    rows = [asdict(one) for one in result.stretches if one.unit in units]
    return [{**row, "input": row["input"] and row["input"]["buffer"]} for row in rows]


def draw_explanation(result: Explanation, axes: Any = None) -> Any:
    """The Gantt chart with the critical path outlined and idle time coloured by its reason."""
    from alrsim.reports.explained_chart import draw_explained_into

    if result.explained is None:
        raise OptionError("was read from a file, which holds no tasks", where=result.name)
    axes = axes_or_new(axes)
    draw_explained_into(axes, result.explained)
    return axes


def explained_files(result: Explanation) -> dict[str, bytes]:
    """``explained.png``."""
    from alrsim.reports.explained_chart import draw_explained

    if result.explained is None:
        return {}  # read from a file
    title = f"{result.name}: {result.about.get('model', 'durations as typed')}"
    return {"explained.png": draw_explained(result.explained, title)}


RENDERER = Parts(explained_text, explained_rows, draw_explanation, explained_files)
