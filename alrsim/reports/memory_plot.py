"""Live memory of every unit over time as PNG, by category: what was predicted, and below it what was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from alrsim.errors import OptionError
from alrsim.reports.canvas import render
from alrsim.reports.palette import CATEGORY_COLOURS, FAINT, INK
from alrsim.reports.timescale import TimeScale, scale_for
from alrsim.tasks.taskgraph import Category
from alrsim.timeline.memory import peak_memory, resident_peaks
from alrsim.timeline.timeline import MemPoint, Timeline
from alrsim.units import format_bytes

_BYTE_STEPS = ((10**9, "GB"), (10**6, "MB"), (10**3, "KB"), (1, "B"))
_LEFT, _RIGHT, _GAP = 0.085, 0.985, 0.012
_TOP, _BOTTOM, _CELL, _BETWEEN, _APART = 0.92, 0.75, 1.15, 0.12, 0.82
"""Inches: above the first cell, below the last, a cell, between cells of a method, between methods."""


@dataclass(frozen=True)
class MemoryRow:
    """One method: what was predicted and, if it ran, what was measured."""

    title: str
    predicted: Timeline
    measured: Timeline | None = None

    @property
    def lines(self) -> tuple[Timeline, ...]:
        return (self.predicted,) if self.measured is None else (self.predicted, self.measured)


@dataclass(frozen=True)
class _Scale:
    """Axes of one method."""

    time: TimeScale
    end: float
    size: int
    suffix: str
    peak: int


def draw_memory(
    rows: Sequence[MemoryRow], title: str = "", *, capacity: Mapping[str, int | None] | None = None
) -> bytes:
    """A PNG with one column per unit. A method has one line of cells, or two where it ran: predicted and measured.

    All cells of a method share the byte axis and the time axis. A dot marks every peak; on what was measured, how far
    off the prediction was. A red line marks a unit's capacity where the axis reaches it.

    Raises:
        OptionError: nothing to draw, or methods on different units.
    """
    if not rows:
        raise OptionError("a memory plot needs at least one timeline")
    units = rows[0].predicted.units
    if any(row.predicted.units != units for row in rows):
        raise OptionError("the methods of one memory plot must run on the same units")
    figure, cells = _grid([len(row.lines) for row in rows], len(units))
    for row, lines in zip(rows, cells, strict=True):
        scale = _scale(row)
        for timeline, axes in zip(row.lines, lines, strict=True):
            for unit, axis in zip(units, axes, strict=True):
                _draw_cell(axis, timeline, unit, scale, row.predicted)
                _draw_capacity(axis, (capacity or {}).get(unit), scale)
        _label(row, lines, units, scale)
    _annotate(figure, rows, title)
    return render(figure)


def _scale(row: MemoryRow) -> _Scale:
    longest = max(line.makespan / line.ticks_per_unit for line in row.lines)
    time = scale_for(longest, row.predicted.time_unit)
    peak = max((point.total for line in row.lines for point in line.memory), default=0)
    size, suffix = next(((size, text) for size, text in _BYTE_STEPS if peak >= size), (1, "B"))
    return _Scale(time, longest / time.divisor, size, suffix, peak)


def _grid(lines: Sequence[int], columns: int) -> tuple[Figure, list[list[list[Axes]]]]:
    """Axes by method, line and unit."""
    inner = sum(count * _CELL + (count - 1) * _BETWEEN for count in lines)
    total = _TOP + inner + (len(lines) - 1) * _APART + _BOTTOM
    figure = Figure(figsize=(13.0, total))
    width = (_RIGHT - _LEFT - _GAP * (columns - 1)) / columns
    cells: list[list[list[Axes]]] = []
    top = total - _TOP
    for count in lines:
        cells.append([])
        for _ in range(count):
            low, height = (top - _CELL) / total, _CELL / total
            cells[-1].append(
                [figure.add_axes((_LEFT + c * (width + _GAP), low, width, height)) for c in range(columns)]
            )
            top -= _CELL + _BETWEEN
        top += _BETWEEN - _APART
    return figure, cells


def _draw_cell(axis: Axes, timeline: Timeline, unit: str, scale: _Scale, predicted: Timeline) -> None:
    times, stacks = _steps(timeline, unit, scale.time)
    base = [0.0] * len(times)
    for category in Category:
        values = [live.get(category, 0) / scale.size for live in stacks]
        if any(values):
            top = [low + value for low, value in zip(base, values, strict=True)]
            axis.fill_between(times, base, top, step="post", color=CATEGORY_COLOURS[category], linewidth=0)
            base = top
    axis.step(times, base, where="post", color=INK, linewidth=0.7)
    peak = peak_memory(timeline)[unit]
    if peak:
        at = times[base.index(max(base))]
        axis.plot([at], [peak / scale.size], marker="o", markersize=4, color=INK, clip_on=False, zorder=5)
    text = f"peak {format_bytes(peak)}"
    if timeline is not predicted and peak:
        text += f" (predicted {100 * (peak_memory(predicted)[unit] / peak - 1):+.1f} %)"
    axis.text(0.995, 0.97, text, transform=axis.transAxes, fontsize=8.5, color=INK, ha="right", va="top")
    axis.set_xlim(0, scale.end * 1.005 or 1)
    axis.set_ylim(0, scale.peak / scale.size * 1.32 or 1)
    axis.yaxis.set_major_locator(MaxNLocator(3))
    axis.spines[["top", "right"]].set_visible(False)


def _draw_capacity(axis: Axes, limit: int | None, scale: _Scale) -> None:
    if limit is not None and limit <= 1.2 * scale.peak:
        axis.axhline(limit / scale.size, color="#C00000", linewidth=1.2)


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


def _label(row: MemoryRow, lines: Sequence[Sequence[Axes]], units: Sequence[str], scale: _Scale) -> None:
    """Title, units and axes of one method."""
    first = lines[0][0]
    first.text(0, 1.2, row.title, transform=first.transAxes, fontsize=11, fontweight="bold", color=INK)
    if row.measured is not None and resident_peaks(row.measured):
        words = ", ".join(f"{name} {format_bytes(size)}" for name, size in resident_peaks(row.measured).items())
        last = lines[0][-1]
        text = f"resident memory of the {words}, Python and torch included"
        last.text(1, 1.2, text, transform=last.transAxes, fontsize=8.5, color=FAINT, ha="right")
    for unit, axis in zip(units, lines[0], strict=True):
        axis.text(0, 1.05, unit, transform=axis.transAxes, fontsize=8.5, color=FAINT)
    for source, axes in zip(("predicted", "measured"), lines, strict=False):
        axes[0].set_ylabel(f"{source}\n[{scale.suffix}]", fontsize=8.5, color=INK)
        for axis in axes:
            bottom = axes is lines[-1]
            axis.tick_params(labelsize=7.5, color=FAINT, labelleft=axis is axes[0], labelbottom=bottom)
            if bottom:
                axis.set_xlabel(scale.time.label, fontsize=8, color=INK, labelpad=1)


def _annotate(figure: Figure, rows: Sequence[MemoryRow], title: str) -> None:
    height = figure.get_figheight()
    figure.text(_LEFT, 1 - 0.12 / height, title, fontsize=13, fontweight="bold", color=INK, va="top")
    used = {
        c for row in rows for line in row.lines for point in line.memory for c, count in point.live.items() if count
    }
    handles = [Patch(facecolor=CATEGORY_COLOURS[c], label=c.value) for c in Category if c in used]
    if handles:
        figure.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(_LEFT - 0.006, 0.02 / height),
            ncols=len(handles),
            frameon=False,
            fontsize=9,
            handlelength=1.2,
        )
