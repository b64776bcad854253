"""What the exact scheduler proves: the paper's 4 x 3 example in every freedom, memory, and what cannot be."""

from dataclasses import replace
from importlib.util import find_spec

import pytest

from alrsim.errors import OptionError, ScheduleError
from alrsim.graph.stages import Edge, Stage, StageGraph
from alrsim.schedule.proof import gap
from alrsim.schedulers import SearchOptions, schedule, solve
from alrsim.schedulers.caps import timed
from alrsim.simulation.engine import simulate
from alrsim.steps.figure2_cells import bp_cells, lr_cells, unit_grid, with_loss_row
from alrsim.timeline.memory import peak_memory

BP, BP_PLAIN, LR = bp_cells(4, 3), bp_cells(4, 3, loss_row=False), lr_cells(4, 3)
LR_LOSS_ROW = with_loss_row(LR)
FIXED, GRADIENTS, FREE = SearchOptions(), SearchOptions(gradients="free"), SearchOptions(placement="free")


needs_ortools = pytest.mark.skipif(find_spec("ortools") is None, reason="OR-Tools is not installed")


def slowed(problem, factors):
    """The same problem on units that take so many times longer."""
    rows = tuple(tuple(ticks * by for ticks, by in zip(row, factors, strict=True)) for row in problem.durations)
    return replace(problem, durations=rows)


def weighed(textbook, rule, capacity):
    """Three stages with parameters, activations and gradients of a few bytes, on three units with so much memory."""
    body = tuple(Stage(i, f"s{i}", parameters=2 + i, saved=8) for i in range(3))
    edges = tuple(Edge(i - 1, i, f"x{i}", 8 + i) for i in range(4))
    problem = textbook(StageGraph("weighed", body, edges, Stage(3, "loss")), 3, 4, rule, loss=True, update=True, l=1)
    units = tuple(replace(u, memory_bytes=c) for u, c in zip(problem.machine.units, capacity, strict=True))
    return replace(problem, machine=replace(problem.machine, units=units))


@needs_ortools
@pytest.mark.parametrize(
    ("cells", "options", "steps"),
    [
        (BP, FIXED, 15),
        (LR, FIXED, 10),
        (LR_LOSS_ROW, FIXED, 11),
        (LR, GRADIENTS, 9),
        (LR_LOSS_ROW, GRADIENTS, 10),
        (BP_PLAIN, FREE, 10),
        (BP, FREE, 11),
        (LR, FREE, 9),
    ],
    ids=["bp", "lr", "lr+loss", "lr gradients", "lr+loss gradients", "bp anywhere", "bp+loss anywhere", "lr anywhere"],
)
def test_the_papers_example_is_proved_optimal(cells, options, steps):
    problem = unit_grid(cells)
    found = solve(problem, "cpsat", options)
    assert simulate(problem, found.schedule).makespan == steps
    assert (found.proof.status, found.proof.bound) == ("OPTIMAL", steps)
    shown = gap(problem, steps, found.schedule, found.proof)
    assert shown is not None
    assert (shown.status, shown.bound, shown.gap) == ("OPTIMAL", steps, 0)
    assert shown.any_bound <= steps


def test_bp_on_its_own_rows_needs_no_solver_because_the_bound_is_met():
    problem = unit_grid(BP)
    made = schedule(problem, "gpipe")
    assert gap(problem, 15, made).gap == 0


@needs_ortools
@pytest.mark.parametrize(("live", "steps"), [(4, 27), ((4, 3, 2, 1), 30), (1, 8 * 3 + 3 * 8 * 2), (8, 27)])
def test_zb_h1s_27_steps_are_optimal_with_4_live_micro_batches_everywhere_and_30_with_1f1bs(textbook, live, steps):
    problem = textbook(4, 4, 8, "bp-split")
    if live == 1:  # one micro-batch after the other through F and I of all stages; W of the first stage is the last
        steps = 8 * (2 * 4 + 1)
    found = solve(problem, "cpsat", SearchOptions(live=live, effort=20))
    assert (found.proof.status, timed(problem, found.schedule).makespan) == ("OPTIMAL", steps)


@needs_ortools
def test_a_solver_without_time_says_feasible_and_its_bound_holds(textbook):
    problem = textbook(4, 4, 6, "bp-split", f=2, b=3, w=1)
    quick = solve(problem, "cpsat", SearchOptions(live=(4, 3, 2, 1), effort=1e-4))
    full = solve(problem, "cpsat", SearchOptions(live=(4, 3, 2, 1), effort=20))
    assert full.proof.status == "OPTIMAL"
    assert quick.proof.status == "FEASIBLE"
    assert quick.proof.bound <= full.proof.bound <= timed(problem, quick.schedule).makespan


@needs_ortools
def test_the_same_seed_and_effort_give_the_same_schedule(textbook):
    problem = textbook(3, 3, 6, "bp-split", f=2, b=3, w=1, transfer=1)
    options = SearchOptions(live=3, effort=0.3)
    assert schedule(problem, "cpsat", options).digest == schedule(problem, "cpsat", options).digest


@needs_ortools
def test_stages_that_may_move_leave_the_slow_unit(textbook):
    problem = slowed(textbook(2, 3, 4, "bp"), (5, 1, 1))
    blocks = solve(problem, "cpsat", SearchOptions())
    moved = solve(problem, "cpsat", SearchOptions(placement="stages"))
    assert moved.proof.status == "OPTIMAL"
    assert not moved.schedule.lanes[0].tasks
    assert timed(problem, moved.schedule).makespan < timed(problem, blocks.schedule).makespan


@needs_ortools
@pytest.mark.parametrize("rule", ["bp", "bp-split", "lr"])
def test_no_unit_holds_more_bytes_than_it_has(textbook, rule):
    loose = weighed(textbook, rule, (None, None, None))
    most = peak_memory(simulate(loose, schedule(loose, "gpipe"), semantics="latency"))
    makespans = []
    for percent in (100, 85, 70, 55):
        caps = tuple(percent * most[unit.name] // 100 for unit in loose.machine.units)
        problem = weighed(textbook, rule, caps)
        try:
            found = solve(problem, "cpsat", SearchOptions(effort=5))
        except ScheduleError:
            break
        made = simulate(problem, found.schedule, semantics="latency")
        assert all(peak_memory(made)[u.name] <= cap for u, cap in zip(problem.machine.units, caps, strict=True))
        makespans.append(made.makespan)
    assert len(makespans) > 1
    assert makespans == sorted(makespans)


@needs_ortools
def test_what_cannot_fit_is_told_with_demand_capacity_and_shortage(textbook):
    problem = weighed(textbook, "bp", (10, None, None))
    with pytest.raises(ScheduleError, match=r"proved infeasible(.|\n)*unit u0 needs \d+ bytes, has 10; short by \d+"):
        solve(problem, "cpsat")


def test_without_ortools_the_message_says_how_to_get_it(textbook, monkeypatch):
    monkeypatch.setattr("alrsim.extras.find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"needs OR-Tools, which is not installed\n  try: pip install"):
        schedule(textbook(2, 2, 2), "cpsat")
