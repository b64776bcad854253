"""Figure 2 of the ALR paper (arXiv 2403.12320): BP and LR on a grid of unit-time cells, one row per layer.

The paper's picture gives a 4-layer model, three micro-batches ("buckets") and three numbers: 53.3 % redundant space
under BP, 24 % under LR, speed-up 1.5. Cells: every task takes one step; each layer, and the loss module, has a row
(a unit) of its own. BP: forward, loss, loss gradient, gradients, and an update of every row, the loss row included.
LR: forward, loss, gradients and updates of the layers; the loss row has no gradient and no update.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from alrsim.documents import Document, Live
from alrsim.schedule.schedule import Schedule
from alrsim.schedulers import schedule
from alrsim.simulation.engine import simulate
from alrsim.steps.figure2_cells import any_row, bp_cells, lr_cells, unit_grid, with_loss_row
from alrsim.tasks.problem import Problem
from alrsim.timeline.metrics import named_shares, speedup, work

PAPER: Mapping[str, float] = {"bp_idle": 0.533, "lr_idle": 0.24, "speedup": 1.5}
"""The three numbers of the paper's section on Figure 2, for 4 layers and 3 micro-batches."""


@dataclass(frozen=True)
class Chart:
    """One way to run the step.

    Attributes:
        what: One line on what is allowed and drawn.
        steps: Time of the whole step, every task taking 1.
        cells: Rows times steps.
        idle_fraction, overhead_ratio, rank_span_bubble, internal_idle: As in :mod:`alrsim.timeline.metrics`.
        grid_idle, layer_rows_idle: Counts by layer rows; ``None`` where a task may leave its layer's row.
        schedule: Lane by row, as text.
        timeline: Live.
    """

    what: str
    steps: int
    busy_cells: int
    cells: int
    idle_fraction: float
    overhead_ratio: float
    rank_span_bubble: float
    internal_idle: float
    grid_idle: float | None
    layer_rows_idle: float | None
    schedule: Mapping[str, str]
    timeline: Live = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Figure2Result(Document):
    """Both charts of the figure, and what else the same rows could do.

    Attributes:
        bp: All forwards, then all gradients, each layer on its own row.
        lr: A layer's gradients run on its own row too, as soon as their loss is known.
        lr_free: A gradient runs on any free row, the loss row included.
        speedup: Steps of ``bp`` over steps of ``lr``.
        baselines: The same work with more, or other, freedom than the paper draws.
        paper: The paper's three numbers.
        explanation: Where its 24 % comes from.
    """

    kind: ClassVar[str] = "figure2"
    version: ClassVar[int] = 2

    layers: int
    microbatches: int
    bp: Chart
    lr: Chart
    lr_free: Chart
    speedup: float
    speedup_lr_free: float
    baselines: Mapping[str, Chart]
    paper: Mapping[str, float]
    explanation: str

    def __repr__(self) -> str:
        return f"Figure2Result(BP {self.bp.steps} steps, LR {self.lr.steps}, {self.speedup:.3g}x)"


def draw_charts(layers: int, microbatches: int) -> Figure2Result:
    """Simulate both charts of the figure on ``layers + 1`` unit-time rows."""
    bp, lr = unit_grid(bp_cells(layers, microbatches)), unit_grid(lr_cells(layers, microbatches))
    paths = _chart("BP, every task on its layer's row", bp, schedule(bp, "gpipe"))
    rows = _chart("LR, every task on its layer's row", lr, schedule(lr, "lr-fixed"))
    free = _chart("LR, a gradient on any free row", lr, schedule(lr, "lr-free"), bound=False)
    return Figure2Result(
        layers,
        microbatches,
        paths,
        rows,
        free,
        float(speedup(paths.timeline, rows.timeline)),
        float(speedup(paths.timeline, free.timeline)),
        _baselines(layers, microbatches),
        dict(PAPER),
        explain_24_percent(paths, rows),
    )


def _baselines(layers: int, microbatches: int) -> dict[str, Chart]:
    bp, lr = bp_cells(layers, microbatches), lr_cells(layers, microbatches)
    full, plain, free = (unit_grid(cells) for cells in (with_loss_row(lr), lr, bp))
    fair = unit_grid(bp_cells(layers, microbatches, loss_row=False))
    return {
        "lr_loss_row": _chart("lr with a gradient and update in the loss row", full, schedule(full, "lr-fixed")),
        "lr_free_loss_row": _chart("lr_free with the same", full, schedule(full, "lr-free"), bound=False),
        "bp_any_row": _chart("BP, every task on any row, greedy order", free, any_row(free), bound=False),
        "bp_any_row_plain": _chart("the same, only L in the loss row", fair, any_row(fair), bound=False),
        "lr_any_row": _chart("LR, every task on any row, greedy order", plain, any_row(plain), bound=False),
    }


def _chart(what: str, problem: Problem, found: Schedule, *, bound: bool = True) -> Chart:
    """Simulate one chart.

    Args:
        bound: Every task runs on its own layer's row, so that counts by layer rows mean what they say.
    """
    timeline = simulate(problem, found)
    shares: dict[str, float | None] = {name: float(share) for name, share in named_shares(timeline).items()}
    if not bound:
        shares |= {"grid_idle": None, "layer_rows_idle": None}
    steps = timeline.makespan
    cells = len(timeline.units) * steps
    return Chart(what, steps, work(timeline), cells, **shares, schedule=found.as_dict(), timeline=timeline)  # type: ignore[arg-type]


def explain_24_percent(bp: Chart, lr: Chart) -> str:
    """Where the paper's 24 % comes from, in one sentence, with this figure's counts."""
    line = lr.timeline
    cells, layer_cells = lr.cells, len(line.layer_units) * lr.steps
    idle = int(named_shares(line)["grid_idle"] * cells)
    return (
        "The paper's 24 % (4 layers, 3 micro-batches) is grid_idle: it counts the idle cells of the layer rows only "
        f"but divides them by a grid that includes the loss row (here {idle}/{cells} = {lr.grid_idle:.1%}), where "
        f"one and the same set of rows gives LR {lr.layer_rows_idle:.1%} (layer rows, {idle}/{layer_cells}) or "
        f"{lr.idle_fraction:.1%} (all rows), and by the paper's count BP has {bp.grid_idle:.1%}."
    )
