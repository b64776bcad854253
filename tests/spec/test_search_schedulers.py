"""HEFT's published example, bounds by hand, live caps, and auto against the closed forms of zero-bubble schedules."""

from dataclasses import replace

import pytest

from alrsim.errors import OptionError, ScheduleError
from alrsim.hardware.machine import Link, Machine, Unit
from alrsim.hardware.topology import Listed
from alrsim.reports.bound import bound_line, bound_of
from alrsim.schedule.bounds import head_tail_bound, makespan_bound, split_bound, units_of, work_bound
from alrsim.schedule.check import check
from alrsim.schedule.proof import gap
from alrsim.schedulers import SearchOptions, schedule, solve
from alrsim.schedulers.caps import Caps, live_peaks, timed
from alrsim.schedulers.heft import upward_ranks
from alrsim.schedulers.list_schedule import PRIORITIES
from alrsim.schedulers.search import parse_search
from alrsim.tasks.problem import Problem
from alrsim.tasks.taskgraph import Buffer, Category, Task, TaskGraph
from alrsim.tasks.token import TaskId

# Topcuoglu, Hariri, Wu, "Performance-effective and low-complexity task scheduling for heterogeneous computing",
# IEEE TPDS 13(3), 2002, figure 3: ten tasks on three processors.
COSTS = (
    (14, 16, 9),
    (13, 19, 18),
    (11, 13, 19),
    (13, 8, 17),
    (12, 13, 10),
    (13, 16, 9),
    (7, 15, 11),
    (5, 11, 14),
    (18, 12, 20),
    (21, 7, 16),
)

EDGES = {
    (0, 1): 18,
    (0, 2): 12,
    (0, 3): 9,
    (0, 4): 11,
    (0, 5): 14,
    (1, 7): 19,
    (1, 8): 16,
    (2, 6): 23,
    (3, 7): 27,
    (3, 8): 23,
    (4, 8): 13,
    (5, 7): 15,
    (6, 9): 17,
    (7, 9): 11,
    (8, 9): 13,
}


def published():
    buffers = tuple(Buffer(f"{a}-{b}", Category.ACTIVATION, size, a, a, (b,)) for (a, b), size in EDGES.items())
    tasks = tuple(
        Task(TaskId(i, "F", 0), tuple(n for n, edge in enumerate(EDGES) if edge[1] == i)) for i in range(len(COSTS))
    )
    links = tuple(Link(a, b, bandwidth=1e9) for a in range(3) for b in range(3) if a != b)  # a byte takes a tick
    machine = Machine("paper", tuple(Unit(f"P{i + 1}") for i in range(3)), Listed(links))
    return Problem(TaskGraph(tasks, buffers, "published", len(COSTS), 1), machine, COSTS, "paper")


def test_heft_gives_the_ranks_and_the_makespan_of_its_paper():
    problem = published()
    ranks = [round(rank, 3) for rank in upward_ranks(problem)]
    assert ranks == [108.0, 77.0, 80.0, 80.0, 69.0, 63.333, 42.667, 35.667, 44.333, 14.667]
    made = schedule(problem, "heft")
    check(problem, made)
    assert timed(problem, made).makespan == 80


def test_auto_beats_heft_on_its_own_example_and_stays_above_the_bound():
    problem = published()
    found = timed(problem, schedule(problem, "auto", SearchOptions(placement="free", effort=0.5, exact=False)))
    assert makespan_bound(problem) <= found.makespan < 80


def rows(problem, *ticks):
    return replace(problem, durations=tuple(ticks for _ in problem.durations))


def test_the_fractional_split_over_unlike_units_is_found_exactly(textbook):
    # Work of 12 tasks on units that take 1, 2 and 4 each: 12 / (1 + 1/2 + 1/4) = 6.86 -> 7; evenly shared only 4.
    problem = rows(textbook(1, 3, 12, "lr", baseline="none"), 1, 2, 4)
    assert len(problem.durations) == 24
    assert (work_bound(problem), split_bound(problem)) == (8, 14)


def test_a_unit_that_is_no_good_for_a_kind_of_task_is_left_out_of_the_split(textbook):
    problem = textbook(1, 2, 6, "lr", baseline="none")  # six forwards: 2 or 10; six gradients: 10 or 3
    by_kind = {"F": (2, 10), "G": (10, 3)}
    problem = replace(problem, durations=tuple(by_kind[task.id.kind] for task in problem.tasks.tasks))
    # u0 takes all forwards (12) and a share x of the gradients, 10 * 6x = 18 (1 - x) - 12 -> T = 12 + 60/13
    assert split_bound(problem) == -(-(12 * 13 + 60) // 13)


def test_heads_and_tails_prove_1f1b_optimal_for_its_placement(textbook):
    for p, m in [(2, 3), (4, 8), (5, 5)]:
        problem = textbook(p, p, m, "bp", f=2, b=3, w=1)
        units = units_of(problem, schedule(problem, "1f1b"))
        rows = list(zip(problem.durations, units, strict=True))
        loads = [sum(row[at] for row, at in rows if at == unit) for unit in range(p)]
        assert loads == [m * 6] * p
        assert head_tail_bound(problem, units) == (m + p - 1) * 6


def test_the_gap_of_any_scheduler_is_told_for_its_placement_and_for_all(textbook):
    problem = textbook(4, 4, 8, "bp", b=1, w=1)
    found = gap(problem, 33, schedule(problem, "1f1b"))
    assert (found.bound, found.gap, found.any_bound) == (33, 0, 24)
    assert bound_line(bound_of(found), str) == "lower bound 33, gap 0.0 % (any placement: 24, gap 37.5 %)"
    assert gap(problem, 33).gap == gap(problem, 33).any_gap


@pytest.mark.parametrize("priority", PRIORITIES)
@pytest.mark.parametrize(("rule", "stages"), [("bp", 3), ("bp-split", 7), ("lr", 5)])
def test_every_priority_keeps_every_live_cap(textbook, priority, rule, stages):
    problem = textbook(stages, 3, 6, rule, f=2, b=3, w=1, transfer=1, loss=True)
    chunks = -(-stages // 3)
    for live in (chunks, chunks + 1, 2 * chunks + 1, 100):
        made = timed(problem, schedule(problem, "list", SearchOptions(priority=priority, live=live)))
        check(problem, made.schedule)
        assert max(live_peaks(problem, made.units, made.starts, made.ends)) <= live


def test_a_cap_below_the_chunks_of_a_unit_is_refused_or_kept(textbook):
    problem = textbook(4, 2, 3, "bp")
    with pytest.raises(ScheduleError, match="cannot go on"):
        schedule(problem, "list", SearchOptions(live=1))


def test_live_micro_batches_are_counted_as_the_closed_forms_do(textbook):
    problem = textbook(4, 4, 8, "bp-split")
    for name, peaks in (("1f1b", [4, 3, 2, 1]), ("zb-h1", [4, 4, 4, 4]), ("gpipe", [8, 8, 8, 8])):
        made = timed(problem, schedule(problem, name))
        assert live_peaks(problem, made.units, made.starts, made.ends) == peaks
        assert bool(made.shortages(Caps((4,) * 4))) == (name == "gpipe")


@pytest.mark.parametrize(("f", "b", "w"), [(1, 1, 1), (2, 3, 1), (3, 4, 2)])
@pytest.mark.parametrize(("p", "m"), [(2, 2), (3, 7), (4, 4), (4, 8), (6, 9), (8, 32)])
def test_auto_is_not_worse_than_zb_h1_with_p_live_micro_batches_on_every_unit(textbook, p, m, f, b, w):
    problem = textbook(p, p, m, "bp-split", f=f, b=b, w=w)
    made = timed(problem, schedule(problem, "auto", SearchOptions(live=p, effort=0.01, exact=False)))
    assert made.makespan <= m * (f + b + w) + (p - 1) * (f + b - w)
    assert max(live_peaks(problem, made.units, made.starts, made.ends)) <= p


@pytest.mark.parametrize(("p", "m"), [(2, 4), (3, 6), (4, 9), (6, 12)])
def test_auto_is_not_worse_than_zb_v_with_2p_live_chunks_on_every_unit(textbook, p, m):
    problem = textbook(2 * p, p, m, "bp-split")
    made = timed(problem, schedule(problem, "auto", SearchOptions(live=2 * p, effort=0.01, exact=False)))
    assert made.makespan <= 2 * m * 3 + p - 1
    assert max(live_peaks(problem, made.units, made.starts, made.ends)) <= 2 * p


def test_local_search_finds_zb_h1_from_a_worse_list_schedule(textbook):
    problem = textbook(4, 4, 8, "bp-split")
    options = SearchOptions(live=4, effort=1)
    start = timed(problem, schedule(problem, "list", options)).makespan
    found = timed(problem, schedule(problem, "local-search", options))
    assert found.makespan < start
    assert not found.shortages(Caps((4,) * 4))


def test_local_search_takes_the_base_that_it_is_given(textbook):
    problem = textbook(3, 3, 4, "bp-split")
    for base in ("gpipe", "zb-h1"):
        found = solve(problem, "local-search", SearchOptions(base=base, effort=0.001))
        assert timed(problem, found.schedule).makespan <= timed(problem, schedule(problem, base)).makespan
    with pytest.raises(ScheduleError, match="there is no zb-v schedule"):
        solve(problem, "local-search", SearchOptions(base="zb-v"))


def test_a_schedule_that_no_heuristic_can_fit_is_refused_without_the_solver(textbook):
    with pytest.raises(
        ScheduleError,
        match=r"no heuristic fits.*unit u0 needs 2 live micro-batches, has 1; short by 1; unit u1 needs 2",
    ):
        solve(textbook(4, 2, 3, "bp"), "auto", SearchOptions(live=1, exact=False))


def test_search_options_from_text():
    pairs = {"placement": "free", "live": "4+3", "exact": "no", "seed": "7"}
    expected = SearchOptions(placement="free", live=(4, 3), exact=False, seed=7, effort=2.5, time_limit=2.5)
    assert parse_search(pairs, time_limit=2.5) == expected


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ({"magic": "1"}, "'magic' is no search option"),
        ({"placement": "somewhere"}, "'somewhere' is no choice"),
        ({"live": "many"}, "'many' is not a number"),
        ({"live": "0"}, "at least one live micro-batch"),
        ({"exact": "maybe"}, "neither yes nor no"),
        ({"effort": "-1"}, "must be above 0"),
        ({"workers": "0"}, "workers is 0"),
    ],
)
def test_search_options_that_make_no_sense_are_refused(pairs, message):
    with pytest.raises(OptionError, match=message):
        parse_search(pairs)


def test_one_live_cap_for_each_unit_or_one_for_all(textbook):
    with pytest.raises(OptionError, match="3 live caps for 2 units"):
        schedule(textbook(2, 2, 2), "list", SearchOptions(live=(1, 2, 3)))
