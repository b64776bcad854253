"""Columns of one micro-batch stand for the whole step: same tasks, buffers, lanes and times as the objects."""

from collections.abc import Mapping
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
from alrsim.schedule.column_lanes import NAMES, column_lanes
from alrsim.schedule.lower import lower
from alrsim.schedule.lowered_columns import lower_columns
from alrsim.schedulers import schedule
from alrsim.simulation.at_scale import MAX_OBJECTS, Make, StepAtScale, schedule_at_scale
from alrsim.simulation.engine import simulate
from alrsim.simulation.fast import complete, run_columns
from alrsim.simulation.run import run
from alrsim.tasks.problem import Problem, Semantics, cost_key, with_scratch
from alrsim.tasks.repeated import RepeatedProblem
from alrsim.tasks.taskgraph import Task, TaskGraph
from alrsim.timeline.memory import memory_by_category, peak_memory
from alrsim.timeline.metrics import busy, named_shares
from tests.properties.test_simulator_rules import models, options
from tests.written_out import written_out

QUICK = settings(derandomize=True, max_examples=100, deadline=None)


@st.composite
def steps(draw: st.DrawFn) -> tuple[TaskGraph, TaskGraph]:
    """A step of one micro-batch, and the whole of it."""
    stages, rule = draw(st.integers(1, 4)), draw(st.sampled_from(sorted(RULES)))
    graph, chosen = draw(models(stages)), draw(options(rule, stages))
    chosen = replace(chosen, loss_gradient=draw(st.booleans()), loss_update=draw(st.booleans()))
    try:
        return RULES[rule](graph, replace(chosen, microbatches=1)), RULES[rule](graph, chosen)
    except OptionError:
        assume(False)
        raise


@QUICK
@given(steps())
def test_one_micro_batch_says_all_of_a_step(step: tuple[TaskGraph, TaskGraph]) -> None:
    one, whole = step
    # Work, buffers, names, sums and readers included; some notes are about several micro-batches.
    assert replace(written_out(one, whole.microbatches), notes=whole.notes) == whole


@st.composite
def pipelines(draw: st.DrawFn) -> tuple[str, int, Make]:
    """A scheduler, and a problem with one stage on each unit for any number of micro-batches."""
    name = draw(st.sampled_from(NAMES))
    rule = "lr" if name == "lr-fixed" else draw(st.sampled_from(["bp", "bp-split", "lr", "segments"]))
    stages = draw(st.integers(1, 4))
    units = stages + draw(st.integers(0, 1))
    loss_unit = draw(st.sampled_from([None, units - 1]))
    graph = draw(models(stages)) if draw(st.booleans()) else chain(stages, elements=draw(st.integers(0, 2)))
    chosen = replace(draw(options(rule, stages)), loss_gradient=draw(st.booleans()), loss_update=draw(st.booleans()))
    if draw(st.booleans()):
        chosen = replace(chosen, loss=False, loss_gradient=False, loss_update=False)
    links = tuple(
        Link(s, t, occupancy_ns=draw(st.integers(0, 2)), latency_ns=draw(st.integers(0, 1)), bandwidth=4e9)
        for s in range(units)
        for t in range(units)
        if s != t
    )
    machine = Machine("random", tuple(Unit(f"u{unit}") for unit in range(units)), Listed(links))
    slower = draw(st.booleans())  # the stages of a pipeline that never starves
    times = {kind: draw(st.integers(0, 5)) for kind in "FLBIWGCU"}
    scratch = {kind: draw(st.integers(-2, 3)) for kind in "FBG"}

    def ticks(task: Task) -> int:
        return times[task.id.kind] + (task.id.stage if slower and task.id.kind == "F" else 0)

    def make(microbatches: int) -> Problem:
        tasks = RULES[rule](graph, replace(chosen, microbatches=microbatches))
        tasks = with_scratch(tasks, {cost_key(task): scratch.get(task.id.kind, 0) for task in tasks.tasks})
        rows = tuple((ticks(task),) * units for task in tasks.tasks)
        return Problem(tasks, machine, rows, "random", loss_unit)

    try:
        make(chosen.microbatches)
    except OptionError:
        assume(False)
        raise
    return name, chosen.microbatches, make


@settings(derandomize=True, max_examples=250, deadline=None)
@given(pipelines(), st.sampled_from(["latency", "link", "blocking"]))
def test_lanes_times_and_peaks_are_those_of_the_step_written_out(
    case: tuple[str, int, Make], semantics: Semantics
) -> None:
    name, microbatches, make = case
    repeated, problem = RepeatedProblem(make(1), microbatches), make(microbatches)
    try:
        lanes = column_lanes(repeated, name)
    except ScheduleError:
        assume(False)
        raise
    order = schedule(problem, name)
    written = [
        tuple(repeated.task_id(int(item)) for item in lanes.items[a:b])
        for a, b in zip(lanes.first, lanes.first[1:], strict=False)
    ]
    assert written == [lane.tasks for lane in order.lanes]
    lowered = lower(problem, order)
    slow = run(lowered, semantics=semantics)
    table = lower_columns(repeated, lanes, semantics)
    fast = complete(table, run_columns(table, semantics), semantics)
    assert fast.ends[lanes.items].tolist() == slow.ends
    whole = simulate(problem, order, semantics=semantics)
    timeline = StepAtScale(repeated, lanes, make).simulate(semantics)
    assert (timeline.makespan, busy(timeline)) == (whole.makespan, busy(whole))
    assert named_shares(timeline) == named_shares(whole)
    assert timeline.span_count == len(whole.spans)
    assert peak_memory(timeline) == peak_memory(whole)
    assert memory_by_category(timeline) == memory_by_category(whole)
    assert (timeline.spans, timeline.transfers, timeline.memory) == (whole.spans, whole.transfers, whole.memory)
    assert sorted(zip(fast.sent.tolist(), fast.arrived.tolist(), strict=True)) == sorted(
        zip(slow.sent, slow.arrived, strict=True)
    )


def maker(units: int, name: str, ticks: Mapping[str, int], loss_unit: int | None = None, first: int = 0) -> Make:
    """A chain of equal stages, one on each unit; those of stage 0 take ``first`` ticks more."""
    rule = "lr" if name == "lr-fixed" else "bp"

    def make(microbatches: int) -> Problem:
        tasks = RULES[rule](chain(units, elements=1), RuleOptions(microbatches=microbatches, baseline="none"))
        rows = tuple((ticks.get(task.id.kind, 0) + (task.id.stage == 0) * first,) * units for task in tasks.tasks)
        return Problem(tasks, abstract_machine(units), rows, "random", loss_unit)

    return make


TICKS = {"F": 1, "B": 2, "G": 1}


def small(name: str = "1f1b") -> RepeatedProblem:
    return RepeatedProblem(maker(2, name, TICKS)(1), 3)


def test_four_million_tasks_take_the_time_of_the_closed_form_and_are_not_written_out() -> None:
    units, microbatches = 64, 32_768
    for name in NAMES:
        step = schedule_at_scale(maker(units, name, TICKS), microbatches, name)
        assert step is not None
        timeline = step.simulate()
        assert step.tasks == timeline.span_count > MAX_OBJECTS
        expected = units - 1 + 2 * microbatches if name == "lr-fixed" else (microbatches + units - 1) * 3
        assert timeline.makespan == expected
        assert set(busy(timeline).values()) == {(2 if name == "lr-fixed" else 3) * microbatches}
        with pytest.raises(OptionError, match=f"{step.tasks:,} tasks are too many to write out"):
            assert timeline.spans


def test_peaks_of_millions_of_tasks_are_those_of_the_closed_form() -> None:
    units, microbatches, few = 8, 100_000, 24
    make = maker(units, "1f1b", TICKS)
    step = schedule_at_scale(make, microbatches, "1f1b")
    assert step is not None
    assert schedule_at_scale(make, few, "1f1b") is None
    small = peak_memory(simulate(make(few), schedule(make(few), "1f1b")))
    # 1F1B holds as much from some micro-batch on, but the step's input is there from the start.
    assert peak_memory(step.simulate()) == {**small, "u0": small["u0"] + 4 * (microbatches - few)}


def test_what_needs_objects_is_left_to_them_or_refused_with_the_number() -> None:
    bp = maker(8, "1f1b", TICKS)
    starving = maker(8, "lr-fixed", TICKS, first=8)
    for make, name, message in (
        (bp, "zb-h1", "the order of scheduler zb-h1 is not known"),
        (starving, "lr-fixed", "depend on the clock"),
    ):
        assert schedule_at_scale(make, 70_000, name) is None
        with pytest.raises(OptionError, match=message) as caught:
            schedule_at_scale(make, 500_000, name)
        assert " tasks are too many to schedule one by one (at most 4,000,000)" in caught.value.what
        assert caught.value.field == "microbatches"
    with pytest.raises(OptionError, match="a search was asked for"):
        schedule_at_scale(bp, 500_000, "1f1b", objects="a search was asked for")


def test_lanes_that_are_not_those_of_the_problem_are_refused() -> None:
    problem = small()
    lanes = column_lanes(problem, "gpipe")
    swapped = replace(lanes, items=lanes.items[::-1].copy())
    doubled = replace(lanes, items=np.where(lanes.items == 1, np.int32(0), lanes.items).astype(np.int32))
    beyond = replace(lanes, items=(lanes.items + 1).astype(np.int32))
    for wrong in (swapped, doubled, beyond, replace(lanes, items=lanes.items[1:])):
        with pytest.raises(ScheduleError):
            lower_columns(problem, wrong, "link")


def test_lanes_in_an_order_that_cannot_run_are_a_deadlock() -> None:
    problem = small()
    lanes = column_lanes(problem, "gpipe")
    first = lanes.items[: lanes.first[1]][::-1]
    wrong = replace(lanes, items=np.concatenate([first, lanes.items[lanes.first[1] :]]))
    with pytest.raises(DeadlockError, match="wait for each other"):
        StepAtScale(problem, wrong, maker(2, "1f1b", TICKS)).simulate()


def test_what_depends_on_the_clock_is_refused() -> None:
    starving = maker(3, "lr-fixed", TICKS, first=8)(1)
    with pytest.raises(ScheduleError, match="depend on the clock"):
        column_lanes(RepeatedProblem(starving, 4), "lr-fixed")
    with pytest.raises(ScheduleError, match="shares a unit"):
        column_lanes(RepeatedProblem(maker(3, "gpipe", TICKS, loss_unit=0)(1), 4), "gpipe")
    with pytest.raises(OptionError, match="no columns for scheduler"):
        column_lanes(small(), "zb-h1")
    narrow = replace(starving, machine=abstract_machine(2), durations=((1, 1),) * len(starving.durations))
    with pytest.raises(ScheduleError, match="3 stages, 2 units"):
        RepeatedProblem(narrow, 4)
