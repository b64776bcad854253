"""Live memory of every unit over time as PNG: stacked categories, measured over predicted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from alrsim.errors import OptionError
from alrsim.report.gantt import render
from alrsim.report.palette import CATEGORY_COLOURS, FAINT, INK
from alrsim.report.timescale import TimeScale, scale_for
from alrsim.tasks.taskgraph import Category
from alrsim.timeline.timeline import MemPoint, Timeline
from alrsim.units import format_bytes

_BYTE_STEPS = ((10**9, "GB"), (10**6, "MB"), (10**3, "KB"), (1, "B"))
_LEFT, _RIGHT, _CELL_HEIGHT = 0.085, 0.985, 1.25


@dataclass(frozen=True)
class MemoryRow:
    """One method: what was predicted and, if it ran, what was measured."""

    title: str
    predicted: Timeline
    measured: Timeline | None = None


def draw_memory(
    rows: Sequence[MemoryRow], title: str = "", *, capacity: Mapping[str, int | None] | None = None
) -> bytes:
    """A PNG with one row per method and one column per unit; byte axis and time axis are shared by all cells.

    The stacked areas are the prediction; the black line is the measured total. A red line marks a unit's
    capacity where the axis reaches it.

    Raises:
        OptionError: nothing to draw, or methods on different units.
    """
    if not rows:
        raise OptionError("a memory plot needs at least one timeline")
    units = rows[0].predicted.units
    if any(row.predicted.units != units for row in rows):
        raise OptionError("the methods of one memory plot must run on the same units")
    timelines = [line for row in rows for line in (row.predicted, row.measured) if line is not None]
    time = scale_for(max(t.makespan / t.ticks_per_unit for t in timelines), timelines[0].time_unit)
    peak = max((point.total for line in timelines for point in line.memory), default=0)
    size, suffix = next(((size, text) for size, text in _BYTE_STEPS if peak >= size), (1, "B"))
    figure, cells = _grid(len(rows), len(units))
    end = max(t.makespan / t.ticks_per_unit for t in timelines) / time.divisor
    for row, line_cells in zip(rows, cells, strict=True):
        for unit, axis in zip(units, line_cells, strict=True):
            _draw_cell(axis, row, unit, time, size)
            limit = (capacity or {}).get(unit)
            if limit is not None and limit <= 1.2 * peak:
                axis.axhline(limit / size, color="#C00000", linewidth=1.2)
            axis.set_xlim(0, end * 1.01)
            axis.set_ylim(0, peak / size * 1.18 or 1)
            axis.yaxis.set_major_locator(MaxNLocator(4))
    _annotate(figure, cells, rows, units, time, suffix, title)
    return render(figure)


def _grid(rows: int, columns: int) -> tuple[Figure, list[list[Axes]]]:
    total = 0.75 + rows * _CELL_HEIGHT + (rows - 1) * 0.34 + 0.95
    figure = Figure(figsize=(13.0, total))
    FigureCanvasAgg(figure)
    gap = 0.012
    width = (_RIGHT - _LEFT - gap * (columns - 1)) / columns
    cells = []
    for row in range(rows):
        y = (total - 0.75 - _CELL_HEIGHT - row * (_CELL_HEIGHT + 0.34)) / total
        cells.append(
            [figure.add_axes((_LEFT + c * (width + gap), y, width, _CELL_HEIGHT / total)) for c in range(columns)]
        )
    return figure, cells


def _draw_cell(axis: Axes, row: MemoryRow, unit: str, time: TimeScale, size: int) -> None:
    times, stacks = _steps(row.predicted, unit, time)
    base = [0.0] * len(times)
    for category in Category:
        values = [live.get(category, 0) / size for live in stacks]
        if any(values):
            top = [low + value for low, value in zip(base, values, strict=True)]
            axis.fill_between(times, base, top, step="post", color=CATEGORY_COLOURS[category], linewidth=0)
            base = top
    peak = f"peak {_peak_text(row.predicted, unit)}"
    if row.measured is not None:
        times, stacks = _steps(row.measured, unit, time)
        totals = [sum(live.values()) / size for live in stacks]
        axis.step(times, totals, where="post", color=INK, linewidth=1.1)
        peak += f" · measured {_peak_text(row.measured, unit)}"
    axis.text(0.99, 0.97, peak, transform=axis.transAxes, fontsize=7.5, color=INK, ha="right", va="top")


def _peak_text(timeline: Timeline, unit: str) -> str:
    return format_bytes(max((point.total for point in timeline.memory if point.unit == unit), default=0))


def _steps(timeline: Timeline, unit: str, time: TimeScale) -> tuple[list[float], list[Mapping[Category, int]]]:
    """Times and live bytes of one unit, held until the end of the step."""
    points: list[MemPoint] = [point for point in timeline.memory if point.unit == unit]
    ticks = timeline.ticks_per_unit * time.divisor
    times = [point.time / ticks for point in points]
    stacks: list[Mapping[Category, int]] = [point.live for point in points]
    if points:
        times.append(max(timeline.makespan, points[-1].time) / ticks)
        stacks.append(points[-1].live)
    return times, stacks


def _annotate(
    figure: Figure,
    cells: list[list[Axes]],
    rows: Sequence[MemoryRow],
    units: Sequence[str],
    time: TimeScale,
    suffix: str,
    title: str,
) -> None:
    height = figure.get_figheight()
    for row, line in zip(rows, cells, strict=True):
        line[0].set_ylabel(f"live [{suffix}]", fontsize=8.5, color=INK)
        line[0].text(0, 1.05, row.title, transform=line[0].transAxes, fontsize=10, fontweight="bold", color=INK)
        for axis in line:
            axis.tick_params(labelsize=7.5, color=FAINT, labelleft=axis is line[0], labelbottom=line is cells[-1])
            for side in ("top", "right"):
                axis.spines[side].set_visible(False)
    for axis, unit in zip(cells[-1], units, strict=True):
        axis.set_xlabel(f"{unit} · {time.label}", fontsize=8.5, color=INK)
    figure.text(_LEFT, 1 - 0.12 / height, title, fontsize=13, fontweight="bold", color=INK, va="top")
    used = {c for row in rows for point in row.predicted.memory for c, count in point.live.items() if count}
    handles = [Patch(facecolor=CATEGORY_COLOURS[c], label=f"{c.value} (predicted)") for c in Category if c in used]
    if any(row.measured is not None for row in rows):
        handles.append(Patch(facecolor=INK, label="measured total"))
    figure.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(_LEFT - 0.006, 0.05 / height),
        ncols=max(1, len(handles)),
        frameon=False,
        fontsize=8.5,
        handlelength=1.2,
    )
