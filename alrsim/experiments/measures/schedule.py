"""Figure 2 of the ALR paper, counted by the simulator."""

from functools import cache
from typing import Any

from alrsim.experiments.context import Context
from alrsim.experiments.rules import Measured
from alrsim.steps.figure2_charts import Figure2, explain_24_percent, figure2

HOW = "simulated unit-time grid, 4 layers and a loss row, 3 micro-batches"


@cache
def _figure() -> Figure2:
    return figure2(4, 3)


def bp_idle(_context: Context) -> Measured:
    """Idle share of all cells under BP, in percent."""
    counts = _figure().bp.as_dict()
    detail = {"steps": counts["steps"], "busy cells": counts["busy_cells"], "cells": counts["cells"]}
    return Measured(100 * counts["idle_fraction"], None, None, HOW, detail=detail)


def lr_idle(_context: Context) -> Measured:
    """The paper's 24 %: idle cells of the layer rows over all cells."""
    counts: dict[str, Any] = _figure().lr.as_dict()
    detail = {
        "counted on layer rows only, in %": 100 * counts["layer_rows_idle"],
        "counted on all rows, in %": 100 * counts["idle_fraction"],
        "BP by the paper's count, in %": 100 * _figure().bp.as_dict()["grid_idle"],
    }
    return Measured(100 * counts["grid_idle"], None, None, HOW, explain_24_percent(_figure()), detail)


def speedup(_context: Context, free: bool = False) -> Measured:
    """Steps of BP over steps of LR; ``free``: a gradient may run in any free row."""
    figure = _figure()
    steps = figure.lr_free.steps if free else figure.lr.steps
    how = f"{HOW}; {'gradients in any free row' if free else 'gradients in their layer row'}"
    return Measured(figure.bp.steps / steps, None, None, how, detail={"BP steps": figure.bp.steps, "LR steps": steps})
