"""The fast engine gives the times of the SimPy engine, to the tick: on random DAGs, rules, schedulers and links."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from alrsim.errors import DeadlockError
from alrsim.schedule.columns import Transfers, columns_of
from alrsim.schedule.lower import Lowered, Message, lower
from alrsim.schedulers import schedule
from alrsim.simulate.fast import run_columns, run_fast
from alrsim.simulate.run import run
from alrsim.tasks.token import NONE
from tests.properties.test_simulator import Case
from tests.properties.test_simulator import cases as dags
from tests.properties.test_simulator_rules import Case as Ruled
from tests.properties.test_simulator_rules import cases as rules

SEMANTICS = st.sampled_from(["latency", "link", "blocking"])


def agree(lowered: Lowered, semantics: Transfers) -> None:
    slow, fast = run(lowered, semantics=semantics), run_fast(lowered, semantics=semantics)
    assert fast.ends.tolist() == slow.ends
    assert [end - ticks for end, ticks in zip(fast.ends.tolist(), lowered.duration, strict=True)] == slow.starts
    assert (fast.sent.tolist(), fast.arrived.tolist()) == (slow.sent, slow.arrived)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(dags() | dags(private_links=False), SEMANTICS)
def test_equal_on_random_task_graphs_with_private_and_shared_links(case: Case, semantics: Transfers) -> None:
    agree(lower(case.problem, case.schedule), semantics)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(rules(), SEMANTICS)
def test_equal_on_random_models_under_every_rule_and_scheduler(case: Ruled, semantics: Transfers) -> None:
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
def test_equal_over_routes_of_several_shared_channels_with_ties_everywhere(case: Lowered, semantics: Transfers) -> None:
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
