"""Columns of one micro-batch stand for the whole step: same tasks, buffers, lanes and times as the objects."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from alrsim.errors import DeadlockError, OptionError, ScheduleError
from alrsim.graph.stages import chain
from alrsim.hardware.machine import Link, Machine, Unit, abstract_machine
from alrsim.hardware.topology import Listed
from alrsim.rules import RULES, RuleOptions
from alrsim.rules.rule_columns import column_tasks
from alrsim.schedule.lower import lower
from alrsim.schedule.lowered_columns import ColumnProblem, lower_columns
from alrsim.schedulers import schedule
from alrsim.schedulers.column_lanes import NAMES, column_lanes, one_each
from alrsim.simulation.column_run import simulate_columns
from alrsim.simulation.engine import simulate
from alrsim.simulation.fast import complete, run_columns
from alrsim.simulation.run import run
from alrsim.tasks.expand import MAX_OBJECTS, expand
from alrsim.tasks.problem import Problem, Semantics
from alrsim.tasks.task_columns import TaskColumns, full_columns
from alrsim.tasks.taskgraph import Task, TaskGraph
from alrsim.tasks.token import KINDS
from alrsim.timeline.metrics import busy, named_shares
from tests.properties.test_simulator_rules import models, options

QUICK = settings(derandomize=True, max_examples=100, deadline=None)


@st.composite
def steps(draw: st.DrawFn) -> tuple[TaskColumns, TaskGraph]:
    """A step as columns and as objects."""
    stages, rule = draw(st.integers(1, 4)), draw(st.sampled_from(sorted(RULES)))
    graph, chosen = draw(models(stages)), draw(options(rule, stages))
    chosen = replace(chosen, loss_gradient=draw(st.booleans()), loss_update=draw(st.booleans()))
    try:
        return column_tasks(rule, graph, chosen), RULES[rule](graph, chosen)
    except OptionError:
        assume(False)
        raise


@QUICK
@given(steps())
def test_the_columns_written_out_are_the_task_graph(step: tuple[TaskColumns, TaskGraph]) -> None:
    columns, graph = step
    full = full_columns(columns)
    ids = [task.id for task in graph.tasks]
    assert full.stage.tolist() == [one.stage for one in ids]
    assert [KINDS[kind] for kind in full.kind] == [one.kind for one in ids]
    assert full.microbatch.tolist() == [one.microbatch for one in ids]
    assert full.group.tolist() == [one.group for one in ids]
    before = [sorted({other for other, _ in graph.dependencies(index)}) for index in range(len(ids))]
    assert [full.before[a:b].tolist() for a, b in zip(full.first, full.first[1:], strict=False)] == before
    items = columns.items(np.arange(len(ids)))
    assert [columns.task_id(int(item)) for item in items] == ids
    assert sorted(items.tolist()) == list(range(len(ids)))


@QUICK
@given(steps())
def test_written_out_as_objects_it_is_the_graph_of_the_rule(step: tuple[TaskColumns, TaskGraph]) -> None:
    columns, graph = step
    assert expand(columns) == graph  # work, buffers, names, sums and readers included


@st.composite
def pipelines(draw: st.DrawFn) -> tuple[str, ColumnProblem, Problem]:
    """A problem with one stage on each unit, as columns and as objects."""
    name = draw(st.sampled_from(NAMES))
    rule = "lr" if name == "lr-fixed" else draw(st.sampled_from(["bp", "bp-split", "lr", "segments"]))
    stages = draw(st.integers(1, 4))
    units = stages + draw(st.integers(0, 1))
    loss_unit = draw(st.sampled_from([None, units - 1]))
    graph = chain(stages, elements=draw(st.integers(0, 2)))
    chosen = replace(draw(options(rule, stages)), loss_gradient=draw(st.booleans()), loss_update=draw(st.booleans()))
    links = tuple(
        Link(s, t, occupancy_ns=draw(st.integers(0, 2)), latency_ns=draw(st.integers(0, 1)), bandwidth=4e9)
        for s in range(units)
        for t in range(units)
        if s != t
    )
    machine = Machine("random", tuple(Unit(f"u{unit}") for unit in range(units)), Listed(links))
    slower = draw(st.booleans())  # the stages of a pipeline that never starves
    times = {kind: draw(st.integers(0, 5)) for kind in "FLBIWGCU"}

    def ticks(task: Task) -> int:
        return times[task.id.kind] + (task.id.stage if slower and task.id.kind == "F" else 0)

    try:
        columns, graph_of_all = column_tasks(rule, graph, chosen), RULES[rule](graph, chosen)
    except OptionError:
        assume(False)
        raise
    durations = np.array([ticks(task) for task in columns.template.tasks], dtype=np.int64)
    placed = one_each(stages, units, loss_unit)
    rows = tuple((ticks(task),) * units for task in graph_of_all.tasks)
    problem = Problem(graph_of_all, machine, rows, "random", loss_unit)
    return name, ColumnProblem(columns, machine, placed, durations), problem


@settings(derandomize=True, max_examples=250, deadline=None)
@given(pipelines(), st.sampled_from(["latency", "link", "blocking"]))
def test_lanes_are_those_of_the_scheduler_and_times_those_of_simpy(
    case: tuple[str, ColumnProblem, Problem], semantics: Semantics
) -> None:
    name, columns, problem = case
    try:
        lanes = column_lanes(columns, name)
    except ScheduleError:
        assume(False)
        raise
    order = schedule(problem, name)
    written = [
        tuple(columns.tasks.task_id(int(item)) for item in lanes.items[a:b])
        for a, b in zip(lanes.first, lanes.first[1:], strict=False)
    ]
    assert written == [lane.tasks for lane in order.lanes]
    lowered = lower(problem, order)
    slow = run(lowered, semantics=semantics)
    table = lower_columns(columns, lanes, semantics)
    fast = complete(table, run_columns(table, semantics), semantics)
    assert fast.ends[lanes.items].tolist() == slow.ends
    whole = simulate(problem, order, semantics=semantics)
    timeline = simulate_columns(columns, lanes, semantics=semantics)
    assert (timeline.makespan, busy(timeline)) == (whole.makespan, busy(whole))
    assert named_shares(timeline) == named_shares(whole)
    assert (timeline.spans, timeline.transfers, timeline.memory) == (whole.spans, whole.transfers, whole.memory)
    assert sorted(zip(fast.sent.tolist(), fast.arrived.tolist(), strict=True)) == sorted(
        zip(slow.sent, slow.arrived, strict=True)
    )


def large(units: int, microbatches: int, name: str = "1f1b") -> ColumnProblem:
    rule = "lr" if name == "lr-fixed" else "bp"
    tasks = column_tasks(rule, chain(units), RuleOptions(microbatches=microbatches, baseline="none"))
    ticks = {"F": 1, "B": 2, "G": 1}
    durations = np.array([ticks.get(task.id.kind, 0) for task in tasks.template.tasks], dtype=np.int64)
    return ColumnProblem(tasks, abstract_machine(units), one_each(units, units), durations)


def test_four_million_tasks_take_the_time_of_the_closed_form_and_are_not_written_out() -> None:
    units, microbatches = 64, 32_768
    for name in ("gpipe", "1f1b"):
        problem = large(units, microbatches, name)
        timeline = simulate_columns(problem, column_lanes(problem, name))
        assert timeline.makespan == (microbatches + units - 1) * 3
        assert set(busy(timeline).values()) == {3 * microbatches}
        assert len(problem.tasks) > MAX_OBJECTS
        with pytest.raises(OptionError, match="too many to write out"):
            assert timeline.spans
    problem = large(units, microbatches, "lr-fixed")
    assert simulate_columns(problem, column_lanes(problem, "lr-fixed")).makespan == units - 1 + 2 * microbatches


def test_lanes_that_are_not_those_of_the_problem_are_refused() -> None:
    problem = large(2, 3)
    lanes = column_lanes(problem, "gpipe")
    swapped = replace(lanes, items=lanes.items[::-1].copy())
    doubled = replace(lanes, items=np.where(lanes.items == 1, np.int32(0), lanes.items).astype(np.int32))
    beyond = replace(lanes, items=(lanes.items + 1).astype(np.int32))
    for wrong in (swapped, doubled, beyond, replace(lanes, items=lanes.items[1:])):
        with pytest.raises(ScheduleError):
            lower_columns(problem, wrong, "link")


def test_lanes_in_an_order_that_cannot_run_are_a_deadlock() -> None:
    problem = large(2, 3)
    lanes = column_lanes(problem, "gpipe")
    first = lanes.items[: lanes.first[1]][::-1]
    with pytest.raises(DeadlockError, match="wait for each other"):
        simulate_columns(problem, replace(lanes, items=np.concatenate([first, lanes.items[lanes.first[1] :]])))


def test_what_depends_on_the_clock_is_refused() -> None:
    problem = large(3, 4, "lr-fixed")
    starving = replace(problem, durations=np.where(problem.tasks.stage == 0, 9, 1))
    with pytest.raises(ScheduleError, match="waits for its input"):
        column_lanes(starving, "lr-fixed")
    with pytest.raises(ScheduleError, match="shares a unit"):
        column_lanes(replace(problem, units=(0, 1, 2, 0)), "gpipe")
    with pytest.raises(OptionError, match="no columns for scheduler"):
        column_lanes(problem, "zb-h1")
