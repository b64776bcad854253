"""The order of sends and receives: two machines carry the actions out, as unkindly as their transports allow.

The oracle for what can run at all is networkx: the graph of lanes and data has a cycle, or not.
"""

import random
from collections import deque
from dataclasses import dataclass
from itertools import pairwise

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alrsim.errors import DeadlockError
from alrsim.schedule.actions import Action, Message, order_actions
from alrsim.tasks.token import NONE

EXAMPLES = settings(derandomize=True, max_examples=150, deadline=None)


@dataclass(frozen=True)
class Case:
    """Lanes and messages; some messages come from nobody, some have no reader, some several."""

    lanes: tuple[tuple[int, ...], ...]
    messages: tuple[Message, ...]

    @property
    def graph(self):
        found = nx.DiGraph()
        found.add_nodes_from(item for lane in self.lanes for item in lane)
        found.add_edges_from(edge for lane in self.lanes for edge in pairwise(lane))
        found.add_edges_from(
            (message.producer, reader)
            for message in self.messages
            for reader in message.readers
            if message.producer >= 0
        )
        return found


@st.composite
def cases(draw, acyclic):
    """Items in random order on random lanes; unless ``acyclic``, edges go forward in another order than the lanes."""
    units, count = draw(st.integers(2, 4)), draw(st.integers(1, 14))
    chance = random.Random(draw(st.integers(0, 10**6)))
    unit = [chance.randrange(units) for _ in range(count)]
    order = list(range(count))
    chance.shuffle(order)
    lanes = tuple(tuple(item for item in order if unit[item] == here) for here in range(units))
    data = list(order)
    if not acyclic:
        for _ in range(chance.randrange(5)):
            first, second = chance.randrange(count), chance.randrange(count)
            data[first], data[second] = data[second], data[first]
    place = {item: index for index, item in enumerate(data)}
    messages = []
    for source in (*range(count), *[NONE] * chance.randrange(3)):
        here = unit[source] if source >= 0 else chance.randrange(units)
        for there in range(units):
            later = [item for item in lanes[there] if source < 0 or place[item] > place[source]]
            for _ in range(chance.randrange(3)):
                if there != here and chance.random() < 0.6:
                    readers = chance.sample(later, min(len(later), chance.randrange(4)))
                    messages.append(Message(source, here, there, tuple(readers)))
    chance.shuffle(messages)
    return Case(lanes, tuple(messages))


class StuckError(Exception):
    """Nobody can go on."""


def check_run(case, unit, action, done, there):
    """Everything that an item reads from others is there; what is sent has been made."""
    if action.verb == "run":
        for index, message in enumerate(case.messages):
            if action.index in message.readers:
                assert index in there, f"item {action.index} runs before message {index} is there"
        done.append((unit, action.index))
    elif action.verb == "send":
        source = case.messages[action.index].producer
        assert source == NONE or (unit, source) in done, f"message {action.index} is sent before it is made"


def rendezvous(case, actions):
    """A send and its receive happen together; a unit that waits for its partner does nothing else.

    Raises:
        StuckError: every unit that is not through waits.
    """
    at, done, there = [0] * len(actions), [], set()

    def now(unit):
        return actions[unit][at[unit]] if at[unit] < len(actions[unit]) else None

    while any(now(unit) for unit in range(len(actions))):
        moved = False
        for unit in range(len(actions)):
            action = now(unit)
            if action is None or action.verb == "receive":
                continue
            if action.verb == "send":
                target = case.messages[action.index].target
                if now(target) != Action("receive", action.index):
                    continue
                at[target] += 1
            check_run(case, unit, action, done, there)
            if action.verb == "send":
                there.add(action.index)
            at[unit] += 1
            moved = True
        if not moved:
            raise StuckError
    return done


def buffered(case, actions, chance):
    """A send never waits; of every pair of units messages arrive in the order of sending; a receiver who wants a later
    one takes the earlier ones off first and keeps them. Units advance at random."""
    at, done, there = [0] * len(actions), [], set()
    pipes = {(a, b): deque() for a in range(len(actions)) for b in range(len(actions))}
    taken = set()
    while any(at[unit] < len(actions[unit]) for unit in range(len(actions))):
        ready = []
        for unit, own in enumerate(actions):
            if at[unit] < len(own):
                action = own[at[unit]]
                message = case.messages[action.index] if action.verb == "receive" else None
                if message is None or action.index in taken or action.index in pipes[message.source, unit]:
                    ready.append(unit)
        if not ready:
            raise StuckError
        unit = chance.choice(ready)
        action = actions[unit][at[unit]]
        check_run(case, unit, action, done, there)
        if action.verb == "send":
            pipes[unit, case.messages[action.index].target].append(action.index)
        if action.verb == "receive":
            pipe = pipes[case.messages[action.index].source, unit]
            while action.index not in taken:
                taken.add(pipe.popleft())
            there.add(action.index)
        at[unit] += 1
    assert not any(pipes.values())
    return done


def require_complete(case, actions, done):
    """Every item and both ends of every message exactly once, where they belong; lanes in order."""
    for unit, lane in enumerate(case.lanes):
        assert [action.index for action in actions[unit] if action.verb == "run"] == list(lane)
        assert [item for where, item in done if where == unit] == list(lane)
        for verb, end in (("send", "source"), ("receive", "target")):
            found = sorted(action.index for action in actions[unit] if action.verb == verb)
            assert found == [index for index, message in enumerate(case.messages) if getattr(message, end) == unit]


@EXAMPLES
@given(cases(acyclic=True))
def test_blocking_units_always_finish(case):
    actions = order_actions(case.lanes, case.messages, "rendezvous")
    require_complete(case, actions, rendezvous(case, actions))


@EXAMPLES
@given(cases(acyclic=True), st.integers(0, 10**6))
def test_buffered_units_always_finish_however_they_advance(case, seed):
    actions = order_actions(case.lanes, case.messages, "buffered")
    require_complete(case, actions, buffered(case, actions, random.Random(seed)))


@EXAMPLES
@given(cases(acyclic=True))
def test_orders_for_blocking_units_serve_buffered_ones_too(case):
    actions = order_actions(case.lanes, case.messages, "rendezvous")
    require_complete(case, actions, buffered(case, actions, random.Random(0)))


@EXAMPLES
@given(cases(acyclic=True))
def test_a_message_leaves_right_behind_its_item_and_is_taken_right_before_its_first_reader(case):
    for own in order_actions(case.lanes, case.messages, "buffered"):
        for before, after in pairwise(own):
            if after.verb == "send" and before.verb == "run":
                assert case.messages[after.index].producer == before.index
            if before.verb == "receive" and after.verb == "run":
                assert after.index in case.messages[before.index].readers


@EXAMPLES
@given(cases(acyclic=False), st.sampled_from(["buffered", "rendezvous"]))
def test_a_cycle_of_lanes_and_data_is_refused_and_nothing_else_is(case, transport):
    if nx.is_directed_acyclic_graph(case.graph):
        order_actions(case.lanes, case.messages, transport)
    else:
        with pytest.raises(DeadlockError, match="no common order"):
            order_actions(case.lanes, case.messages, transport)


def naive(case):
    """What a program without this pass may do: sends behind the item, receives in front of the reader, and block."""
    return order_actions(case.lanes, case.messages, "buffered")


def test_the_order_for_buffers_locks_up_blocking_units():
    """Both units send before they receive: fine with buffers, the end without. So the tests above can fail."""
    case = Case(((0, 2), (1, 3)), (Message(0, 0, 1, (3,)), Message(1, 1, 0, (2,))))
    with pytest.raises(StuckError):
        rendezvous(case, naive(case))
    actions = order_actions(case.lanes, case.messages, "rendezvous")
    require_complete(case, actions, rendezvous(case, actions))
    require_complete(case, naive(case), buffered(case, naive(case), random.Random(0)))


@pytest.mark.parametrize("broken", ["late send", "early send", "late receive"])
def test_the_machines_notice_an_order_that_is_wrong(broken):
    case = Case(((0,), (1,)), (Message(0, 0, 1, (1,)),))
    run0, run1, send, receive = Action("run", 0), Action("run", 1), Action("send", 0), Action("receive", 0)
    actions = {
        "early send": ((send, run0), (receive, run1)),
        "late receive": ((run0, send), (run1, receive)),
        "late send": ((run0,), (receive, run1)),
    }[broken]
    with pytest.raises((AssertionError, StuckError)):
        rendezvous(case, actions)
    with pytest.raises((AssertionError, StuckError)):
        buffered(case, actions, random.Random(0))


def test_the_cases_have_what_makes_orders_hard():
    counts = dict.fromkeys(("residual", "given", "unread", "several", "locks up", "cyclic", "acyclic"), 0)

    @EXAMPLES
    @given(cases(acyclic=True), cases(acyclic=False))
    def count(case, other):
        counts["residual"] += any(len(set(case.graph.successors(item))) > 1 for item in case.graph)
        counts["given"] += any(message.producer == NONE for message in case.messages)
        counts["unread"] += any(not message.readers for message in case.messages)
        counts["several"] += any(len(message.readers) > 1 for message in case.messages)
        counts["cyclic" if not nx.is_directed_acyclic_graph(other.graph) else "acyclic"] += 1
        try:
            rendezvous(case, naive(case))
        except StuckError:
            counts["locks up"] += 1

    count()
    assert min(counts.values()) > 15, counts
