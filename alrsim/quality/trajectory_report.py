"""How trajectories on Beale's function are shown: a table, rows, and the contour picture with every path."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from alrsim.estimators.variance_law import Array
from alrsim.quality.beale import Walk, beale
from alrsim.quality.charts import COLOURS
from alrsim.quality.trajectory import TrajectoryResult
from alrsim.quality.trajectory_options import OPTIMUM, Walker
from alrsim.reports.canvas import quiet, render
from alrsim.reports.palette import INK
from alrsim.reports.parts import Parts, axes_or_new
from alrsim.reports.tables import plain_table, to_text


def text(result: TrajectoryResult) -> str:
    """A table of where each method ends, and what it does not prove."""
    cells = [
        [
            one.method.upper(),
            str(len(one.runs)),
            "({:.3f}, {:.3f})".format(*one.runs[0].end),
            f"{one.runs[0].loss:.4g}",
            str(one.reached_optimum),
            str(one.diverged),
        ]
        for one in result.methods
    ]
    columns = ("method", "runs", "first run ends at", "its loss", "reach the minimum", "diverge")
    return "\n".join([to_text(plain_table(columns, cells, "Beale's function, minimum at (3, 0.5)")), *result.text])


def rows(result: TrajectoryResult) -> list[dict[str, Any]]:
    """One row per point of a path."""
    return [
        {"method": one.method, "run": index, "step": at * result.path_every, "x": x, "y": y}
        for one in result.methods
        for index, run in enumerate(one.runs)
        for at, (x, y) in enumerate(run.path)
    ]


def draw(result: TrajectoryResult, axes: Any = None) -> Any:
    """The paths on contours of the function."""
    axes = axes_or_new(axes)
    paths = {one.method: np.array([run.path for run in one.runs]).swapaxes(0, 1) for one in result.methods}
    _paths(axes, paths, result.start)
    return axes


def files(result: TrajectoryResult) -> dict[str, bytes]:
    """``trajectory.png``; left: paths on log-spaced contours; right: loss over steps. First runs thick, others thin."""
    if result.walks is None:
        return {}  # read from a file
    walks: Mapping[Walker, Walk] = result.walks
    figure = Figure(figsize=(11, 5.2))
    left, right = figure.subplots(1, 2, width_ratios=(1.55, 1))
    _paths(left, {name: walk.path for name, walk in walks.items()}, result.start)
    for walk in walks.values():
        _losses(right, walk)
    left.set_title("Paths: ■ start, ★ minimum, ● ends", fontsize=10, loc="left", color=INK)
    right.set_xscale("symlog", linthresh=1)
    right.set(yscale="log", xlim=(0, result.steps))
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
        f"Beale's function from {result.start[0]:g}, {result.start[1]:g}: step size {result.learning_rate:g}, "
        f"{result.steps} steps, {result.copies} copies, sigma {result.sigma:g}"
    )
    figure.text(0.055, 0.97, title, fontsize=12, fontweight="bold", color=INK, va="top")
    figure.subplots_adjust(left=0.055, right=0.985, top=0.86, bottom=0.17, wspace=0.13)
    return {"trajectory.png": render(figure, 130)}


RENDERER = Parts(text, rows, draw, files)


def _ending(walk: Walk) -> str:
    return (
        f"{walk.found} of {len(walk.diverged)} runs reach the minimum"
        if len(walk.diverged) > 1
        else ("reaches the minimum" if walk.found else "does not reach the minimum")
    )


def _paths(axis: Axes, paths: Mapping[Walker, Array], start: tuple[float, float]) -> None:
    """Paths ``(points, runs, 2)`` by method on contours; start and minimum marked."""
    _contours(axis, paths, start)
    for method, path in paths.items():
        for run in reversed(range(path.shape[1])):
            first = run == 0
            x, y = path[:, run].T
            width, alpha, above = (2.0, 0.95, 4) if first else (0.6, 0.5, 3)
            axis.plot(x, y, color=COLOURS[method], linewidth=width, alpha=alpha, zorder=above)
            size = 6 if first else 3.5
            axis.plot(
                x[-1], y[-1], marker="o", color=COLOURS[method], markersize=size, markeredgecolor="white", zorder=5
            )
    axis.plot(*start, marker="s", color=INK, markersize=7, linestyle="none", zorder=6)
    axis.plot(*OPTIMUM, marker="*", color="#D00000", markersize=15, linestyle="none", zorder=6)
    axis.set_xlabel("x", fontsize=9, color=INK)
    axis.set_ylabel("y", fontsize=9, color=INK)


def _contours(axis: Axes, paths: Mapping[Walker, Array], start: tuple[float, float]) -> None:
    points = np.concatenate([path.reshape(-1, 2) for path in paths.values()] + [np.array([OPTIMUM, start])])
    low, high = np.percentile(points, 0.5, axis=0), np.percentile(points, 99.5, axis=0)
    low = np.maximum(np.minimum(low, np.minimum(OPTIMUM, start)) - 0.5, (-8, -4))
    high = np.minimum(np.maximum(high, np.maximum(OPTIMUM, start)) + 0.5, (8, 5))
    x, y = np.meshgrid(np.linspace(low[0], high[0], 300), np.linspace(low[1], high[1], 300))
    values = beale(torch.from_numpy(np.stack([x, y], -1))).numpy()
    axis.contourf(x, y, np.log10(values + 1e-3), levels=24, cmap="Greys", alpha=0.55)
    axis.contour(x, y, np.log10(values + 1e-3), levels=24, colors="white", linewidths=0.4)
    axis.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))


def _losses(axis: Axes, walk: Walk) -> None:
    steps = np.arange(len(walk.losses))
    for run in reversed(range(walk.losses.shape[1])):
        width, alpha, above = (1.8, 0.95, 4) if run == 0 else (0.6, 0.5, 3)
        shown = np.maximum(walk.losses[:, run], 1e-6)
        axis.plot(steps, shown, color=COLOURS[walk.method], linewidth=width, alpha=alpha, zorder=above)
