"""Figure 2 of the ALR paper (arXiv 2403.12320): BP and LR on a grid of unit-time cells, one row per layer.

The paper's picture gives a 4-layer model, three micro-batches ("buckets") and three numbers: 53.3 % redundant space
under BP, 24 % under LR, speed-up 1.5. Cells: every task takes one step; each layer, and the loss module, has a row
(a unit) of its own. BP: forward, loss, loss gradient, gradients, and an update of every row, the loss row included.
LR: forward, loss, gradients and updates of the layers; the loss row has no gradient and no update.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from alrsim.errors import OptionError
from alrsim.reports.figure2_cells import any_row, bp_cells, lr_cells, unit_grid, with_loss_row
from alrsim.schedule.schedule import Schedule
from alrsim.schedulers import schedule
from alrsim.simulation.engine import simulate
from alrsim.tasks.problem import Problem
from alrsim.timeline.metrics import named_shares, speedup, work
from alrsim.timeline.timeline import Timeline

PAPER: Mapping[str, float] = {"bp_idle": 0.533, "lr_idle": 0.24, "speedup": 1.5}
"""The three numbers of the paper's section on Figure 2, for 4 layers and 3 micro-batches."""


@dataclass(frozen=True)
class Chart:
    """One way to run the step.

    Attributes:
        name: Short key: ``bp``, ``lr``...
        what: One line on what is allowed and drawn.
        bound: Every task runs on its own layer's row, so that counts by layer rows mean what they say.
    """

    name: str
    what: str
    schedule: Schedule
    timeline: Timeline
    bound: bool = True

    @property
    def steps(self) -> int:
        return self.timeline.makespan

    def as_dict(self) -> dict[str, Any]:
        """Steps, cells and every named share, as the JSON output gives them."""
        shares = {name: float(share) for name, share in named_shares(self.timeline).items()}
        cells = len(self.timeline.units) * self.steps
        if not self.bound:
            del shares["grid_idle"], shares["layer_rows_idle"]
        return {
            "what": self.what,
            "steps": self.steps,
            "busy_cells": work(self.timeline),
            "cells": cells,
            **shares,
            "schedule": self.schedule.as_dict(),
        }


@dataclass(frozen=True)
class Figure2:
    """Both charts of the figure, and what else the same rows could do.

    Attributes:
        bp: All forwards, then all gradients, each layer on its own row.
        lr: A layer's gradients run on its own row too, as soon as their loss is known.
        lr_free: A gradient runs on any free row, the loss row included.
        baselines: The same work with more, or other, freedom than the paper draws.
    """

    layers: int
    microbatches: int
    bp: Chart
    lr: Chart
    lr_free: Chart
    baselines: tuple[Chart, ...]

    @property
    def speedup(self) -> Fraction:
        """Steps of ``bp`` over steps of ``lr``."""
        return speedup(self.bp.timeline, self.lr.timeline)

    def as_dict(self) -> dict[str, Any]:
        """The JSON of ``alrsim figure2``."""
        return {
            "layers": self.layers,
            "microbatches": self.microbatches,
            "bp": self.bp.as_dict(),
            "lr": self.lr.as_dict(),
            "lr_free": self.lr_free.as_dict(),
            "speedup": float(self.speedup),
            "speedup_lr_free": float(speedup(self.bp.timeline, self.lr_free.timeline)),
            "baselines": {chart.name: chart.as_dict() for chart in self.baselines},
            "paper": dict(PAPER),
            "explanation": explain_24_percent(self),
        }


def figure2(layers: int = 4, microbatches: int = 3) -> Figure2:
    """Simulate both charts of the figure on ``layers + 1`` unit-time rows.

    Raises:
        OptionError: fewer than one layer or micro-batch.
    """
    if layers < 1:
        raise OptionError(f"layers is {layers}, must be at least 1", field="layers")
    bp, lr = unit_grid(bp_cells(layers, microbatches)), unit_grid(lr_cells(layers, microbatches))
    return Figure2(
        layers,
        microbatches,
        _chart("bp", "BP, every task on its layer's row", bp, schedule(bp, "gpipe")),
        _chart("lr", "LR, every task on its layer's row", lr, schedule(lr, "lr-fixed")),
        _chart("lr_free", "LR, a gradient on any free row", lr, schedule(lr, "lr-free"), bound=False),
        _baselines(layers, microbatches),
    )


def _baselines(layers: int, microbatches: int) -> tuple[Chart, ...]:
    bp, lr = bp_cells(layers, microbatches), lr_cells(layers, microbatches)
    full, plain, free = (unit_grid(cells) for cells in (with_loss_row(lr), lr, bp))
    fair = unit_grid(bp_cells(layers, microbatches, loss_row=False))
    return (
        _chart("lr_loss_row", "lr with a gradient and update in the loss row", full, schedule(full, "lr-fixed")),
        _chart("lr_free_loss_row", "lr_free with the same", full, schedule(full, "lr-free"), bound=False),
        _chart("bp_any_row", "BP, every task on any row, greedy order", free, any_row(free), bound=False),
        _chart("bp_any_row_plain", "the same, only L in the loss row", fair, any_row(fair), bound=False),
        _chart("lr_any_row", "LR, every task on any row, greedy order", plain, any_row(plain), bound=False),
    )


def _chart(name: str, what: str, problem: Problem, found: Schedule, *, bound: bool = True) -> Chart:
    return Chart(name, what, found, simulate(problem, found), bound)


def explain_24_percent(figure: Figure2) -> str:
    """Where the paper's 24 % comes from, in one sentence, with this figure's counts."""
    lr = figure.lr.timeline
    shares = {name: f"{float(share):.1%}" for name, share in named_shares(lr).items()}
    cells, layer_cells = len(lr.units) * lr.makespan, len(lr.layer_units) * lr.makespan
    idle = int(named_shares(lr)["grid_idle"] * cells)
    bp = float(named_shares(figure.bp.timeline)["grid_idle"])
    return (
        "The paper's 24 % (4 layers, 3 micro-batches) is grid_idle: it counts the idle cells of the layer rows only "
        f"but divides them by a grid that includes the loss row (here {idle}/{cells} = {shares['grid_idle']}), where "
        f"one and the same set of rows gives LR {shares['layer_rows_idle']} (layer rows, {idle}/{layer_cells}) or "
        f"{shares['idle_fraction']} (all rows), and by the paper's count BP has {bp:.1%}."
    )
