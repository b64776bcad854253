"""How a training run is shown: a table of its log, rows, and pictures of loss and accuracy."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from alrsim.reports.canvas import quiet, render
from alrsim.reports.palette import FAINT, INK
from alrsim.reports.parts import Parts, axes_or_new
from alrsim.reports.tables import plain_table, to_text
from alrsim.training.log import Row, to_csv, to_jsonl
from alrsim.training.result import TrainResult

TRAIN, TEST = "#56B4E9", "#0072B2"
_DPI, _WIDTH, _HEIGHT = 130, 10.0, 5.6


MOST_ROWS = 12
"""Rows of the log in a table."""


def text(result: TrainResult) -> str:
    """Headline, table of the log, what it took."""
    title, *lines = result.text
    columns = ["step", "epoch", "train loss", "test loss", "test accuracy", "forwards", "work in F", "seconds"]
    if result.noisy:
        columns += ["copies"] + (["cosine"] if any(row.cosine is not None for row in result.rows) else [])
    table = plain_table(columns, [_cells(row, columns) for row in _some(result.rows)])
    return "\n".join([title, to_text(table), *lines, *result.decisions])


def _some(found: Sequence[Row]) -> list[Row]:
    """All rows, or evenly spaced ones with both ends."""
    if len(found) <= MOST_ROWS:
        return list(found)
    last = len(found) - 1
    return [found[round(index * last / (MOST_ROWS - 1))] for index in range(MOST_ROWS)]


def _cells(row: Row, columns: Sequence[str]) -> list[str]:
    cells = {
        "step": str(row.step),
        "epoch": f"{row.epoch:.1f}",
        "train loss": "" if row.train_loss is None else f"{row.train_loss:.4g}",
        "test loss": f"{row.test_loss:.4g}",
        "test accuracy": f"{100 * row.test_accuracy:.1f} %",
        "forwards": f"{row.forwards:,.0f}",
        "work in F": f"{row.work:,.0f}",
        "seconds": f"{row.seconds:.1f}",
        "copies": str(row.copies),
        "cosine": "" if row.cosine is None else f"{row.cosine:.2f}",
    }
    return [cells[column] for column in columns]


def rows(result: TrainResult) -> list[dict[str, Any]]:
    """One row per row of the log; ``loss`` is that of the training batches."""
    return [
        {"loss" if key == "train_loss" else key: value for key, value in asdict(row).items()} for row in result.rows
    ]


def draw(result: TrainResult, axes: Any = None) -> Any:
    """Test accuracy over steps."""
    axes = axes_or_new(axes)
    _draw_accuracy(axes, [float(row.step) for row in result.rows], result.rows, named=True)
    axes.set_xlabel("steps", fontsize=9, color=INK)
    axes.set_ylabel("test accuracy", fontsize=9, color=INK)
    return axes


def files(result: TrainResult) -> dict[str, bytes]:
    """The log as CSV and JSON lines, and ``curves.png``."""
    return {
        "log.csv": to_csv(result.rows),
        "log.jsonl": to_jsonl(result.rows),
        "curves.png": draw_training(result.rows, result.text[0], result.text[1]),
    }


def draw_training(rows: Sequence[Row], title: str, note: str) -> bytes:
    """Loss above, accuracy below; steps on the left, work on the right. The same rows give the same bytes."""
    figure = Figure(figsize=(_WIDTH, _HEIGHT))
    axes = figure.subplots(2, 2, sharey="row", sharex="col")
    steps, work = [float(row.step) for row in rows], [row.work for row in rows]
    for column, (values, label) in enumerate(((steps, "steps"), (work, "work in forwards of a batch (F)"))):
        _draw_loss(axes[0][column], values, rows)
        _draw_accuracy(axes[1][column], values, rows, named=column == 0)
        axes[1][column].set_xlabel(label, fontsize=9, color=INK)
        axes[1][column].xaxis.set_major_formatter(FuncFormatter(_short))
        axes[1][column].xaxis.set_major_locator(MaxNLocator(6))
    axes[0][0].set_ylabel("loss", fontsize=9, color=INK)
    axes[1][0].set_ylabel("test accuracy", fontsize=9, color=INK)
    axes[0][1].legend(loc="upper right", frameon=False, fontsize=9)
    figure.subplots_adjust(left=0.075, right=0.985, top=0.87, bottom=0.095, wspace=0.06, hspace=0.12)
    figure.text(0.012, 0.975, title, fontsize=12.5, fontweight="bold", color=INK, va="top")
    figure.text(0.012, 0.925, note, fontsize=8, color=FAINT, va="top")
    return render(figure, _DPI)


def _draw_loss(axis: Axes, at: Sequence[float], rows: Sequence[Row]) -> None:
    known = [(x, row.train_loss) for x, row in zip(at, rows, strict=True) if row.train_loss is not None]
    axis.plot([x for x, _ in known], [y for _, y in known], color=TRAIN, linewidth=1.6, label="training batches")
    axis.plot(at, [row.test_loss for row in rows], color=TEST, linewidth=1.8, label="test")
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_locator(NullLocator())
    _dress(axis)


def _draw_accuracy(axis: Axes, at: Sequence[float], rows: Sequence[Row], *, named: bool) -> None:
    values = [100 * row.test_accuracy for row in rows]
    axis.plot(at, values, color=TEST, linewidth=1.8)
    best = max(range(len(values)), key=lambda index: (values[index], -index))
    axis.plot([at[best]], [values[best]], color=TEST, marker="o", markersize=5)
    if named:
        axis.annotate(
            f"best {values[best]:.1f} % at step {rows[best].step}",
            (at[best], values[best]),
            xytext=(0, -24),
            textcoords="offset points",
            ha="right",
            fontsize=8.5,
            color=INK,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
        )
    axis.set_ylim(0, 103)
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    _dress(axis)


def _dress(axis: Axes) -> None:
    axis.grid(color="#E5E5E5", linewidth=0.7)
    axis.set_axisbelow(True)
    quiet(axis)


def _short(value: float, _position: int) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


RENDERER = Parts(text, rows, draw, files)
