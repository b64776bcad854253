"""Brute force over every placement and order of tiny problems judges bounds, the exact scheduler and the heuristics."""

from dataclasses import replace
from importlib.util import find_spec
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alrsim.errors import ScheduleError
from alrsim.hardware.machine import Link, Machine, Unit
from alrsim.hardware.topology import Listed
from alrsim.schedule.bounds import makespan_bound, placed_bound
from alrsim.schedulers import SCHEDULERS, SearchOptions, solve
from alrsim.schedulers.caps import Caps, caps_of, timed
from alrsim.schedulers.dispatch import schedule_of
from alrsim.schedulers.placement import contiguous_blocks
from alrsim.tasks.problem import Problem
from alrsim.tasks.taskgraph import Buffer, Category, Task, TaskGraph
from alrsim.tasks.token import NONE, TaskId

FEW = settings(derandomize=True, max_examples=40, deadline=None)
NO_CAPS = Caps()
needs_ortools = pytest.mark.skipif(find_spec("ortools") is None, reason="OR-Tools is not installed")


@st.composite
def problems(draw: st.DrawFn, most: int = 6, *, sizes: bool = True) -> Problem:
    """A random DAG of a few tasks on two unlike units with unlike links; some waits move no data."""
    count, stages = draw(st.integers(1, most)), draw(st.integers(1, 3))
    reads: list[list[int]] = [[] for _ in range(count)]
    after: list[list[int]] = [[] for _ in range(count)]
    buffers: list[Buffer] = []
    stage = [draw(st.integers(0, stages - 1)) for _ in range(count)]
    for task in range(count):
        for other in range(task):
            kind = draw(st.integers(0, 4))
            if kind == 0:
                after[task].append(other)
            elif kind == 1:
                reads[task].append(len(buffers))
                size = draw(st.integers(0, 4)) if sizes else 0
                buffers.append(Buffer(f"b{len(buffers)}", Category.ACTIVATION, size, stage[other], other, (task,)))
    if draw(st.booleans()):  # something that lies at its home stage from the start
        reader = draw(st.integers(0, count - 1))
        reads[reader].append(len(buffers))
        buffers.append(Buffer("there", Category.PARAM, 2, draw(st.integers(0, stages - 1)), NONE, (reader,)))
    tasks = tuple(Task(TaskId(stage[i], "F", i), tuple(reads[i]), tuple(after[i])) for i in range(count))
    graph = TaskGraph(tasks, tuple(buffers), "random", stages, count)
    ways = st.integers(0, 2)
    links = tuple(Link(a, 1 - a, 1e9 if draw(st.booleans()) else None, draw(ways), draw(ways)) for a in (0, 1))
    rows = tuple((draw(st.integers(0, 5)), draw(st.integers(0, 5))) for _ in tasks)
    return Problem(graph, Machine("two", (Unit("u0"), Unit("u1")), Listed(links)), rows, "random")


def orders(problem, lane):
    """Every order of a lane that its own dependencies allow."""
    needs = {task: set(ancestors(problem, task)) & set(lane) for task in lane}

    def extend(done, rest):
        if not rest:
            yield list(done)
        for task in sorted(rest):
            if needs[task] <= set(done):
                yield from extend([*done, task], rest - {task})

    return extend([], frozenset(lane))


def ancestors(problem, task):
    found = set()
    for other, _ in problem.tasks.dependencies(task):
        found |= {other, *ancestors(problem, other)}
    return found


def best_order(problem, units, caps=NO_CAPS):
    """The shortest makespan of all orders within caps; None if there is none."""
    lanes = [[task for task, unit in enumerate(units) if unit == index] for index in range(len(problem.machine.units))]
    best = None
    for chosen in product(*(list(orders(problem, lane)) for lane in lanes)):
        try:
            made = timed(problem, schedule_of(problem, chosen, "brute force"))
        except ScheduleError:  # lanes that wait for each other
            continue
        if (best is None or made.makespan < best) and not made.shortages(caps):
            best = made.makespan
    return best


def best_anywhere(problem):
    placements = product(range(len(problem.machine.units)), repeat=len(problem.durations))
    return min(best_order(problem, units) for units in placements)


def blocks(problem):
    placement = contiguous_blocks(problem)
    return [placement[task.id.stage] for task in problem.tasks.tasks]


@FEW
@given(problems())
def test_no_bound_is_above_the_best_of_all_schedules(problem):
    units = blocks(problem)
    assert makespan_bound(problem) <= placed_bound_of(problem, units) <= best_order(problem, units)


def placed_bound_of(problem, units):
    return max(makespan_bound(problem), placed_bound(problem, units))


@settings(FEW, max_examples=15)
@given(problems(4))
def test_the_bound_for_any_placement_is_not_above_the_best_anywhere(problem):
    assert makespan_bound(problem) <= best_anywhere(problem)


@needs_ortools
@FEW
@given(problems())
def test_cpsat_proves_what_brute_force_finds(problem):
    found = solve(problem, "cpsat")
    best = best_order(problem, blocks(problem))
    assert (found.proof.status, found.proof.bound, timed(problem, found.schedule).makespan) == ("OPTIMAL", best, best)


@needs_ortools
@settings(FEW, max_examples=20)
@given(problems(4))
def test_cpsat_with_every_placement_proves_what_brute_force_finds(problem):
    found = solve(problem, "cpsat", SearchOptions(placement="free"))
    best = best_anywhere(problem)
    assert (found.proof.status, found.proof.bound, timed(problem, found.schedule).makespan) == ("OPTIMAL", best, best)


@needs_ortools
@settings(FEW, max_examples=60)
@given(problems(5), st.integers(0, 12), st.integers(0, 12))
def test_cpsat_with_capacities_in_bytes_agrees_with_brute_force(problem, first, second):
    capped = with_memory(problem, first, second)
    best = best_order(capped, blocks(capped), caps_of(capped, SearchOptions()))
    if best is None:
        with pytest.raises(ScheduleError):
            solve(capped, "cpsat", SearchOptions(effort=5))
        return
    found = solve(capped, "cpsat", SearchOptions(effort=5))
    made = timed(capped, found.schedule).makespan
    assert found.proof.bound <= best <= made
    assert made == best or found.proof.status == "FEASIBLE"


def with_memory(problem, first, second):
    units = tuple(replace(u, memory_bytes=c) for u, c in zip(problem.machine.units, (first, second), strict=True))
    return replace(problem, machine=replace(problem.machine, units=units))


@needs_ortools
@pytest.mark.parametrize("transfer", [0, 1])
@pytest.mark.parametrize("live", [1, 2, (2, 1)])
@pytest.mark.parametrize(("rule", "f", "b", "w"), [("bp", 1, 1, 0), ("bp-split", 1, 2, 1), ("lr", 2, 0, 3)])
def test_cpsat_with_live_caps_agrees_with_brute_force(textbook, rule, f, b, w, live, transfer):
    options = {"loss": True, "baseline": "none"} if rule == "lr" else {}
    problem = textbook(2, 2, 2, rule, f=f, b=b, w=w, transfer=transfer, **options)
    asked = SearchOptions(live=live)
    best = best_order(problem, blocks(problem), caps_of(problem, asked))
    found = solve(problem, "cpsat", asked)
    assert (found.proof.status, timed(problem, found.schedule).makespan) == ("OPTIMAL", best)


@settings(FEW, max_examples=15)
@given(problems(5), st.integers(0, 12))
def test_heuristics_stay_within_bounds_and_capacities(problem, capacity):
    capped = with_memory(problem, capacity, capacity)
    best = best_anywhere(problem) if len(problem.durations) < 5 else makespan_bound(problem)
    for name in ("list", "heft", "local-search", "auto"):
        options = SearchOptions(effort=0.02, exact=False)
        found = solve(problem, name, options)
        assert best <= timed(problem, found.schedule).makespan
        try:
            fits = timed(capped, solve(capped, name, options).schedule)
        except ScheduleError:
            continue
        assert not fits.shortages(caps_of(capped, options))


@settings(FEW, max_examples=15)
@given(problems())
def test_auto_is_never_slower_than_what_it_is_made_of(problem):
    options = SearchOptions(placement="free", effort=0.02, exact=False)
    made = timed(problem, solve(problem, "auto", options).schedule).makespan
    for name in SCHEDULERS:
        if name in ("cpsat", "auto"):
            continue
        try:
            other = solve(problem, name, options)
        except ScheduleError:
            continue
        assert made <= timed(problem, other.schedule).makespan, name


@needs_ortools
def test_auto_without_the_solver_is_within_one_percent_of_the_optimum_on_average(textbook):
    excess = []
    for number, (rule, stages, microbatches) in enumerate(product(("bp", "bp-split", "lr"), (3, 4), (2, 3))):
        problem = textbook(stages, 3, microbatches, rule, loss=True, l=1, transfer=number % 2, baseline="none")
        rows = tuple(  # unlike stages on unlike units
            tuple((ticks + (5 * task.id.stage + number) % 4) * by for ticks, by in zip(row, (1, 2, 1), strict=True))
            for task, row in zip(problem.tasks.tasks, problem.durations, strict=True)
        )
        problem = replace(problem, durations=rows)
        options = SearchOptions(placement="fixed", effort=0.1)
        proof = solve(problem, "cpsat", replace(options, effort=5)).proof
        assert proof.status == "OPTIMAL"
        exact = proof.bound
        alone = timed(problem, solve(problem, "auto", replace(options, exact=False)).schedule).makespan
        assert exact <= alone
        excess.append(alone / exact - 1)
    assert sum(excess) / len(excess) < 0.01
