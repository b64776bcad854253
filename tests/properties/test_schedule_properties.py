"""Random problems: the evaluator against its own definition, schedulers against bounds and a brute-force optimum."""

from dataclasses import replace
from functools import cache

import numba.core.caching
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alrsim.hardware.machine import abstract_machine
from alrsim.schedule import evaluate as evaluator
from alrsim.schedule.check import check
from alrsim.schedule.evaluate import compile_arrays, evaluate, evaluate_lanes, follow, run
from alrsim.schedule.lower import lower
from alrsim.schedulers import schedule
from alrsim.schedulers.dispatch import Dispatcher, Plan
from alrsim.schedulers.placement import contiguous_blocks, stage_loads
from alrsim.tasks.problem import Problem
from alrsim.tasks.taskgraph import Buffer, Category, Task, TaskGraph
from alrsim.tasks.token import NONE, TaskId
from tests.linked import link_table

quick = settings(derandomize=True, max_examples=60, deadline=None)


@st.composite
def problems(draw, most=14):
    """Any DAG: tasks of some stages, data and plain orders between them, inputs that are there from the start."""
    units, stages = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    count = draw(st.integers(1, most))
    transfer = draw(st.sampled_from([0, 0, 1, 7]))
    buffers = [Buffer(f"in{s}", Category.ACTIVATION, 1, s) for s in range(stages)]
    tasks, owners = [], []
    for index in range(count):
        stage = draw(st.integers(0, stages - 1))
        known = [NONE] * stages + owners
        reads = draw(st.lists(st.integers(0, len(buffers) - 1), max_size=3, unique=True))
        after = draw(st.lists(st.integers(0, index - 1), max_size=2, unique=True)) if index else []
        assert all(known[buffer] < index for buffer in reads)
        tasks.append(Task(TaskId(stage, "F", index), tuple(reads), tuple(after)))
        if draw(st.booleans()):
            buffers.append(Buffer(f"{index}:out", Category.ACTIVATION, 1, stage, index))
            owners.append(index)
    graph = TaskGraph(tuple(tasks), tuple(buffers), "random", stages, count)
    row = st.tuples(*[st.integers(0, 9)] * units)
    return Problem(graph, abstract_machine(units, transfer), tuple(draw(row) for _ in range(count)), "random")


def by_definition(problem, made):
    """Starts and ends from the definition: sweep until nothing moves."""
    graph, links = problem.tasks, link_table(problem.machine)
    unit_of = {task: index for index, lane in enumerate(made.lanes) for task in lane.tasks}
    home = {}
    for task in graph.tasks:
        home.setdefault(task.id.stage, unit_of[task.id])
    previous = {b: a for lane in made.lanes for a, b in zip(lane.tasks, lane.tasks[1:], strict=False)}
    start = {task.id: 0 for task in graph.tasks}

    def end(index):
        task = graph.tasks[index].id
        return start[task] + problem.durations[index][unit_of[task]]

    moved = True
    while moved:
        moved = False
        for task in graph.tasks:
            unit, earliest = unit_of[task.id], [0]
            if task.id in previous:
                earliest.append(end(graph.index[previous[task.id]]))
            earliest += [end(other) for other in task.after]
            for buffer in (graph.buffers[i] for i in task.reads):
                source = home.get(buffer.stage, unit)
                if buffer.producer != NONE:
                    source = unit_of[graph.tasks[buffer.producer].id]
                elif buffer.stage not in home:
                    continue
                way = 0 if source == unit else links[source, unit].hold_ns(buffer.bytes)
                earliest.append(way + (0 if buffer.producer == NONE else end(buffer.producer)))
            if max(earliest) > start[task.id]:
                start[task.id] = max(earliest)
                moved = True
    return start


def fully_used(problem):
    """Every stage has a task, so that every stage has a home."""
    return {task.id.stage for task in problem.tasks.tasks} == set(range(problem.tasks.stages))


@quick
@given(problems())
@pytest.mark.parametrize("name", ["list", "serial"])
def test_the_evaluator_gives_the_times_of_its_definition(name, problem):
    made = schedule(problem, name)
    check(problem, made)
    if not fully_used(problem):
        return
    lowered = lower(problem, made)
    starts, ends = evaluate(lowered)
    expected = by_definition(problem, made)
    for item, (task,) in enumerate(lowered.tasks):
        assert starts[item] == expected[problem.tasks.tasks[task].id]
        assert ends[item] - starts[item] == lowered.duration[item]


@quick
@given(problems(), st.data())
def test_a_longer_task_never_shortens_a_fixed_order(problem, data):
    made = schedule(problem, "list")
    task = data.draw(st.integers(0, len(problem.durations) - 1))
    rows = list(problem.durations)
    rows[task] = tuple(time + data.draw(st.integers(1, 5)) for time in rows[task])
    _, before = evaluate(lower(problem, made))
    _, after = evaluate(lower(replace(problem, durations=tuple(rows)), made))
    assert (after >= before).all()


@quick
@given(problems())
def test_the_dispatcher_knows_the_evaluators_times(problem):
    if not fully_used(problem):
        return
    placement = contiguous_blocks(problem)
    count = len(problem.durations)
    dispatcher = Dispatcher(problem, Plan(placement, [0] * count, [(-i,) for i in range(count)]))
    lanes = dispatcher.run("test")
    tasks = problem.tasks.tasks
    made = replace(schedule(problem, "serial"), name="test")
    rows = [replace(lane, tasks=tuple(tasks[i].id for i in row)) for lane, row in zip(made.lanes, lanes, strict=True)]
    lowered = lower(problem, replace(made, lanes=tuple(rows)))
    _, found = evaluate(lowered)
    assert [dispatcher.ends[task] for (task,) in lowered.tasks] == found.tolist()


@quick
@given(problems())
def test_compiled_and_plain_kernels_agree(problem):
    lowered = lower(problem, schedule(problem, "list"))
    arrays = compile_arrays(lowered)
    starts, ends = evaluate_lanes(arrays, lowered.lanes, compiled=False)
    compiled = run(arrays, follow(lowered.lanes, len(starts)), compiled=True)
    assert compiled[2] == len(starts)
    assert np.array_equal(compiled[0], starts)
    assert np.array_equal(compiled[1], ends)


def test_the_kernel_works_where_no_cache_can_be_written(monkeypatch, textbook):
    monkeypatch.setattr(numba.core.caching.CacheImpl, "_locator_classes", [])
    monkeypatch.setattr(evaluator, "_COMPILE_FROM", 0)
    evaluator._compiled.cache_clear()
    try:
        problem = textbook(4, 4, 8)
        assert evaluate(lower(problem, schedule(problem, "gpipe")))[1].max() == 33
    finally:
        evaluator._compiled.cache_clear()


def optimum(problem, placement):
    """The shortest makespan for a placement without transfers: every order, with memory of states seen."""
    graph = problem.tasks
    unit = [placement[task.id.stage] for task in graph.tasks]
    before = [tuple({other for other, _ in graph.dependencies(i)}) for i in range(len(unit))]

    @cache
    def rest(ends):
        """``ends``: end of each task, or None while it is open."""
        if None not in ends:
            return max(ends, default=0)
        best = None
        for task, end in enumerate(ends):
            if end is not None or any(ends[other] is None for other in before[task]):
                continue
            free = max((e for other, e in enumerate(ends) if e is not None and unit[other] == unit[task]), default=0)
            start = max([free, *(ends[other] for other in before[task])])
            done = start + problem.durations[task][unit[task]]
            found = rest((*ends[:task], done, *ends[task + 1 :]))
            best = found if best is None else min(best, found)
        return best

    return rest((None,) * len(unit))


@settings(derandomize=True, max_examples=40, deadline=None)
@given(problems(most=7))
def test_list_is_between_the_optimum_and_grahams_bound(problem):
    problem = replace(problem, machine=abstract_machine(len(problem.machine.units)))
    placement = contiguous_blocks(problem)
    end = int(evaluate(lower(problem, schedule(problem, "list")))[1].max())
    best = optimum(problem, placement)
    work = sum(row[placement[t.id.stage]] for t, row in zip(problem.tasks.tasks, problem.durations, strict=True))
    assert best <= end <= work


@pytest.mark.parametrize(
    ("name", "rule", "stages", "microbatches", "times", "gap"),
    [
        ("gpipe", "bp", 2, 2, {"f": 1, "b": 1, "w": 1}, 0),
        ("1f1b", "bp", 2, 2, {"f": 2, "b": 1, "w": 2}, 0),
        ("zb-h1", "bp-split", 2, 1, {"f": 1, "b": 1, "w": 1}, 0),
        ("zb-h1", "bp-split", 2, 2, {"f": 5, "b": 1, "w": 3}, 0),  # w > b: the formula does not hold, still optimal
        ("zb-v", "bp-split", 4, 1, {"f": 1, "b": 1, "w": 1}, 1),  # m < 2p: a weight gradient goes first once
        ("interleaved-1f1b", "bp", 4, 1, {"f": 1, "b": 1, "w": 1}, 0),
        ("lr-fixed", "lr", 2, 1, {"f": 1, "g": 1}, 0),
        ("lr-fixed", "lr", 2, 2, {"f": 2, "g": 3}, 0),
        ("list", "bp-split", 2, 2, {"f": 2, "b": 3, "w": 1}, 1),  # greedy: never waits for a better task
    ],
)
def test_small_cases_outside_the_closed_forms_are_this_far_from_the_brute_force_optimum(
    textbook, name, rule, stages, microbatches, times, gap
):
    more = {"baseline": "none"} if rule == "lr" else {}
    problem = textbook(stages, 2, microbatches, rule, **times, **more)
    made = schedule(problem, name)
    placement = [made.unit_of[TaskId(stage, "F", 0)] for stage in range(stages)]
    end = int(evaluate(lower(problem, made))[1].max())
    assert end - optimum(problem, [*placement, placement[-1]]) == gap


@st.composite
def loaded(draw):
    """A chain problem with a load for each stage and unit."""
    units, stages = draw(st.integers(1, 3)), draw(st.integers(1, 7))
    rows = draw(st.lists(st.tuples(*[st.integers(0, 20)] * units), min_size=stages, max_size=stages))
    tasks = tuple(Task(TaskId(stage, "F", 0)) for stage in range(stages))
    return Problem(TaskGraph(tasks, (), "random", stages, 1), abstract_machine(units), tuple(rows), "random")


@quick
@given(loaded())
def test_contiguous_blocks_minimise_the_slowest_unit(problem):
    stages, units = problem.tasks.stages, len(problem.machine.units)
    loads = stage_loads(problem)

    def slowest(placement):
        return max(sum(loads[u][s] for s in range(stages) if placement[s] == u) for u in range(units))

    placement = contiguous_blocks(problem)[:stages]
    assert list(placement) == sorted(placement)
    if stages <= units:
        assert placement == tuple(range(stages))
        return

    def every(first, unit):
        if unit == units - 1:
            yield (unit,) * (stages - first)
            return
        for last in range(first, stages + 1):
            for rest in every(last, unit + 1):
                yield (unit,) * (last - first) + rest

    assert slowest(placement) == min(map(slowest, every(0, 0)))
