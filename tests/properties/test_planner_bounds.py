"""No schedule beats the planner's bounds, and the planner finds a plan wherever the exact solver does."""

import contextlib
from dataclasses import replace
from importlib.util import find_spec

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alrsim.errors import OptionError, ScheduleError
from alrsim.estimators.variance_law import copies_for
from alrsim.graph.stages import Edge, Stage, StageGraph
from alrsim.graph.work import Work
from alrsim.hardware.machine import Link, Machine, Unit
from alrsim.hardware.topology import Listed
from alrsim.planner.bounds import energy_bound, memory_bound, outline, time_bound
from alrsim.planner.candidate import Candidate
from alrsim.planner.evaluate import Evaluated, Misfit, Setting, build_problem, evaluate, score_of
from alrsim.planner.evaluate import bounded as bound_one
from alrsim.planner.gradient import noise_of
from alrsim.planner.search import DoesNotFitError, search
from alrsim.planner.sized_model import Source
from alrsim.planner.space import Space
from alrsim.planner.time_to_cosine import Table, lr_candidates, possible
from alrsim.rules.segmentation import segmentation_of
from alrsim.schedulers import SearchOptions, solve
from alrsim.simulation.engine import simulate
from alrsim.timeline.memory import peak_memory
from tests.properties.test_planner_chains import all_cuts

FEW = settings(derandomize=True, max_examples=12, deadline=None)
RULES_AND_COPIES = [("bp", 0), ("bp-split", 0), ("lr", 1), ("lr", 2)]
FREEDOMS = [("stages", None), ("stages", "free"), ("free", None), ("fixed", None), ("fixed", "free")]


def cost(task, unit, _plan):
    """A few ticks for what a task multiplies, as many times more on a slow unit."""
    return (task.work.macs + task.encoded.macs + task.work.launches) * int(unit.memory_bandwidth or 1)


@st.composite
def models(draw, most=4):
    count = draw(st.integers(1, most))
    size = st.integers(0, 5)
    stages = tuple(
        Stage(
            index,
            f"s{index}",
            (f"op{index}",),
            forward=Work(macs=draw(size), launches=1),
            input_gradient=Work(macs=draw(size), launches=1),
            weight_gradient=Work(macs=draw(size), launches=1),
            parameters=draw(st.integers(0, 3)) if index else draw(st.integers(1, 3)),
            saved=draw(size),
            operators=1,
        )
        for index in range(count)
    )
    edges = [Edge(index - 1, index, f"x{index}", draw(st.integers(1, 6))) for index in range(count + 1)]
    if count > 2 and draw(st.booleans()):  # a connection that skips a stage
        edges.append(Edge(0, 2, "x1", edges[1].elements))
    return StageGraph("small", stages, tuple(edges), Stage(count, "loss", forward=Work(launches=1)))


@st.composite
def machines(draw, capacities=(None,), most=3):
    speeds = draw(st.lists(st.sampled_from([1, 1, 3]), min_size=1, max_size=most))
    units = tuple(
        Unit(
            f"u{index}",
            memory_bandwidth=float(speed),
            memory_bytes=draw(st.sampled_from(capacities)),
            power_watts=float(draw(st.sampled_from([1, 2, 5]))),
        )
        for index, speed in enumerate(speeds)
    )
    slow = draw(st.integers(0, 3))
    links = tuple(
        Link(a, b, latency_ns=slow if (a, b) == (0, 1) else 0)
        for a in range(len(units))
        for b in range(len(units))
        if a != b
    )
    return Machine("small", units, Listed(links))


def setting_for(graph, machine, microbatches, target="step-time", placing=("stages", "free"), effort=0.1):
    """A planner's setting for one stage graph, without a model behind it."""
    cut = tuple(stage.ops for stage in graph.stages)
    source = Source("small", {}, microbatches, {(cut, 1): graph})
    options = SearchOptions(placement=placing[0], gradients=placing[1], effort=effort)
    return Setting(source, machine, cost, "small", target, search=options, idle=0.25), cut


@FEW
@given(
    models(), machines(), st.integers(1, 3), st.sampled_from(RULES_AND_COPIES), st.sampled_from(FREEDOMS), st.booleans()
)
def test_no_schedule_of_any_scheduler_beats_the_bounds(graph, machine, microbatches, rule, placing, exact):
    setting, cut = setting_for(graph, machine, microbatches, placing=placing)
    name, copies = rule
    candidate = Candidate(name, "all", cut, microbatches, copies, mode="stored" if copies else "")
    found = bound_one(setting, candidate)
    one = outline(build_problem(setting, candidate, found.options, 1), microbatches, free=placing[0] == "free")
    problem = build_problem(setting, candidate, found.options, microbatches)
    solution = solve(problem, "auto", replace(setting.search, exact=exact))
    timeline = simulate(problem, solution.schedule)
    score = score_of(setting, timeline)
    assert found.bound == time_bound(one)
    assert score.time >= time_bound(one)
    assert score.memory >= memory_bound(one)
    assert score.energy is not None
    assert score.energy >= energy_bound(one, 0.25, time_bound(one)) * (1 - 1e-12)


@pytest.mark.skipif(find_spec("ortools") is None, reason="OR-Tools is not installed")
@FEW
@given(models(3), machines(), st.integers(1, 2), st.sampled_from(RULES_AND_COPIES))
def test_the_optimum_of_the_exact_solver_is_no_less_than_the_bound(graph, machine, microbatches, rule):
    setting, cut = setting_for(graph, machine, microbatches, placing=("stages", None))
    candidate = Candidate(rule[0], "all", cut, microbatches, rule[1], mode="stored" if rule[1] else "")
    found = bound_one(setting, candidate)
    problem = build_problem(setting, candidate, found.options, microbatches)
    solution = solve(problem, "cpsat", replace(setting.search, effort=1.0))
    assert solution.proof is not None
    assert solution.proof.bound >= found.bound
    made = search(setting, [candidate])
    assert made.bound <= made.value
    if solution.proof.status == "OPTIMAL":
        assert simulate(problem, made.best.schedule, semantics="latency").makespan >= solution.proof.bound


@pytest.mark.skipif(find_spec("ortools") is None, reason="OR-Tools is not installed")
@settings(FEW, max_examples=8)
@given(models(3), machines(capacities=(30, 60, 90, 140)), st.integers(1, 3), st.sampled_from(RULES_AND_COPIES))
def test_a_plan_is_found_wherever_the_exact_solver_finds_one_on_unlike_units_with_little_memory(
    graph, machine, microbatches, rule
):
    setting, cut = setting_for(graph, machine, microbatches, placing=("stages", None), effort=0.2)
    candidate = Candidate(rule[0], "all", cut, microbatches, rule[1], mode="stored" if rule[1] else "")
    problem = build_problem(setting, candidate, bound_one(setting, candidate).options, microbatches)
    try:
        solve(problem, "cpsat", setting.search)
        feasible = True
    except ScheduleError:
        feasible = False
    if not feasible:
        with contextlib.suppress(DoesNotFitError):  # better than the solver is allowed
            search(setting, [candidate])
        return
    found = search(setting, [candidate]).best
    held = peak_memory(simulate(problem, found.schedule, semantics="latency"))
    assert all(held[unit.name] <= (unit.memory_bytes or 0) for unit in machine.units)


@FEW
@given(models(), machines(), st.integers(1, 2), st.integers(1, 4), st.sampled_from(["stored", "bits", "accumulated"]))
def test_every_segmentation_takes_at_least_the_time_of_the_dynamic_programme(
    graph, machine, microbatches, copies, mode
):
    setting, cut = setting_for(graph, machine, microbatches)
    cuts = possible(graph, 1.0, segments=True)
    base = Candidate("segments", "all", cut, microbatches, copies, mode=mode, segments=())
    count = len(graph.stages)
    times, noises = [], []
    for starts, exact in all_cuts(count):
        if exact and not starts:
            continue  # that is BP
        one = replace(base, segments=starts, exact_head=exact)
        try:
            found = bound_one(setting, one)
        except OptionError:
            continue
        shape = segmentation_of("segments", graph, found.options)
        if not shape.has_lr:
            continue
        made = evaluate(setting, found)
        assert isinstance(made, Evaluated)
        times.append(made.score.time)
        noises.append(noise_of(graph, shape))
    if not times:
        return
    options = bound_one(setting, replace(base, segments=tuple(range(1, count)), exact_head=False)).options
    table = Table(setting, cuts, options, microbatches)
    assert table.forwards_bound() <= min(times)
    table.price()
    assert cuts.least == pytest.approx(min(noises))
    for limit in {*noises, max(noises) + 1}:
        best = table.best(limit * (1 + 1e-12))
        assert best is not None
        assert best.noise in [pytest.approx(noise) for noise in noises]
        assert best.time <= min(time for time, noise in zip(times, noises, strict=True) if noise <= limit)


@FEW
@given(models(3), machines(), st.sampled_from([0.2, 0.5, 0.9]))
def test_nothing_that_reaches_a_cosine_is_sooner_than_the_floor(graph, machine, cosine):
    setting, cut = setting_for(graph, machine, 1, target="time-to-cosine")
    space = Space(("lr", "segments"), (1,), {"all": cut}, groups=(1,), modes=("stored",), layers=("all",))
    exact = evaluate(setting, bound_one(setting, Candidate("bp", "all", cut, 1)))
    assert isinstance(exact, Evaluated)
    known = exact.score.time * 3
    listed, floor = lr_candidates(setting, space, cosine, 1.0, known)
    for starts, head in all_cuts(len(graph.stages)):
        one = Candidate("segments", "all", cut, 1, 1, mode="stored", segments=starts, exact_head=head)
        bound = bound_one(setting, one)
        shape = segmentation_of("segments", graph, bound.options)
        if not shape.has_lr:
            continue
        need = copies_for(noise_of(graph, shape), cosine)
        assert need is not None
        if need > 400:
            continue
        made = evaluate(setting, bound_one(setting, replace(one, copies=need)))
        assert not isinstance(made, Misfit)
        assert made.score.time >= floor
    for candidate in listed:
        bound = bound_one(setting, candidate)
        shape = segmentation_of(candidate.rule, graph, bound.options)
        need = copies_for(noise_of(graph, shape), cosine)
        assert need is not None
        assert candidate.copies >= need
