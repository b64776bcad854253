"""Where the time of a step goes: the terms add up, and each is what it says."""

from dataclasses import replace
from typing import Any

import pytest

from alrsim.schedulers import SCHEDULERS
from alrsim.simulation.engine import simulate
from alrsim.tasks.taskgraph import Buffer, Category, Task, TaskGraph
from alrsim.tasks.token import parse_token
from alrsim.timeline.comparison import Comparison
from alrsim.timeline.timeline import Span, Timeline, TransferSpan
from alrsim.validation.score import kind_errors
from alrsim.validation.shares import differences, reason, time_shares


def relay() -> TaskGraph:
    """Stage 0 and then stage 1, one buffer between them."""
    tasks = (Task(parse_token("0F0")), Task(parse_token("1F0"), (0,)), Task(parse_token("1F1")))
    return TaskGraph(tasks, (Buffer("0F0:out", Category.ACTIVATION, 8, 0, 0, (1,)),), "bp", 2, 2)


def timeline_of(*spans: tuple[str, str, int, int], transfers: tuple[TransferSpan, ...] = ()) -> Timeline:
    found = tuple(Span(parse_token(token), unit, start, end) for token, unit, start, end in spans)
    return Timeline("measured", "x", ("u0", "u1"), found, transfers)


def test_every_gap_has_its_name() -> None:
    # u0: 2 ticks late, task, then nothing. u1: waits for 0F0 until 10, gets it at 13, then is 1 late.
    line = timeline_of(("0F0", "u0", 2, 10), ("1F0", "u1", 13, 20), ("1F1", "u1", 21, 25))
    assert time_shares(relay(), line) == {"F": 8 + 7 + 4, "overhead": 2 + 1, "transfer": 3, "wait": 10 + 15}


def test_a_unit_that_sends_before_its_next_task_transfers() -> None:
    sent = TransferSpan("0F0:out", "u0", "u1", 10, 14, 8)
    graph = relay()
    line = timeline_of(("0F0", "u0", 0, 10), ("1F1", "u0", 15, 20), ("1F0", "u1", 14, 20), transfers=(sent,))
    shares = time_shares(graph, line)
    # u0 sends from 10 to 14 and is 1 late; u1 waits for 10 and for the message from 10 to 14.
    assert shares == {"F": 10 + 5 + 6, "overhead": 1, "transfer": 4 + 4, "wait": 10}


@pytest.mark.parametrize("semantics", ["latency", "link", "blocking"])
@pytest.mark.parametrize(
    ("scheduler", "rule"), [("gpipe", "bp"), ("1f1b", "bp"), ("zb-h1", "bp-split"), ("lr-free", "lr")]
)
def test_shares_add_up_to_units_times_makespan(textbook: Any, scheduler: str, rule: str, semantics: Any) -> None:
    problem = textbook(3, 3, 4, rule, f=5, b=7, w=3, g=4, transfer=2, loss=rule == "lr", l=1)
    line = simulate(problem, SCHEDULERS[scheduler].function(problem), semantics=semantics)
    shares = time_shares(problem.tasks, line)
    assert sum(shares.values()) == 3 * line.makespan
    for kind in {span.task.kind for span in line.spans}:
        assert shares[kind] == sum(span.end - span.start for span in line.spans if span.task.kind == kind)
    assert shares.get("overhead", 0) == 0, "a simulated unit begins as soon as it can"


def test_differences_add_up_to_the_error_of_the_makespan(textbook: Any) -> None:
    problem = textbook(2, 2, 4, f=5, b=7, w=3, transfer=1)
    schedule = SCHEDULERS["1f1b"].function(problem)
    predicted = simulate(problem, schedule)
    slower = replace(problem, durations=tuple(tuple(time + 2 for time in row) for row in problem.durations))
    measured = simulate(slower, schedule)
    shares = time_shares(problem.tasks, predicted), time_shares(problem.tasks, measured)
    terms = differences(*shares, 2, measured.makespan)
    assert sum(terms.values()) == pytest.approx(predicted.makespan / measured.makespan - 1)
    assert terms["F"] == pytest.approx(-2 * 8 / (2 * measured.makespan)), "8 forwards, 2 ticks too short each"


def test_errors_by_kind_are_those_of_a_comparison_of_the_timelines(textbook: Any) -> None:
    problem = textbook(2, 2, 4, "lr", f=5, g=4, transfer=2, loss=True, l=1)
    schedule = SCHEDULERS["lr-free"].function(problem)
    slower = replace(problem, durations=tuple(tuple(2 * time + 1 for time in row) for row in problem.durations))
    one, other = simulate(problem, schedule), replace(simulate(slower, schedule), source="measured")
    found = kind_errors(time_shares(problem.tasks, one), time_shares(problem.tasks, other))
    expected = {kind: float(residual.error) for kind, residual in Comparison(one, other).by_kind.items()}
    assert found == pytest.approx(expected)
    assert set(found) == {"F", "G", "L"}


def test_a_reason_names_the_largest_terms_first() -> None:
    assert reason({"F": 0.004, "wait": -0.05, "G": 0.021, "U": 0.001}) == "wait −5.0, G +2.1, F +0.4 points"
    assert reason({"F": 0.0}) == "nothing"
