"""Columns of one micro-batch stand for the whole step: same tasks, buffers, lanes and times as the objects."""

from dataclasses import replace

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from alrsim.errors import OptionError, ScheduleError
from alrsim.graph.stages import chain
from alrsim.hardware.machine import Link, Machine, Unit
from alrsim.rules import RULES
from alrsim.rules.columns import column_tasks
from alrsim.schedule.columns import ColumnProblem, Transfers, lower_columns
from alrsim.schedule.lower import lower
from alrsim.schedulers import schedule
from alrsim.schedulers.column_lanes import NAMES, column_lanes, one_each
from alrsim.simulate.fast import complete, run_columns
from alrsim.simulate.run import run
from alrsim.tasks.columns import TaskColumns, full_columns
from alrsim.tasks.problem import Problem
from alrsim.tasks.taskgraph import Task, TaskGraph
from alrsim.tasks.token import KINDS
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
def test_every_micro_batch_has_the_work_and_the_buffers_of_the_template(step: tuple[TaskColumns, TaskGraph]) -> None:
    columns, graph = step
    rows, split = columns.rows, columns.rows * columns.microbatches
    template = columns.template
    for index, task in enumerate(graph.tasks):
        model = template.tasks[index % rows if index < split else rows + index - split]
        assert (task.work, task.encoded, task.copies) == (model.work, model.encoded, model.copies)
        if index < split:
            assert [_what(graph, b, rows) for b in task.reads] == [_what(template, b, rows) for b in model.reads]
    made = [_what(graph, index, rows) for index in range(len(graph.buffers))]
    once = [_what(template, index, rows) for index, one in enumerate(template.buffers) if one.resident]
    each = [_what(template, index, rows) for index, one in enumerate(template.buffers) if not one.resident]
    assert made == once + each * columns.microbatches


def _what(graph: TaskGraph, index: int, rows: int) -> tuple[object, ...]:
    one = graph.buffers[index]
    producer = one.producer if one.producer < 0 else one.producer % rows
    return one.category, one.bytes, one.stage, producer, one.resident, bool(one.accumulator)


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
    machine = Machine("random", tuple(Unit(f"u{unit}") for unit in range(units)), links)
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
    case: tuple[str, ColumnProblem, Problem], semantics: Transfers
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
    assert sorted(zip(fast.sent.tolist(), fast.arrived.tolist(), strict=True)) == sorted(
        zip(slow.sent, slow.arrived, strict=True)
    )
