"""Costs on disk give back the very problem that they were taken from."""

from dataclasses import replace
from typing import Any

import pytest

from alrsim.errors import FileError
from alrsim.schedulers import SCHEDULERS
from alrsim.simulation.engine import simulate
from alrsim.tasks.problem import ContentionModel, Problem, cost_key, with_scratch
from alrsim.validation.costs import costs_of, listed, problem_of
from tests.linked import every_link


def loaded(problem: Problem) -> Problem:
    """Durations made of what tasks take alone and beside a neighbour, and scratch."""
    busy = tuple(tuple(2 * time for time in row) for row in problem.durations)
    contention = ContentionModel(problem.durations, busy, overhead=3, neighbours=1)
    tasks = with_scratch(problem.tasks, {cost_key(task): 100 + task.id.stage for task in problem.tasks.tasks})
    return replace(problem, tasks=tasks, durations=contention.durations(), contention=contention)


@pytest.mark.parametrize("rule", ["bp", "bp-split", "lr"])
@pytest.mark.parametrize("contended", [False, True])
def test_a_problem_comes_back_from_its_costs(textbook: Any, rule: str, contended: bool) -> None:
    plain = textbook(3, 2, 4, rule, f=5, b=7, w=3, g=4, transfer=2, loss=rule == "lr", copies=2)
    problem = loaded(plain) if contended else plain
    costs = costs_of(problem, "blocking")
    assert problem_of(costs, plain.tasks) == replace(problem, machine=costs.machine.machine)
    assert costs.machine == listed(problem.machine)
    assert costs.machine.links == every_link(problem.machine)
    assert len(costs.rows) < len(problem.durations), "one row per kind of task"


def test_and_so_does_its_prediction(textbook: Any) -> None:
    problem = loaded(textbook(2, 2, 4, "lr", f=5, g=4, transfer=2, loss=True, l=1))
    schedule = SCHEDULERS["lr-free"].function(problem)
    again = problem_of(costs_of(problem, "blocking"), textbook(2, 2, 4, "lr", loss=True).tasks)
    assert simulate(again, schedule, semantics="blocking") == simulate(problem, schedule, semantics="blocking")


def test_tasks_without_a_recorded_cost_are_refused(textbook: Any) -> None:
    costs = costs_of(textbook(2, 2, 4, "bp"), "link")
    with pytest.raises(FileError, match="has no cost of 2F0"):
        problem_of(costs, textbook(3, 2, 4, "bp").tasks)


def test_costs_that_are_not_by_kind_are_not_recorded(textbook: Any) -> None:
    problem = textbook(2, 2, 2, "bp")
    odd = replace(problem, durations=((9, 9), *problem.durations[1:]))
    with pytest.raises(ValueError, match="cost differently"):
        costs_of(odd, "link")
