"""List scheduling in machine code gives the lanes of the dispatcher, whatever the priority, ties included."""

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from alrsim.errors import ScheduleError
from alrsim.schedulers import list_schedule as module
from alrsim.schedulers.dispatch import Plan, dispatch
from alrsim.schedulers.list_fast import columns_of, path_lengths
from alrsim.schedulers.list_schedule import PRIORITIES, list_schedule, path_to_end
from alrsim.schedulers.placement import Placement, contiguous_blocks
from alrsim.tasks.problem import Problem
from tests.conftest import TextbookBuilder
from tests.properties.test_simulator import Case
from tests.properties.test_simulator import cases as dags
from tests.properties.test_simulator_rules import Case as Ruled
from tests.properties.test_simulator_rules import cases as rules

NAMES = st.sampled_from(sorted(PRIORITIES))


def agree(problem: Problem, placement: Placement, priority: str) -> None:
    """The readable way, and the compiled one."""
    key = PRIORITIES[priority](problem, placement)
    expected = dispatch(problem, Plan(placement, [0] * len(key), key), "list")
    lanes = module._fast_lanes(problem, placement, priority)
    assert lanes is not None
    tasks = problem.tasks.tasks
    found = [tuple(tasks[index].id for index in lane) for lane in lanes]
    assert found == [lane.tasks for lane in expected.lanes]
    inputs = columns_of(problem, placement)
    assert inputs is not None
    assert path_lengths(inputs).tolist() == path_to_end(problem, placement)


@settings(derandomize=True, max_examples=250, deadline=None)
@given(dags(), NAMES, st.data())
def test_equal_on_random_task_graphs_and_placements(case: Case, priority: str, data: st.DataObject) -> None:
    stages, units = case.problem.tasks.stages, len(case.problem.machine.units)
    placement = tuple(data.draw(st.integers(0, units - 1)) for _ in range(stages + 1))
    agree(case.problem, placement, priority)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(rules(), NAMES)
def test_equal_on_random_models_under_every_rule(case: Ruled, priority: str) -> None:
    try:
        placement = contiguous_blocks(case.problem)
    except ScheduleError:
        assume(False)
    agree(case.problem, placement, priority)


def test_large_problems_take_the_compiled_way_and_small_ones_do_not(
    textbook: TextbookBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = textbook(4, 4, 6, "bp", transfer=1)
    small = list_schedule(problem)
    monkeypatch.setattr(module, "FAST_FROM", 0)
    calls: list[str] = []
    real = module._fast_lanes
    monkeypatch.setattr(module, "_fast_lanes", lambda *given: calls.append("fast") or real(*given))
    assert list_schedule(problem) == small
    assert calls == ["fast"]


def test_times_beyond_64_bits_are_left_to_plain_python(
    textbook: TextbookBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = textbook(2, 2, 3)
    for ticks in (2**61, 2**70):
        huge = replace(problem, durations=tuple((ticks,) * 2 for _ in problem.durations))
        assert columns_of(huge, contiguous_blocks(huge)) is None
        expected = list_schedule(huge)
        with monkeypatch.context() as patch:
            patch.setattr(module, "FAST_FROM", 0)
            assert list_schedule(huge) == expected
