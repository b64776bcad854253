"""The Pareto front of step time, peak memory and gradient quality as a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from matplotlib.axes import Axes as Panel
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from alrsim.reports.canvas import WIDTH_INCHES, quiet, render
from alrsim.reports.palette import FAINT, INK
from alrsim.reports.timescale import TimeScale, scale_for
from alrsim.units import format_bytes

EXACT = "#D55E00"
_ESTIMATED = ("#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#4D4D4D", "#F0E442")
_PALE = "#C9CDD2"
_MAP = "viridis"


@dataclass(frozen=True, slots=True)
class Point:
    """A result.

    Attributes:
        time: In the unit of the axes (ns, or steps).
        memory: Bytes.
        quality: Cosine or copies; ``None``: an exact gradient.
        best: On the front.
        label: Its method.
    """

    time: float
    memory: int
    quality: float | None
    best: bool
    label: str = ""


@dataclass(frozen=True, slots=True)
class Axes:
    """What time and quality are measured in: ``ns`` or ``user``; ``cosine`` or ``copies``."""

    time_unit: str
    quality: str


def draw_pareto(points: Sequence[Point], axes: Axes, title: str = "") -> bytes:
    """A PNG: memory over time (colour: quality), and quality over time (colour: memory); the front stands out."""
    figure = Figure(figsize=(WIDTH_INCHES, 5.4))
    scale = scale_for(max((point.time for point in points), default=1.0), axes.time_unit)
    left = figure.add_axes((0.065, 0.15, 0.385, 0.66))
    right = figure.add_axes((0.575, 0.15, 0.385, 0.66))
    _memory_panel(left, points, axes, scale)
    _quality_panel(right, points, axes, scale)
    for panel in (left, right):
        _style(panel, points, scale)
    figure.text(
        0.065,
        0.965,
        title if len(title) < 100 else f"{title[:98]}...",
        fontsize=13,
        fontweight="bold",
        color=INK,
        va="top",
    )
    best = sum(point.best for point in points)
    detail = f"{len(points)} configurations that fit; {best} are on the Pareto front of time, memory and quality"
    figure.text(0.065, 0.905, detail, fontsize=9, color=FAINT, va="top")
    return render(figure)


def _norm(points: Sequence[Point], axes: Axes) -> Any:
    values = [point.quality for point in points if point.quality is not None]
    low, high = min(values, default=1.0), max(values, default=1.0)
    if low == high:
        high = low + 1e-9 if axes.quality == "cosine" else low * 2
    return LogNorm(low, high) if axes.quality == "copies" else Normalize(low, high)


def _memory_panel(panel: Panel, points: Sequence[Point], axes: Axes, scale: TimeScale) -> None:
    rest = [point for point in points if not point.best]
    panel.scatter([p.time / scale.divisor for p in rest], [max(1, p.memory) for p in rest], s=9, color=_PALE, zorder=2)
    best = sorted((point for point in points if point.best), key=lambda point: point.quality or float("inf"))
    estimated = [point for point in best if point.quality is not None]
    if estimated:
        norm = _norm(points, axes)
        found = panel.scatter(
            [p.time / scale.divisor for p in estimated],
            [max(1, p.memory) for p in estimated],
            c=[float(p.quality or 0) for p in estimated],
            cmap=_MAP,
            norm=norm,
            s=46,
            edgecolors="white",
            linewidths=0.7,
            zorder=4,
        )
        place = panel.inset_axes((1.03, 0.0, 0.025, 1.0))
        bar = panel.figure.colorbar(found, cax=place)
        if axes.quality == "copies":
            bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            bar.ax.yaxis.set_minor_formatter(FuncFormatter(_minor))
        bar.set_label(axes.quality, fontsize=8.5, color=FAINT)
        bar.ax.tick_params(labelsize=7.5, color=FAINT)
        bar.outline.set_visible(False)
    exact = [point for point in best if point.quality is None]
    panel.scatter(
        [p.time / scale.divisor for p in exact],
        [max(1, p.memory) for p in exact],
        s=54,
        marker="D",
        color=EXACT,
        edgecolors="white",
        linewidths=0.7,
        zorder=5,
    )
    panel.set_yscale("log")
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_bytes(int(value))))
    panel.yaxis.set_minor_formatter(NullFormatter())
    panel.set_title("peak memory of the fullest unit", fontsize=10, color=INK, loc="left", fontweight="bold")


def _quality_panel(panel: Panel, points: Sequence[Point], axes: Axes, scale: TimeScale) -> None:
    top = _exact_height(points, axes)

    def height(point: Point) -> float:
        return top if point.quality is None else point.quality

    rest = [point for point in points if not point.best]
    panel.scatter([p.time / scale.divisor for p in rest], [height(p) for p in rest], s=9, color=_PALE, zorder=2)
    labels = list(dict.fromkeys(point.label.partition(":")[0] for point in points if point.best))
    estimated = [label for label in labels if not _all_exact(points, label)]
    colours = dict(zip(estimated, cycle(_ESTIMATED), strict=False))
    for label in labels:
        mine = [point for point in points if point.best and point.label.partition(":")[0] == label]
        panel.scatter(
            [p.time / scale.divisor for p in mine],
            [height(p) for p in mine],
            s=46,
            color=EXACT if all(p.quality is None for p in mine) else colours.get(label, INK),
            marker="D" if all(p.quality is None for p in mine) else "o",
            edgecolors="white",
            linewidths=0.7,
            zorder=4,
        )
    if axes.quality == "copies":
        panel.set_yscale("log", base=2)
        panel.yaxis.set_major_formatter(FuncFormatter(lambda v, _: "exact" if v == top else f"{v:g}"))
        if any(point.quality is None for point in points):
            panel.axhline(top, color="0.85", linewidth=0.8, zorder=1)
    handles = [
        Line2D(
            [],
            [],
            linestyle="",
            marker="D" if _all_exact(points, label) else "o",
            color=EXACT if _all_exact(points, label) else colours.get(label, INK),
            label=label,
        )
        for label in labels
    ]
    handles.append(Line2D([], [], linestyle="", marker="o", markersize=3.5, color=_PALE, label="beaten"))
    panel.legend(handles=handles, fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(0.0, -0.13), ncols=6)
    words = "cosine with the true gradient" if axes.quality == "cosine" else "copies (exact gradients on top)"
    panel.set_title(words, fontsize=10, color=INK, loc="left", fontweight="bold")


def _minor(value: float, _: object) -> str:
    """A number at 2 and 5 of every decade only."""
    digits = f"{value:.3e}"
    return f"{value:g}" if digits.startswith(("2.000", "5.000")) else ""


def _all_exact(points: Sequence[Point], label: str) -> bool:
    return all(p.quality is None for p in points if p.best and p.label.partition(":")[0] == label)


def _exact_height(points: Sequence[Point], axes: Axes) -> float:
    """Where exact gradients are drawn: at cosine 1; above all numbers of copies."""
    if axes.quality == "cosine":
        return 1.0
    most = max((point.quality for point in points if point.quality is not None), default=1.0)
    return float(2 ** (int(most).bit_length() + 1))


def _style(panel: Panel, points: Sequence[Point], scale: TimeScale) -> None:
    times = [point.time for point in points if point.time > 0]
    if times and max(times) > 8 * min(times):
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        few = max(times) < 40 * min(times)
        panel.xaxis.set_minor_formatter(FuncFormatter(_minor) if few else NullFormatter())
        panel.tick_params(which="minor", labelsize=8, color=FAINT)
    panel.set_xlabel(scale.label.replace("time", "step time"), fontsize=9, color=INK)
    quiet(panel)
    panel.grid(True, which="major", color="0.93", linewidth=0.8)
    panel.set_axisbelow(True)
    panel.spines[["left", "bottom"]].set_color("#B5B5B5")
