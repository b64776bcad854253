"""The contour picture of Beale's function with three methods' trajectories."""

from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from alrsim.quality.charts import COLOURS
from alrsim.quality.trajectory import OPTIMUM, Terms, Walk, Walker, beale
from alrsim.reports.canvas import quiet, render
from alrsim.reports.palette import INK


def draw_trajectories(walks: Mapping[Walker, Walk], terms: Terms) -> bytes:
    """Left: paths on log-spaced contours; right: loss over steps. First runs thick, the others thin."""
    figure = Figure(figsize=(11, 5.2))
    left, right = figure.subplots(1, 2, width_ratios=(1.55, 1))
    _contours(left, walks, terms)
    for walk in walks.values():
        _paths(left, walk)
        _losses(right, walk)
    left.plot(*terms.start, marker="s", color=INK, markersize=7, linestyle="none", zorder=6)
    left.plot(*OPTIMUM, marker="*", color="#D00000", markersize=15, linestyle="none", zorder=6)
    left.set_xlabel("x", fontsize=9, color=INK)
    left.set_ylabel("y", fontsize=9, color=INK)
    left.set_title("Paths: ■ start, ★ minimum, ● ends", fontsize=10, loc="left", color=INK)
    right.set_xscale("symlog", linthresh=1)
    right.set_yscale("log")
    right.set_xlim(0, terms.steps)
    right.set_xlabel("step", fontsize=9, color=INK)
    right.set_title("Loss", fontsize=10, loc="left", color=INK)
    for axis in (left, right):
        quiet(axis)
    handles = [
        Line2D([], [], color=COLOURS[name], linewidth=2.5, label=f"{name.upper()}: {_ending(walk)}")
        for name, walk in walks.items()
    ]
    figure.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.05, 0.0), ncols=3, frameon=False, fontsize=9)
    title = (
        f"Beale's function from {terms.start[0]:g}, {terms.start[1]:g}: step size {terms.rate:g}, {terms.steps} steps, "
        f"{terms.copies} copies, sigma {terms.sigma:g}"
    )
    figure.text(0.055, 0.97, title, fontsize=12, fontweight="bold", color=INK, va="top")
    figure.subplots_adjust(left=0.055, right=0.985, top=0.86, bottom=0.17, wspace=0.13)
    return render(figure, 130)


def _ending(walk: Walk) -> str:
    return (
        f"{walk.found} of {len(walk.diverged)} runs reach the minimum"
        if len(walk.diverged) > 1
        else ("reaches the minimum" if walk.found else "does not reach the minimum")
    )


def _contours(axis: Axes, walks: Mapping[Walker, Walk], terms: Terms) -> None:
    points = np.concatenate([walk.path.reshape(-1, 2) for walk in walks.values()] + [np.array([OPTIMUM, terms.start])])
    low, high = np.percentile(points, 0.5, axis=0), np.percentile(points, 99.5, axis=0)
    low = np.maximum(np.minimum(low, np.minimum(OPTIMUM, terms.start)) - 0.5, (-8, -4))
    high = np.minimum(np.maximum(high, np.maximum(OPTIMUM, terms.start)) + 0.5, (8, 5))
    x, y = np.meshgrid(np.linspace(low[0], high[0], 300), np.linspace(low[1], high[1], 300))
    values = beale(torch.from_numpy(np.stack([x, y], -1))).numpy()
    axis.contourf(x, y, np.log10(values + 1e-3), levels=24, cmap="Greys", alpha=0.55)
    axis.contour(x, y, np.log10(values + 1e-3), levels=24, colors="white", linewidths=0.4)
    axis.set_xlim(low[0], high[0])
    axis.set_ylim(low[1], high[1])


def _paths(axis: Axes, walk: Walk) -> None:
    colour = COLOURS[walk.method]
    for run in reversed(range(walk.path.shape[1])):
        first = run == 0
        x, y = walk.path[:, run].T
        axis.plot(
            x, y, color=colour, linewidth=2.0 if first else 0.6, alpha=0.95 if first else 0.5, zorder=4 if first else 3
        )
        axis.plot(
            x[-1], y[-1], marker="o", color=colour, markersize=6 if first else 3.5, markeredgecolor="white", zorder=5
        )


def _losses(axis: Axes, walk: Walk) -> None:
    steps = np.arange(len(walk.losses))
    for run in reversed(range(walk.losses.shape[1])):
        first = run == 0
        shown = np.maximum(walk.losses[:, run], 1e-6)
        axis.plot(
            steps,
            shown,
            color=COLOURS[walk.method],
            linewidth=1.8 if first else 0.6,
            alpha=0.95 if first else 0.5,
            zorder=4 if first else 3,
        )
