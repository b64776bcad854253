"""The fast engine gives the times of the SimPy engine, to the tick: on random DAGs, rules, schedulers and links."""

import pickle
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from alrsim.errors import DeadlockError, OptionError
from alrsim.files import to_json
from alrsim.schedule.lane_columns import columns_of
from alrsim.schedule.lower import Lowered, Message, lower
from alrsim.schedulers import schedule
from alrsim.simulation.engine import simulate
from alrsim.simulation.fast import run_columns, run_fast
from alrsim.simulation.run import run
from alrsim.steps.textbook_problem import textbook_options, textbook_problem
from alrsim.tasks.problem import Semantics
from alrsim.tasks.token import NONE
from alrsim.timeline.metrics import busy, named_shares, spans_of_units
from tests.properties.test_simulator import Case
from tests.properties.test_simulator import cases as dags
from tests.properties.test_simulator_rules import Case as Ruled
from tests.properties.test_simulator_rules import cases as rules

SEMANTICS = st.sampled_from(["latency", "link", "blocking"])


def agree(lowered: Lowered, semantics: Semantics) -> None:
    slow, fast = run(lowered, semantics=semantics), run_fast(lowered, semantics=semantics)
    assert fast.ends.tolist() == slow.ends
    assert [end - ticks for end, ticks in zip(fast.ends.tolist(), lowered.duration, strict=True)] == slow.starts
    assert (fast.sent.tolist(), fast.arrived.tolist()) == (slow.sent, slow.arrived)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(dags() | dags(private_links=False), SEMANTICS)
def test_equal_on_random_task_graphs_with_private_and_shared_links(case: Case, semantics: Semantics) -> None:
    agree(lower(case.problem, case.schedule), semantics)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(rules(), SEMANTICS)
def test_equal_on_random_models_under_every_rule_and_scheduler(case: Ruled, semantics: Semantics) -> None:
    assume(case.scheduler not in ("cpsat", "auto", "local-search"))  # slow, and their lanes are lanes like any other
    agree(lower(case.problem, schedule(case.problem, case.scheduler)), semantics)


@st.composite
def networks(draw: st.DrawFn) -> Lowered:
    """Items on units with messages over random routes, short times: many things happen at the same instant."""
    units, channels = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    unit = sorted(draw(st.lists(st.integers(0, units - 1), min_size=1, max_size=14)))
    items = len(unit)
    order = draw(st.permutations(range(items)))  # an order in which everything can run, which the lanes follow
    rank = [0] * items
    for one in range(units):
        mine = [item for item in range(items) if unit[item] == one]
        for item, place in zip(mine, sorted(order[item] for item in mine), strict=True):
            rank[item] = place
    pairs = st.tuples(st.integers(-1, items - 1), st.integers(0, items - 1))
    messages = []
    for source, reader in draw(st.lists(pairs, max_size=14)):
        if source >= 0 and (unit[source] == unit[reader] or rank[source] >= rank[reader]):
            continue
        route = tuple(draw(st.lists(st.integers(0, channels - 1), max_size=3, unique=True)))
        home = draw(st.integers(0, units - 1)) if source == NONE else unit[source]
        times = draw(st.integers(0, 3)), draw(st.integers(0, 2))
        messages.append(Message(source, home, unit[reader], len(messages), *times, route, [reader]))
    messages.sort(key=lambda message: (message.source, message.target_unit, message.buffer))
    needs: list[list[int]] = [[] for _ in unit]
    sends: list[list[int]] = [[] for _ in unit]
    for index, message in enumerate(messages):
        needs[message.readers[0]].append(index)
        if message.source != NONE:
            sends[message.source].append(index)
    plain = draw(st.lists(pairs, max_size=8))
    preds: list[list[int]] = [[] for _ in unit]
    for before, item in plain:
        if before >= 0 and rank[before] < rank[item] and before not in preds[item]:
            preds[item].append(before)
    return Lowered(
        [[item for item in range(items) if unit[item] == one] for one in range(units)],
        [(item,) for item in range(items)],
        unit,
        [draw(st.integers(0, 3)) for _ in unit],
        preds,
        needs,
        messages,
        sends,
        [f"c{channel}" for channel in range(channels)],
        [0],
    )


@settings(derandomize=True, max_examples=400, deadline=None)
@given(networks(), SEMANTICS)
def test_equal_over_routes_of_several_shared_channels_with_ties_everywhere(case: Lowered, semantics: Semantics) -> None:
    agree(case, semantics)


def test_both_loops_are_run_and_agree_where_both_are_exact() -> None:
    lowered = Lowered(
        [[0, 1], [2, 3]],
        [(0,), (1,), (2,), (3,)],
        [0, 0, 1, 1],
        [2, 1, 1, 4],
        [[], [], [], []],
        [[], [], [0], [1]],
        [Message(0, 0, 1, 0, 5, 1, (0,), [2]), Message(1, 0, 1, 1, 3, 0, (0,), [3])],
        [[0], [1], [], []],
        ["c0"],
        [0],
    )
    for semantics in ("link", "blocking"):
        private = columns_of(lowered, semantics)
        assert not private.contended
        swept = run_columns(private, semantics)
        looped = run_columns(replace(private, shared=np.array([True])), semantics)
        for name in ("ends", "sent", "arrived"):
            assert getattr(swept, name).tolist() == getattr(looped, name).tolist()


def test_lanes_that_wait_for_each_other_are_refused_by_both_loops() -> None:
    for route in ((0,), ()):
        stuck = Lowered(
            [[0, 1], [2, 3], [4]],
            [(0,), (1,), (2,), (3,), (4,)],
            [0, 0, 1, 1, 2],
            [1] * 5,
            [[3], [], [1], [], []],
            [[], [], [], [], [0, 1]],
            [Message(1, 0, 2, 0, 1, 0, route, [4]), Message(2, 1, 2, 1, 1, 0, route, [4])],
            [[], [0], [1], [], []],
            ["c0"],
            [0],
        )
        assert columns_of(stuck, "link").contended is bool(route)
        with pytest.raises(DeadlockError, match="wait for each other"):
            run_fast(stuck)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(dags() | dags(private_links=False), SEMANTICS)
def test_a_timeline_of_columns_is_the_timeline_of_simpy(case: Case, semantics: Semantics) -> None:
    slow = simulate(case.problem, case.schedule, semantics=semantics)
    fast = simulate(case.problem, case.schedule, semantics=semantics, engine="fast")
    assert (slow.facts.engine, fast.facts.engine) == ("simpy", "fast")
    assert fast.occupancy is not None
    assert (busy(fast), spans_of_units(fast), fast.makespan) == (busy(slow), spans_of_units(slow), slow.makespan)
    assert named_shares(fast) == named_shares(slow)
    assert replace(fast, facts=slow.facts) == slow  # spans, transfers and memory, made now
    assert to_json("timeline", replace(slow, facts=fast.facts)) == to_json("timeline", fast)


@settings(derandomize=True, max_examples=30, deadline=None)
@given(dags(), st.fractions(0, 1))
def test_fused_pairs_are_equal_too(case: Case, overlap: Fraction) -> None:
    tasks = case.problem.tasks
    lane = max(case.schedule.lanes, key=lambda lane: len(lane.tasks))
    assume(len(lane.tasks) > 1)
    first, second = lane.tasks[:2]
    assume(all(other != tasks.index[first] for other, _ in tasks.dependencies(tasks.index[second])))
    order = replace(case.schedule, overlaps=((first, second),))
    try:
        slow = simulate(case.problem, order, overlap=overlap)
    except DeadlockError:
        with pytest.raises(DeadlockError):
            simulate(case.problem, order, overlap=overlap, engine="fast")
        return
    fast = simulate(case.problem, order, overlap=overlap, engine="fast")
    assert (busy(fast), fast.spans, fast.memory) == (busy(slow), slow.spans, slow.memory)


def test_shared_cores_and_huge_numbers_are_left_to_simpy_and_the_timeline_says_so() -> None:
    table: dict[str, Fraction | int] = {"f": 1, "b": 1, "w": 1}
    problem = textbook_problem("bp", table, stages=3, units=3, options=textbook_options(2))
    cores = replace(problem, machine=replace(problem.machine, shared_cores=2))
    huge = replace(problem, durations=tuple((2**62,) * 3 for _ in problem.durations))
    for one in (cores, huge):
        order = schedule(one, "1f1b")
        assert simulate(one, order, engine="auto") == simulate(one, order)
        with pytest.raises(OptionError, match="leaves this to SimPy"):
            simulate(one, order, engine="fast")
    with pytest.raises(OptionError, match="no engine"):
        simulate(problem, schedule(problem, "1f1b"), engine="quick")  # type: ignore[arg-type]


def test_a_timeline_of_columns_survives_a_copy_to_another_process() -> None:
    problem = textbook_problem("lr", {"f": 1, "g": 2}, stages=2, units=2, options=textbook_options(3))
    timeline = simulate(problem, schedule(problem, "lr-fixed"), engine="fast")
    again = pickle.loads(pickle.dumps(timeline))
    assert again == timeline
    assert again.occupancy is None
