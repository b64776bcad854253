"""Figure 2 of the ALR paper, counted by the simulator."""

from functools import cache

from alrsim.experiments.context import Context
from alrsim.experiments.rules import Measured
from alrsim.steps.figure2_charts import Figure2Result, draw_charts

HOW = "simulated unit-time grid, 4 layers and a loss row, 3 micro-batches"


@cache
def _figure() -> Figure2Result:
    return draw_charts(4, 3)


def _percent(share: float | None) -> float:
    return 100 * (share or 0.0)


def bp_idle(_context: Context) -> Measured:
    """Idle share of all cells under BP, in percent."""
    chart = _figure().bp
    detail = {"steps": chart.steps, "busy cells": chart.busy_cells, "cells": chart.cells}
    return Measured(_percent(chart.idle_fraction), None, None, HOW, detail=detail)


def lr_idle(_context: Context) -> Measured:
    """The paper's 24 %: idle cells of the layer rows over all cells."""
    figure = _figure()
    detail = {
        "counted on layer rows only, in %": _percent(figure.lr.layer_rows_idle),
        "counted on all rows, in %": _percent(figure.lr.idle_fraction),
        "BP by the paper's count, in %": _percent(figure.bp.grid_idle),
    }
    return Measured(_percent(figure.lr.grid_idle), None, None, HOW, figure.explanation, detail)


def speedup(_context: Context, free: bool = False) -> Measured:
    """Steps of BP over steps of LR; ``free``: a gradient may run in any free row."""
    figure = _figure()
    steps = figure.lr_free.steps if free else figure.lr.steps
    how = f"{HOW}; {'gradients in any free row' if free else 'gradients in their layer row'}"
    return Measured(figure.bp.steps / steps, None, None, how, detail={"BP steps": figure.bp.steps, "LR steps": steps})
