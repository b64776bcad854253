"""Scores of a run whose numbers are known."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from alrsim.graph.stages import chain
from alrsim.hardware.machine import abstract_machine
from alrsim.rules import RULES
from alrsim.rules.options import RuleOptions
from alrsim.schedulers import SCHEDULERS
from alrsim.tasks.problem import Problem
from alrsim.validation.cells import Cell, groups_of
from alrsim.validation.journal import Header, Journal
from alrsim.validation.records import Host, Prediction, Step, blank_prediction
from alrsim.validation.result import Ratio, ValidateResult
from alrsim.validation.score import score
from alrsim.validation.tables import made_of, markdown, percent

HOST = Host("cpu", "test", 2, "0", "0", "", "threads", 1, 0)
GPIPE, FIXED, FREE = Cell("m", 4, "bp:gpipe"), Cell("m", 4, "lr:lr-fixed", 1), Cell("m", 4, "lr:lr-free", 1)
MORE = Cell("m", 4, "lr:lr-free", 4)


def prediction_of(cell: Cell, makespan: int, peak: int) -> Prediction:
    """Any prediction with this makespan, and this peak on the first of two units."""
    stages, options = chain(2), RuleOptions(microbatches=1)
    tasks = RULES["bp"](stages, options)
    problem = Problem(tasks, abstract_machine(2), tuple((1, 1) for _ in tasks.tasks), "calibrated")
    schedule = SCHEDULERS["gpipe"].function(problem)
    blank = blank_prediction(cell, "now", options, (), stages, schedule, problem, "link", "c")
    shares = {"F": makespan, "wait": makespan}
    terms = ("compute=3000000", "transfer=500000")
    return replace(blank, makespan_ns=makespan, peaks={"u0": peak, "u1": 0}, shares=shares, terms=terms)


def step_of(turn: int, makespan: int, peak: int, share: float = 1.0) -> Step:
    flags = ("host busy: tasks had less",) if share < 0.9 else ()
    shares = {"F": makespan + 10, "wait": makespan - 10}
    return Step(turn, "later", makespan, (), {"u0": peak, "u1": 0}, shares, share, flags)


def journal_of(cells: Mapping[Cell, tuple[int, list[int]]], share: float = 1.0) -> Journal:
    journal = Journal(None, Header("tiny", 3, 1, HOST))
    for cell, (predicted, measured) in cells.items():
        journal.predict(prediction_of(cell, predicted, 990))
        for turn, makespan in enumerate(measured):
            journal.measure(cell, step_of(turn, makespan, 1000 + turn, share))
    return journal


KNOWN = {GPIPE: (1100, [1000, 900, 1300]), FIXED: (950, [1000, 980, 1020]), FREE: (720, [800, 810, 790])}


@pytest.fixture
def known() -> ValidateResult:
    return score(journal_of(KNOWN), tuple(KNOWN))


def test_errors_are_relative_to_the_median_measurement(known: ValidateResult) -> None:
    rows = dict(zip(KNOWN, known.cells, strict=True))
    assert rows[GPIPE].measured_ns == 1000
    assert rows[GPIPE].measured_quartiles_ns == (950, 1150)
    assert [rows[cell].error for cell in KNOWN] == pytest.approx([0.10, -0.05, -0.10])
    found = known.makespan_error
    assert found is not None
    assert (found.median, found.bias) == pytest.approx((0.10, -0.05))
    assert rows[GPIPE].terms == pytest.approx({"F": (1100 - 1010) / 2000, "wait": (1100 - 990) / 2000})
    assert rows[GPIPE].kinds == pytest.approx({"F": 1100 / 1010 - 1})


def test_speedups_are_over_the_first_method_of_the_group(known: ValidateResult) -> None:
    (group,) = known.groups
    assert group.first == GPIPE.name
    assert _pair(group.speedups[FIXED.name]) == pytest.approx((1100 / 950, 1.0))
    assert _pair(group.speedups[FREE.name]) == pytest.approx((1100 / 720, 1.25))
    assert known.speedup_error is not None
    assert known.speedup_error.most == pytest.approx(1100 / 720 / 1.25 - 1)
    # gpipe and lr-fixed tie, measured: one of three pairs is undecided, two agree. 2 / sqrt(3 * 2).
    assert group.kendall_tau == pytest.approx(2 / 6**0.5)
    assert (known.order.clear_pairs, known.order.right, known.order.wrong) == (2, 2, ())


def _pair(ratio: Ratio) -> tuple[float, float]:
    return ratio.predicted, ratio.measured


def test_peaks_are_medians_and_units_without_memory_do_not_count(known: ValidateResult) -> None:
    assert known.peak_memory_error is not None
    assert known.peak_memory_error.count == 3
    assert known.peak_memory_error.median == pytest.approx(1 - 990 / 1001)


def test_the_fullest_unit_is_judged_whichever_it_is(known: ValidateResult) -> None:
    peaks = {"u0": 100, "u1": 80}
    row = replace(known.cells[0], peak_memory_bytes=peaks, predicted_peak_memory_bytes={"u0": 70, "u1": 102})
    assert row.fullest_error == pytest.approx(0.02)
    assert replace(row, peak_memory_bytes={"u0": 0}).fullest_error is None


def test_goals_are_met_or_missed_and_never_asserted(known: ValidateResult) -> None:
    found = {goal.goal: goal.met for goal in known.goals}
    assert found == {
        "median makespan error": False,
        "95th percentile of it": True,
        "median speed-up error": False,
        "share of clear pairs ordered wrong": True,
        "largest error of the fullest unit's peak memory": True,
    }
    assert {goal.met for goal in score(journal_of({}), ()).goals} == {None}


def test_a_cell_that_was_not_measured_completely_has_no_score() -> None:
    journal = journal_of({GPIPE: (1100, [1000, 1000]), FREE: KNOWN[FREE]})
    found = score(journal, (GPIPE, FREE))
    assert [row.name for row in found.cells] == [FREE.name]
    assert found.groups == ()
    assert found.steps_left == 1


def test_backpropagation_stands_in_every_group_and_counts_once() -> None:
    groups = groups_of((GPIPE, FREE, MORE))
    assert [(group.name, group.cells) for group in groups] == [("m/m4/c1", (GPIPE, FREE)), ("m/m4/c4", (GPIPE, MORE))]
    two = replace(GPIPE, method="bp:1f1b")
    journal = journal_of({GPIPE: (100, [100] * 3), two: (90, [80] * 3), FREE: (70, [60] * 3), MORE: (300, [400] * 3)})
    found = score(journal, (GPIPE, two, FREE, MORE))
    assert found.speedup_error is not None
    assert found.speedup_error.count == 3, "1f1b over gpipe stands in two groups and is one ratio"
    assert found.order.clear_pairs == 5, "all but lr-free with 1 copy against lr-free with 4"


def test_a_busy_host_is_told(known: ValidateResult) -> None:
    assert (known.host_busy, known.host_verdict) == (
        False,
        "the host was quiet while calibrating and measuring: every cell had at least 100% of its cores",
    )
    found = score(journal_of(KNOWN, share=0.5), tuple(KNOWN))
    assert found.host_busy
    assert "busy in 9 of 9 measured steps (a cell had 50% of its cores)" in found.host_verdict


def test_the_report_says_all_of_it(known: ValidateResult) -> None:
    text = markdown(known)
    assert "| makespan | 3 | 10.0 % | 10.0 % | −5.0 % | −10.0 % | +10.0 % |" in text
    assert "ordered right 2 of 2" in text
    assert "| median makespan error | 5 % | 10.0 % | missed |" in text
    assert made_of(known.cells[0]) == "compute 3.0, transfer 0.5 ms"
    assert (percent(-0.0312), percent(0.5, 0, sign=True), percent(None)) == ("−3.1 %", "+50 %", "–")
