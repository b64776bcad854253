"""Figure 2 as text: both charts cell by cell, every named count, and the paper's three numbers beside them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from alrsim.reports.parts import Parts, axes_or_new
from alrsim.steps.figure2_charts import PAPER, Chart, Figure2Result
from alrsim.timeline.metrics import speedup
from alrsim.timeline.timeline import Timeline

if TYPE_CHECKING:
    from alrsim.reports.gantt import Panel

IDLE_CELL = "."
_COUNTS = ("idle_fraction", "layer_rows_idle", "grid_idle")


def draw_figure2(figure: Figure2Result) -> str:
    """The whole answer of ``alrsim figure2`` for a terminal."""
    ratio = figure.speedup
    parts = [
        _title(figure.bp),
        draw_cells(figure.bp.timeline),
        "",
        _title(figure.lr),
        draw_cells(figure.lr.timeline),
        "",
        _table(figure),
        "",
        f"speed-up of lr over bp: {figure.bp.steps}/{figure.lr.steps} = {ratio:.3g}x (paper: {PAPER['speedup']:.2g}x)",
        free_rows(figure),
        "",
        figure.explanation,
    ]
    return "\n".join(parts)


def draw_cells(timeline: Timeline) -> str:
    """One line per row, one aligned column per step of a unit-time grid; a dot is an idle cell."""
    cells: Mapping[str, list[str]] = {unit: [IDLE_CELL] * timeline.makespan for unit in timeline.units}
    for span in timeline.spans:
        cells[span.unit][span.start : span.end] = [str(span.task)] * (span.end - span.start)
    width = max((len(token) for row in cells.values() for token in row), default=1) + 1
    margin = max(map(len, timeline.units)) + 2
    head = " " * margin + "".join(f"{step + 1:<{width}}" for step in range(timeline.makespan))
    rows = [unit.ljust(margin) + "".join(f"{token:<{width}}" for token in cells[unit]) for unit in timeline.units]
    return "\n".join(line.rstrip() for line in (head, *rows))


def free_rows(figure: Figure2Result) -> str:
    """What is left of the speed-up where BP, too, may use any row."""
    bp, lr = figure.baselines["bp_any_row_plain"], figure.baselines["lr_any_row"]
    ratio = float(speedup(bp.timeline, lr.timeline))
    return f"speed-up where every task may run on any row: {bp.steps}/{lr.steps} = {ratio:.3g}x"


def _title(chart: Chart) -> str:
    return f"{chart.what}: {chart.steps} steps"


def _table(figure: Figure2Result) -> str:
    paper = {"bp": f"idle {PAPER['bp_idle']:.1%}", "lr": f"idle {PAPER['lr_idle']:.0%}, {PAPER['speedup']:.2g}x"}
    lines: list[tuple[str, ...]] = [("chart", "steps", "busy", *_COUNTS, "speed-up", "paper", "")]
    charts = {"bp": figure.bp, "lr": figure.lr, "lr_free": figure.lr_free, **figure.baselines}
    for name, chart in charts.items():
        ratio = float(speedup(figure.bp.timeline, chart.timeline))
        counts = [_count(chart, count) for count in _COUNTS]
        busy = f"{chart.busy_cells}/{chart.cells}"
        lines.append((name, str(chart.steps), busy, *counts, f"{ratio:.2f}x", paper.get(name, ""), chart.what))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _count(chart: Chart, name: str) -> str:
    share = getattr(chart, name)
    return "-" if share is None else f"{share:.1%}"


def draw_figure(figure: Figure2Result) -> bytes:
    """Both charts of the figure, and LR with free rows, on one axis of unit-time steps, as PNG."""
    from alrsim.reports.gantt import draw_gantt

    note = "Paper, 4 layers and 3 micro-batches: BP 53.3 % idle, LR 24 % idle (by grid_idle), speed-up 1.5."
    title = (
        f"Figure 2 of the ALR paper: {figure.layers} layers, {figure.microbatches} micro-batches, "
        f"LR is {figure.speedup:.2g}x faster"
    )
    return draw_gantt(_panels(figure), title, note=note)


def _panels(figure: Figure2Result) -> "list[Panel]":
    from alrsim.reports.gantt import Panel

    panels = []
    charts = {"BP": figure.bp, "LR": figure.lr, "LR, gradients on free rows": figure.lr_free}
    for name, chart in charts.items():
        words = [f"{chart.steps} steps", f"idle {chart.idle_fraction:.1%} of all cells"]
        if chart.layer_rows_idle is not None:
            words.append(f"layer rows {chart.layer_rows_idle:.1%}")
            words.append(f"paper's count (grid_idle) {chart.grid_idle:.1%}")
        panels.append(Panel(name, replace(chart.timeline, time_unit="user", ticks_per_unit=1), " · ".join(words)))
    return panels


def figure2_files(figure: Figure2Result) -> dict[str, bytes]:
    """The picture."""
    return {} if figure.bp.timeline is None else {"figure2.png": draw_figure(figure)}


def figure2_rows(figure: Figure2Result) -> list[dict[str, Any]]:
    """One row per chart."""
    charts = {"bp": figure.bp, "lr": figure.lr, "lr_free": figure.lr_free, **figure.baselines}
    keys = ("steps", "busy_cells", "cells", "idle_fraction", "grid_idle", "layer_rows_idle")
    return [{"chart": name, **{key: getattr(chart, key) for key in keys}} for name, chart in charts.items()]


def draw_bars(figure: Figure2Result, axes: Any = None) -> Any:
    """Steps of BP and LR as bars."""
    axes = axes_or_new(axes)
    axes.barh(["BP", "LR", "LR free"], [figure.bp.steps, figure.lr.steps, figure.lr_free.steps], color="#0072b2")
    axes.invert_yaxis()
    axes.set_xlabel("steps")
    return axes


RENDERER = Parts(draw_figure2, figure2_rows, draw_bars, figure2_files)
