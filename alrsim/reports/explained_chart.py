"""The critical path drawn into a Gantt chart, idle time coloured by its reason, and each unit's time as one bar."""

from collections.abc import Sequence
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from alrsim.reports.canvas import WIDTH_INCHES, render
from alrsim.reports.explained import CAUSE_WORDS, Explained
from alrsim.reports.gantt import LABEL_POINTS
from alrsim.reports.palette import FAINT, INK, KIND_COLOURS, ink_on, shade
from alrsim.reports.timescale import TimeScale, scale_for
from alrsim.schedule.critical import Step
from alrsim.schedule.idle import Cause
from alrsim.tasks.token import KIND_NAMES, KINDS, NONE
from alrsim.timeline.metrics import typed

CAUSE_COLOURS: dict[Cause, str] = {
    Cause.INPUT: "#D9D9D9",
    Cause.TRANSFER: "#B9D7EA",
    Cause.LINK: "#7FB2D6",
    Cause.SENDING: "#9AC8C0",
    Cause.CORE: "#CDBBAE",
    Cause.MEMORY: "#E8A6B8",
    Cause.LIVE: "#D8B4E2",
    Cause.CHOICE: "#F4E7A1",
    Cause.DONE: "#F5F5F5",
}
"""Light, so that tasks stand out; idle for want of input is plain grey."""

PATH = "#C2185B"
"""The critical path: darker than any task, and no task's colour."""

_ROW, _LEFT, _RIGHT, _BARS = 0.42, 0.06, 0.835, 0.855
_PALE = 0.62
_HALF = 0.40


def draw_explained(found: Explained, title: str = "") -> bytes:
    """A PNG: tasks off the critical path are pale, the path is outlined and joined, idle stretches say why."""
    rows = max(2, len(found.units)) * _ROW
    height = 0.62 + rows + 1.35
    figure = Figure(figsize=(WIDTH_INCHES, height))
    draw_explained_into(figure.add_axes((_LEFT, 1.35 / height, _RIGHT - _LEFT, rows / height)), found)
    bars = figure.add_axes((_BARS, 1.35 / height, 0.985 - _BARS, rows / height))
    _draw_bars(bars, found)
    _decorate(figure, found, title, _scale(found))
    return render(figure)


def draw_explained_into(axis: Axes, found: Explained) -> None:
    """The chart alone, into axes of somebody's own."""
    scale = _scale(found)
    ticks = found.timeline.ticks_per_unit * scale.divisor
    _draw_idle(axis, found, ticks)
    _draw_tasks(axis, found, ticks)
    _draw_path(axis, found, ticks)
    _style(axis, found, ticks, scale)


def _scale(found: Explained) -> TimeScale:
    return scale_for(float(typed(found.timeline, found.timeline.makespan)), found.timeline.time_unit)


def _box(start: float, end: float, row: float, half: float = _HALF) -> list[tuple[float, float]]:
    return [(start, row - half), (end, row - half), (end, row + half), (start, row + half)]


def _draw_idle(axis: Axes, found: Explained, ticks: float) -> None:
    boxes = [_box(one.start / ticks, one.end / ticks, one.unit) for one in found.idle]
    colours = [CAUSE_COLOURS[one.cause] for one in found.idle]
    axis.add_collection(PolyCollection(boxes, facecolors=colours, edgecolors="none", zorder=1))


def _draw_tasks(axis: Axes, found: Explained, ticks: float) -> None:
    critical = {step.item for step in found.path}
    microbatches = found.problem.tasks.microbatches
    per_tick = WIDTH_INCHES * 72 * (_RIGHT - _LEFT) / (found.times.makespan or 1)
    boxes, colours = [], []
    few = len(found.lowered.duration) < 800
    for item, members in enumerate(found.lowered.tasks):
        task = found.problem.tasks.tasks[members[0]].id
        start, end, row = found.times.starts[item], found.times.ends[item], found.lowered.unit[item]
        colour = shade(KIND_COLOURS[task.kind], task.microbatch, microbatches)
        if item not in critical:
            colour = _pale(colour)
        boxes.append(_box(start / ticks, end / ticks, row))
        colours.append(colour)
        text = found.token(item)
        if (end - start) * per_tick >= len(text) * LABEL_POINTS * 0.62 + 3:
            axis.text(
                (start + end) / 2 / ticks,
                row,
                text,
                fontsize=LABEL_POINTS,
                ha="center",
                va="center_baseline",
                zorder=5,
                color=ink_on(colour),
                fontweight="bold" if item in critical else "normal",
            )
    axis.add_collection(
        PolyCollection(boxes, facecolors=colours, edgecolors="white", linewidths=0.6 if few else 0.1, zorder=2)
    )


def _pale(colour: tuple[float, float, float]) -> tuple[float, float, float]:
    red, green, blue = colour
    return (red + (1 - red) * _PALE, green + (1 - green) * _PALE, blue + (1 - blue) * _PALE)


def _draw_path(axis: Axes, found: Explained, ticks: float) -> None:
    """Outlines of the path's tasks, and one line through the moments at which it changes units."""
    tasks = [step for step in found.path if step.item != NONE and step.end > step.start]
    boxes = [_box(step.start / ticks, step.end / ticks, found.lowered.unit[step.item], _HALF + 0.02) for step in tasks]
    width = 1.8 if len(found.lowered.duration) < 800 else 0.6
    axis.add_collection(
        PolyCollection(boxes, facecolors="none", edgecolors=PATH, linewidths=width, zorder=4, joinstyle="round")
    )
    joins = [join for join in _joins(found, tasks, ticks) if join]
    axis.add_collection(LineCollection(joins, colors=PATH, linewidths=width, zorder=3, capstyle="round"))


def _joins(found: Explained, tasks: Sequence[Step], ticks: float) -> list[list[tuple[float, float]]]:
    """From the edge of a task's row to the edge of the next one's."""
    joins = []
    for before, after in pairwise(tasks):
        first, last = found.lowered.unit[before.item], found.lowered.unit[after.item]
        if first != last:
            down = _HALF if last > first else -_HALF
            joins.append([(before.end / ticks, first + down), (after.start / ticks, last - down)])
        elif after.start > before.end:
            joins.append([(before.end / ticks, first), (after.start / ticks, first)])
    return joins


def _style(axis: Axes, found: Explained, ticks: float, scale: TimeScale) -> None:
    end = found.times.makespan / ticks or 1.0
    axis.axvline(end, color=INK, linewidth=1.0, linestyle=(0, (3, 2)), zorder=6)
    axis.set_xlim(0, end * 1.004)
    axis.set_ylim(max(2, len(found.units)) - 0.5, -0.5)
    axis.set_yticks(range(len(found.units)), labels=list(found.units), fontsize=8.5)
    axis.tick_params(axis="y", length=0)
    axis.tick_params(axis="x", labelsize=8, color=FAINT)
    axis.set_xlabel(scale.label, fontsize=9, color=INK)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.spines["bottom"].set_color(FAINT)


def _draw_bars(axis: Axes, found: Explained) -> None:
    """Each unit's step as one bar: busy, then idle by reason; its share at the end."""
    whole = found.times.makespan or 1
    for row, causes in enumerate(found.by_cause):
        left = (whole - sum(causes.values())) / whole
        axis.barh(row, left, height=2 * _HALF * 0.62, color="#8A8A8A")
        for cause in Cause:
            if cause in causes:
                share = causes[cause] / whole
                axis.barh(row, share, left=left, height=2 * _HALF * 0.62, color=CAUSE_COLOURS[cause])
                left += share
        idle = 100 * sum(causes.values()) / whole
        axis.text(1.03, row, f"{idle:.0f} %", fontsize=8, color=FAINT, va="center_baseline")
    axis.set_xlim(0, 1.25)
    axis.set_ylim(max(2, len(found.units)) - 0.5, -0.5)
    axis.set_yticks([])
    axis.set_xticks([])
    axis.set_title("idle share", fontsize=8.5, color=FAINT, loc="left", pad=3)
    for spine in axis.spines.values():
        spine.set_visible(False)


def _decorate(figure: Figure, found: Explained, title: str, scale: TimeScale) -> None:
    height = figure.get_figheight()
    makespan = scale.text(float(typed(found.timeline, found.times.makespan)))
    figure.text(_LEFT, 1 - 0.10 / height, title, fontsize=13, fontweight="bold", color=INK, va="top")
    tasks = sum(1 for step in found.path if step.item != NONE)
    detail = f"makespan {makespan}; critical path of {tasks} tasks outlined, transfers as lines; pale tasks have slack"
    figure.text(_LEFT, 1 - 0.36 / height, detail, fontsize=9, color=FAINT, va="top")
    kinds = {task.id.kind for task in found.problem.tasks.tasks}
    patches = [Patch(facecolor=KIND_COLOURS[kind], label=KIND_NAMES[kind]) for kind in KINDS if kind in kinds]
    patches.append(Patch(facecolor="none", edgecolor=PATH, linewidth=1.8, label="critical path"))
    causes = [cause for cause in Cause if any(cause in row for row in found.by_cause)]
    idle = [Patch(facecolor=CAUSE_COLOURS[c], edgecolor="#C8C8C8", label=CAUSE_WORDS[c]) for c in causes]
    for handles, y, name in ((patches, 0.44, "tasks"), (idle, 0.16, "idle")):
        if not handles:
            continue
        figure.text(_LEFT, (y + 0.13) / height, name, fontsize=8.5, color=FAINT, va="center")
        legend = figure.legend(
            handles=handles,
            loc="center left",
            bbox_to_anchor=(_LEFT + 0.03, (y + 0.13) / height),
            ncols=len(handles),
            frameon=False,
            fontsize=8.5,
            handlelength=1.2,
            handleheight=1.0,
            columnspacing=1.5,
            borderaxespad=0.0,
        )
        figure.add_artist(legend)
