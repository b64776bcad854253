"""Pictures of gradient quality as PNG bytes."""

from collections.abc import Sequence
from math import ceil

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from alrsim.quality.curves import Curve, Quality
from alrsim.reports.canvas import quiet, render
from alrsim.reports.palette import FAINT, INK

COLOURS = {
    "lr": "#E69F00",
    "alr": "#009E73",
    "bp": "#0072B2",
    "es": "#56B4E9",
    "aes": "#CC79A7",
    "hybrid": "#D55E00",
    "a-hybrid": "#5D3A9B",
    "lr-rademacher": "#1A1A1A",
    "lr-laplace": "#999933",
    "lr-hadamard": "#882255",
}
"""Orange, green and blue as in the ALR paper's figures, in the Okabe-Ito tones that colour-blind readers can tell; the
other methods' are theirs and Tol's."""

_DPI, _CELL_WIDTH, _CELL_HEIGHT, _MOST_COLUMNS = 130, 3.1, 2.35, 4
_LEAST_WIDTH = 9.0
_BESIDE_TITLE = 4
"""More methods have the legend in a line of its own."""


def draw_cosines(qualities: Sequence[Quality], title: str, note: str) -> bytes:
    """One panel per layer and two for all layers: cosine over copies (log axis), 95 % bands, the fitted law dashed."""
    count = len(qualities[0].curves)
    columns = count if count <= _MOST_COLUMNS + 1 else _MOST_COLUMNS
    rows = ceil(count / columns)
    crowded = len(qualities) > _BESIDE_TITLE
    top = 0.86 + 0.26 * crowded
    width, height = max(_LEAST_WIDTH, columns * _CELL_WIDTH + 0.5), rows * _CELL_HEIGHT + 0.29 + top
    figure = Figure(figsize=(width, height))
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
    lowest = min(0.0, *(_lowest(curve) for quality in qualities for curve in quality.curves))
    for index, axis in enumerate(axes.flat):
        if index >= count:
            axis.set_axis_off()
            continue
        for order, quality in enumerate(qualities):
            # A hybrid's layers are those of its parts: what lies below must show at the sides.
            line = 1.6 + 0.35 * (len(qualities) - 1 - order) if crowded else 1.6
            _draw_curve(axis, quality, quality.curves[index], line)
        _dress(axis, qualities[0].curves[index], qualities[0].copies, lowest)
        axis.tick_params(labelbottom=index + columns >= count)
        if index + columns >= count:
            axis.set_xlabel("copies", fontsize=9, color=INK)
        if index % columns == 0:
            axis.set_ylabel("cosine with true gradient", fontsize=8.5, color=INK)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.subplots_adjust(
        left=0.62 / width, right=1 - 0.12 / width, top=1 - top / height, bottom=0.5 / height, wspace=0.09, hspace=0.3
    )
    figure.text(0.12 / width, 1 - 0.12 / height, title, fontsize=12, fontweight="bold", color=INK, va="top")
    figure.text(0.12 / width, 1 - 0.38 / height, note, fontsize=8, color=FAINT, va="top")
    place = {"loc": "upper left", "bbox_to_anchor": (0.0, 1 - 0.53 / height)} if crowded else {"loc": "upper right"}
    figure.legend(handles, labels, frameon=False, fontsize=9, ncols=len(handles), **place)
    return render(figure, _DPI)


def draw_curves(axis: Axes, qualities: Sequence[Quality], curves: Sequence[Curve]) -> None:
    """A curve of each method, in one panel."""
    for quality, curve in zip(qualities, curves, strict=True):
        _draw_curve(axis, quality, curve, 1.6)
    _dress(axis, curves[0], qualities[0].copies, min(0.0, *map(_lowest, curves)))
    axis.set_xlabel("copies", fontsize=9, color=INK)


def _lowest(curve: Curve) -> float:
    return min(point.value if point.low is None else point.low for point in curve.cosine)


def _draw_curve(axis: Axes, quality: Quality, curve: Curve, line: float) -> None:
    colour = COLOURS.get(quality.method, FAINT)
    band, copies = curve.cosine, quality.copies
    axis.plot(copies, [point.value for point in band], color=colour, linewidth=line, marker="o", markersize=line + 1)
    axis.plot([], [], color=colour, linewidth=2.5, label=quality.method.upper())
    if band[0].low is not None and band[0].high is not None:
        axis.fill_between(
            copies, [p.low or 0.0 for p in band], [p.high or 0.0 for p in band], color=colour, alpha=0.2, linewidth=0
        )
    if curve.kind == "layer" and curve.law is not None and curve.law.determined:
        dense = np.geomspace(copies[0], copies[-1], 60)
        axis.plot(dense, curve.law.at(dense), color=colour, linewidth=1, linestyle=(0, (4, 2)))


def _dress(axis: Axes, curve: Curve, copies: Sequence[int], lowest: float) -> None:
    axis.set_xscale("log")
    axis.set_ylim(max(-1.0, lowest - 0.03), 1.03)
    ticks = _ticks(copies)
    axis.set_xticks(ticks)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.yaxis.set_major_locator(MaxNLocator(5))
    axis.grid(axis="y", color="#E5E5E5", linewidth=0.7)
    axis.axhline(0, color=FAINT, linewidth=0.7)
    axis.set_axisbelow(True)
    bold = "normal" if curve.kind == "layer" else "bold"
    axis.set_title(_cut_short(curve.label), fontsize=9, loc="left", color=INK, fontweight=bold, pad=3)
    quiet(axis)


def _cut_short(text: str, most: int = 34) -> str:
    return text if len(text) <= most else f"{text[:14]}…{text[-18:]}"


def _ticks(copies: Sequence[int]) -> list[int]:
    """Round numbers inside the range, and its ends."""
    inner = [digit * 10**power for power in range(8) for digit in (1, 2, 5)]
    low, high = copies[0], copies[-1]
    return sorted({low, high, *(tick for tick in inner if 1.3 * low <= tick <= high / 1.3)})
