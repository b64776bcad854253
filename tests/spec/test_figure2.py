"""Figure 2 of the ALR paper (arXiv 2403.12320): its three numbers, its two formulas, and other uses of its rows."""

from fractions import Fraction

import pytest

from alrsim.errors import OptionError
from alrsim.schedule.bounds import makespan_bound
from alrsim.schedulers import schedule
from alrsim.simulation.engine import simulate
from alrsim.steps.figure2_cells import any_row, bp_cells, lr_cells, unit_grid
from alrsim.steps.figure2_charts import PAPER, Figure2Result
from alrsim.steps.figure2_text import draw_cells, draw_figure2
from alrsim.study.paper_figure import figure2
from alrsim.timeline.metrics import busy, named_shares, work


@pytest.fixture(scope="module")
def figure() -> Figure2Result:
    return figure2()


def test_the_papers_chart_has_15_steps_under_bp_and_10_under_lr(figure: Figure2Result) -> None:
    assert (figure.bp.steps, figure.lr.steps, figure.speedup) == (15, 10, 1.5)


def test_the_papers_three_numbers_come_out_to_their_last_digit(figure: Figure2Result) -> None:
    bp, lr = named_shares(figure.bp.timeline), named_shares(figure.lr.timeline)
    assert round(float(bp["idle_fraction"]), 3) == PAPER["bp_idle"]
    assert float(lr["grid_idle"]) == PAPER["lr_idle"]
    assert float(figure.speedup) == PAPER["speedup"]


def test_cells_of_bp(figure: Figure2Result) -> None:
    bp = figure.bp.timeline
    assert (work(bp), len(bp.units) * bp.makespan) == (35, 75)
    assert busy(bp) == {"layer 0": 7, "layer 1": 7, "layer 2": 7, "layer 3": 7, "loss": 7}
    shares = named_shares(bp)
    assert shares["idle_fraction"] == Fraction(40, 75)
    assert shares["grid_idle"] == Fraction(32, 75)
    assert shares["layer_rows_idle"] == Fraction(32, 60)


def test_cells_of_lr(figure: Figure2Result) -> None:
    lr = figure.lr.timeline
    assert (work(lr), len(lr.units) * lr.makespan) == (31, 50)
    assert busy(lr) == {"layer 0": 7, "layer 1": 7, "layer 2": 7, "layer 3": 7, "loss": 3}
    shares = named_shares(lr)
    assert shares["idle_fraction"] == Fraction(19, 50)
    assert shares["grid_idle"] == Fraction(12, 50)
    assert shares["layer_rows_idle"] == Fraction(12, 40)


@pytest.mark.parametrize("layers", range(2, 12))
def test_bp_takes_2_l_plus_n_plus_1_and_lr_l_plus_2n_steps(layers: int) -> None:
    for microbatches in range(2, 12):
        bp = unit_grid(bp_cells(layers, microbatches))
        lr = unit_grid(lr_cells(layers, microbatches))
        assert simulate(bp, schedule(bp, "gpipe")).makespan == 2 * (layers + microbatches) + 1
        assert simulate(lr, schedule(lr, "lr-fixed")).makespan == layers + 2 * microbatches


def test_baselines_that_the_paper_does_not_draw(figure: Figure2Result) -> None:
    # Optima of a CP-SAT search elsewhere: 9, 10 with a loss gradient; any row: BP 10 (11 with one), LR 9.
    assert figure.lr_free.steps == 9
    shares = named_shares(figure.lr_free.timeline)
    assert round(float(shares["idle_fraction"]), 3) == 0.311
    assert {name: chart.steps for name, chart in figure.baselines.items()} == {
        "lr_loss_row": 11,
        "lr_free_loss_row": 10,
        "bp_any_row": 11,
        "bp_any_row_plain": 10,
        "lr_any_row": 9,
    }


@pytest.mark.parametrize(("layers", "microbatches"), [(2, 2), (3, 5), (6, 3), (1, 1)])
def test_the_greedy_order_on_any_row_fits_its_problem_and_its_bounds(layers: int, microbatches: int) -> None:
    for cells in (bp_cells(layers, microbatches), lr_cells(layers, microbatches)):
        problem = unit_grid(cells)
        steps = simulate(problem, any_row(problem)).makespan  # checks the schedule
        rows = layers + 1
        assert makespan_bound(problem) <= steps <= len(cells.tasks)
        # Graham: a greedy order is at most work / rows + critical path long.
        assert steps <= len(cells.tasks) // rows + 2 * layers + 3


def test_the_text_draws_every_cell_in_an_aligned_column(figure: Figure2Result) -> None:
    assert draw_cells(figure.lr.timeline) == (
        "         1   2   3   4   5   6   7   8   9   10\n"
        "layer 0  0F0 0F1 0F2 .   .   0G0 0G1 0G2 0U  .\n"
        "layer 1  .   1F0 1F1 1F2 .   1G0 1G1 1G2 1U  .\n"
        "layer 2  .   .   2F0 2F1 2F2 2G0 2G1 2G2 2U  .\n"
        "layer 3  .   .   .   3F0 3F1 3F2 3G0 3G1 3G2 3U\n"
        "loss     .   .   .   .   4L0 4L1 4L2 .   .   ."
    )


def test_the_answer_says_where_the_24_percent_comes_from(figure: Figure2Result) -> None:
    sentence = figure.explanation
    for count in ("12/50 = 24.0%", "30.0% (layer rows, 12/40)", "38.0% (all rows)", "BP has 42.7%"):
        assert count in sentence
    text = draw_figure2(figure)
    assert sentence in text
    assert "15/10 = 1.5x (paper: 1.5x)" in text
    assert "any row: 10/9 = 1.11x" in text


def test_the_json_has_the_documented_keys(figure: Figure2Result) -> None:
    document = figure.to_dict()
    assert document["bp"]["steps"] == 15
    assert document["bp"]["idle_fraction"] == pytest.approx(0.5333, abs=1e-4)
    assert document["lr"]["grid_idle"] == 0.24
    assert document["speedup"] == 1.5
    assert document["paper"] == {"bp_idle": 0.533, "lr_idle": 0.24, "speedup": 1.5}
    assert document["lr_free"]["grid_idle"] is None


@pytest.mark.parametrize(("layers", "microbatches"), [(0, 3), (-1, 3), (4, 0)])
def test_a_figure_without_cells_is_refused(layers: int, microbatches: int) -> None:
    with pytest.raises(OptionError, match="must be at least 1"):
        figure2(layers=layers, microbatches=microbatches)
