"""Gantt charts as PNG: one row per unit, predicted above measured, every method on one time axis."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from alrsim.errors import OptionError
from alrsim.reports.canvas import WIDTH_INCHES, quiet, render
from alrsim.reports.palette import FAINT, IDLE, IDLE_EDGE, INK, KIND_COLOURS, ink_on, shade
from alrsim.reports.timescale import TimeScale, scale_for
from alrsim.tasks.token import KIND_NAMES, KINDS, TaskId
from alrsim.timeline.timeline import MANY_SPANS, Span, Timeline

ROW_INCHES = 0.34
LABEL_POINTS = 7.5
_AXES_LEFT, _AXES_RIGHT = 0.075, 0.985
_POINTS_PER_CHARACTER = 0.62
_HALF_BAR = 0.44
_READING = "bare number: micro-batch · lighter: later one · dashed line: makespan"


@dataclass(frozen=True)
class Panel:
    """One timeline of a chart.

    Attributes:
        title: Bold heading, such as ``bp:1f1b``.
        detail: What follows it, such as ``predicted 3.2 ms``.
    """

    title: str
    timeline: Timeline
    detail: str = ""


MOST_UNITS = 500
"""Rows of a chart: pictures of more are too high to be drawn."""


def too_large(timelines: Sequence[Timeline]) -> str:
    """Why timelines cannot be drawn, in words; empty if they can."""
    spans, units = sum(line.span_count for line in timelines), max(len(line.units) for line in timelines)
    if spans <= MANY_SPANS and units <= MOST_UNITS:
        return ""
    return f"{spans:,} tasks on {units:,} units (charts have up to {MANY_SPANS:,} and {MOST_UNITS:,})"


def draw_gantt(panels: Sequence[Panel], title: str = "", *, note: str = "") -> bytes:
    """:func:`gantt_figure` as PNG."""
    return render(gantt_figure(panels, title, note=note))


def draw_gantt_into(axis: Axes, timeline: Timeline, title: str = "") -> None:
    """One timeline into axes of somebody's own.

    Raises:
        OptionError: too many tasks or units.
    """
    if why := too_large([timeline]):
        raise OptionError(f"cannot draw {why}", fix="look at its metrics, or draw a smaller step")
    longest = timeline.makespan / timeline.ticks_per_unit
    scale = scale_for(longest, timeline.time_unit)
    _draw_panel(axis, Panel(title, timeline), scale, longest / scale.divisor or 1.0)
    axis.set_xlabel(scale.label, fontsize=9, color=INK)


def gantt_figure(panels: Sequence[Panel], title: str = "", *, note: str = "") -> Figure:
    """A figure with every panel below the other on one shared time axis.

    Args:
        note: A line of small print below the chart.

    Raises:
        OptionError: no panels, panels with different time units, or too many tasks or units.
    """
    if not panels:
        raise OptionError("a chart needs at least one timeline")
    if why := too_large([panel.timeline for panel in panels]):
        raise OptionError(f"cannot draw {why}", fix="look at its metrics, or draw a smaller step")
    if len({panel.timeline.time_unit for panel in panels}) > 1:
        raise OptionError("timelines in nanoseconds and in typed units cannot share one time axis")
    longest = max(panel.timeline.makespan / panel.timeline.ticks_per_unit for panel in panels)
    scale = scale_for(longest, panels[0].timeline.time_unit)
    figure, axes = _canvas([len(panel.timeline.units) for panel in panels], bool(title))
    end = longest / scale.divisor or 1.0
    for axis, panel in zip(axes, panels, strict=True):
        _draw_panel(axis, panel, scale, end)
    for axis in axes[:-1]:
        axis.tick_params(labelbottom=False)
    axes[-1].set_xlabel(scale.label, fontsize=9, color=INK)
    _decorate(figure, panels, title, note)
    return figure


def _canvas(rows: Sequence[int], titled: bool) -> tuple[Figure, list[Axes]]:
    """A figure whose axes have exactly ``ROW_INCHES`` per unit, however many there are."""
    top, bottom = (0.42 if titled else 0.12), 0.98
    heading, gap = 0.27, 0.10
    heights = [max(2, count) * ROW_INCHES for count in rows]
    total = top + bottom + sum(heights) + len(rows) * heading + (len(rows) - 1) * gap
    figure = Figure(figsize=(WIDTH_INCHES, total))
    axes, y = [], total - top
    for height in heights:
        y -= heading + height
        axes.append(figure.add_axes((_AXES_LEFT, y / total, _AXES_RIGHT - _AXES_LEFT, height / total)))
        y -= gap
    return figure, axes


def _draw_panel(axis: Axes, panel: Panel, scale: TimeScale, end: float) -> None:
    timeline = panel.timeline
    row = {unit: index for index, unit in enumerate(timeline.units)}
    ticks = timeline.ticks_per_unit * scale.divisor
    for index in row.values():
        axis.barh(
            index,
            timeline.makespan / ticks,
            height=2 * _HALF_BAR,
            color=IDLE,
            edgecolor=IDLE_EDGE,
            linewidth=0.5,
        )
    microbatches = 1 + max((span.task.microbatch for span in timeline.spans), default=0)
    polygons, colours = [], []
    for span in timeline.spans:
        left, right, y = span.start / ticks, span.end / ticks, row[span.unit]
        low, high = y - _HALF_BAR, y + _HALF_BAR
        polygons.append([(left, low), (right, low), (right, high), (left, high)])
        colours.append(shade(KIND_COLOURS[span.task.kind], span.task.microbatch, microbatches))
    width = 0.5 if len(polygons) < 800 else 0.15
    axis.add_collection(PolyCollection(polygons, facecolors=colours, edgecolors="white", linewidths=width))
    _label_spans(axis, timeline.spans, row, ticks, end, microbatches)
    _mark_end(axis, timeline, ticks)
    _style_axis(axis, timeline, end)
    head = axis.text(0, 1.02, panel.title, transform=axis.transAxes, fontsize=10, fontweight="bold", color=INK)
    axis.annotate(
        panel.detail,
        (1, 0),
        (8, 0),
        xycoords=head,
        textcoords="offset points",
        annotation_clip=False,
        fontsize=9,
        color=FAINT,
        va="bottom",
    )


def _mark_end(axis: Axes, timeline: Timeline, ticks: float) -> None:
    axis.axvline(timeline.makespan / ticks, color=INK, linewidth=1.0, linestyle=(0, (3, 2)))


def _label_spans(
    axis: Axes, spans: Sequence[Span], row: dict[str, int], ticks: float, end: float, microbatches: int
) -> None:
    """Write tokens where they fit; spans of one kind get one form (token or micro-batch), so rows stay calm."""
    points_per_time = WIDTH_INCHES * 72 * (_AXES_RIGHT - _AXES_LEFT) / (end * 1.01) / ticks
    rooms: dict[str, list[float]] = {}
    for span in spans:
        rooms.setdefault(span.task.kind, []).append((span.end - span.start) * points_per_time)
    usual = {kind: sorted(values)[len(values) // 4] for kind, values in rooms.items()}
    widest = {kind: max((str(s.task) for s in spans if s.task.kind == kind), key=len) for kind in rooms}
    for span in spans:
        room = (span.end - span.start) * points_per_time
        long = _fits(widest[span.task.kind], usual[span.task.kind])
        text = str(span.task) if long else _short_label(span.task)
        if _fits(text, room):
            ink = ink_on(shade(KIND_COLOURS[span.task.kind], span.task.microbatch, microbatches))
            middle = (span.start + span.end) / 2 / ticks
            axis.text(
                middle,
                row[span.unit],
                text,
                fontsize=LABEL_POINTS,
                color=ink,
                ha="center",
                va="center_baseline",
            )


def _short_label(task: TaskId) -> str:
    return str(task.microbatch) if task.microbatch >= 0 else task.kind


def _fits(text: str, room: float) -> bool:
    return len(text) * LABEL_POINTS * _POINTS_PER_CHARACTER + 2 <= room


def _style_axis(axis: Axes, timeline: Timeline, end: float) -> None:
    axis.set_xlim(0, end * 1.01)
    axis.set_ylim(max(2, len(timeline.units)) - 0.5, -0.5)
    axis.set_yticks(range(len(timeline.units)), labels=list(timeline.units), fontsize=8.5)
    quiet(axis, "left")
    axis.tick_params(axis="y", length=0, labelsize=8.5)
    axis.spines["bottom"].set_color(FAINT)


def _decorate(figure: Figure, panels: Sequence[Panel], title: str, note: str) -> None:
    height = figure.get_figheight()
    if title:
        figure.text(_AXES_LEFT, 1 - 0.10 / height, title, fontsize=13, fontweight="bold", color=INK, va="top")
    kinds = {span.task.kind for panel in panels for span in panel.timeline.spans}
    patches = [
        Patch(facecolor=KIND_COLOURS[kind], label=f"{kind}  {KIND_NAMES[kind]}") for kind in KINDS if kind in kinds
    ]
    patches.append(Patch(facecolor=IDLE, edgecolor=IDLE_EDGE, label="idle"))
    figure.legend(
        handles=patches,
        loc="lower left",
        bbox_to_anchor=(_AXES_LEFT - 0.006, 0.24 / height),
        ncols=len(patches),
        frameon=False,
        fontsize=8.5,
        handlelength=1.2,
        handleheight=1.0,
        columnspacing=1.6,
    )
    figure.text(_AXES_RIGHT, 0.10 / height, _READING, fontsize=8, color=FAINT, ha="right", va="bottom")
    if note:
        figure.text(_AXES_LEFT, 0.10 / height, note, fontsize=8, color=FAINT, va="bottom")
