"""The event loop on schedules written by hand: what a link and a core occupy, and how ties are decided."""

from collections.abc import Sequence

import pytest

from alrsim.errors import DeadlockError
from alrsim.schedule.lower import Lowered, Message
from alrsim.simulation.run import run
from alrsim.tasks.problem import Semantics
from alrsim.tasks.token import NONE


def lowered(
    lanes: Sequence[Sequence[int]],
    durations: Sequence[int],
    messages: Sequence[Message] = (),
    *,
    channels: int = 1,
    preds: dict[int, list[int]] | None = None,
) -> Lowered:
    """Items by number, lanes as lists of them; sends and needs follow from the messages."""
    items = len(durations)
    unit = [0] * items
    for index, lane in enumerate(lanes):
        for item in lane:
            unit[item] = index
    needs: list[list[int]] = [[] for _ in range(items)]
    sends: list[list[int]] = [[] for _ in range(items)]
    for index, message in enumerate(messages):
        if message.source != NONE:
            sends[message.source].append(index)
        for reader in message.readers:
            needs[reader].append(index)
    before = [(preds or {}).get(item, []) for item in range(items)]
    return Lowered(
        [list(lane) for lane in lanes],
        [(item,) for item in range(items)],
        unit,
        list(durations),
        before,
        needs,
        list(messages),
        sends,
        [f"c{index}" for index in range(channels)],
        [0],
    )


def message(
    source: int, target: int, readers: list[int], *, hold: int, route: tuple[int, ...] = (0,), latency: int = 0
) -> Message:
    return Message(source, source, target, 0, hold, latency, route, readers)


def test_a_lane_runs_in_order_and_waits_for_what_it_needs() -> None:
    trace = run(lowered([[0, 1], [2]], [3, 2, 4], preds={1: [2]}))
    assert trace.starts == [0, 4, 0]
    assert trace.ends == [3, 6, 4]


def test_a_message_holds_its_link_then_travels_for_its_latency() -> None:
    trace = run(lowered([[0], [1]], [3, 1], [message(0, 1, [1], hold=2, latency=5)]))
    assert (trace.sent, trace.arrived, trace.starts) == ([3], [10], [0, 10])


def test_messages_that_ask_for_one_link_at_one_instant_go_by_unit_then_lane_position_then_target() -> None:
    # Units 0 and 1 end at the same time and share the only channel; unit 0 goes first, whichever event came first.
    messages = [
        message(0, 2, [2], hold=4),
        message(0, 3, [3], hold=4),
        message(1, 2, [2], hold=4),
    ]
    trace = run(lowered([[0], [1], [2], [3]], [5, 5, 1, 1], messages))
    assert trace.sent == [5, 9, 13]
    assert trace.starts[2:] == [17, 13]


def test_the_first_to_ask_for_a_link_is_served_first_even_if_its_unit_comes_later() -> None:
    messages = [message(0, 2, [2], hold=10), message(1, 2, [2], hold=10)]
    trace = run(lowered([[0], [1], [2]], [5, 3, 1], messages))
    assert trace.sent == [13, 3]


def test_a_task_of_no_duration_at_the_same_instant_still_queues_by_unit() -> None:
    # Unit 0 gets its turn at t=5 only through a task of zero duration that waits for unit 1.
    messages = [message(1, 2, [3], hold=4), message(2, 2, [3], hold=4)]
    trace = run(lowered([[0, 1], [2], [3]], [5, 0, 5, 1], messages, preds={1: [2]}))
    assert trace.ends[1] == 5
    assert trace.sent == [5, 9]


def test_messages_are_stored_and_forwarded_hop_by_hop() -> None:
    # Two messages over the same two hops: the second follows one hold behind; the hops overlap.
    messages = [
        message(0, 2, [2], hold=3, route=(0, 1), latency=1),
        message(1, 2, [2], hold=3, route=(0, 1), latency=1),
    ]
    trace = run(lowered([[0], [1], [2]], [2, 2, 1], messages, channels=2))
    assert trace.sent == [2, 5]
    assert trace.arrived == [9, 12]


@pytest.mark.parametrize(
    ("semantics", "sent", "next_start"), [("latency", [2, 2], 2), ("link", [2, 6], 2), ("blocking", [2, 6], 10)]
)
def test_semantics_differ_in_what_a_transfer_occupies(semantics: Semantics, sent: list[int], next_start: int) -> None:
    # Item 0 sends two messages over one channel; item 1 is next on the sender's lane.
    messages = [message(0, 1, [2], hold=4), message(0, 2, [3], hold=4)]
    trace = run(lowered([[0, 1], [2], [3]], [2, 1, 1, 1], messages), semantics=semantics)
    assert trace.sent == sent
    assert trace.starts[1] == next_start


def test_a_blocking_sender_is_released_when_its_message_left_the_first_channel() -> None:
    messages = [message(0, 1, [2], hold=4, route=(0, 1), latency=7)]
    trace = run(lowered([[0, 1], [2]], [2, 1, 1], messages, channels=2), semantics="blocking")
    assert trace.starts == [0, 6, 17]


def test_blocking_sends_of_one_task_leave_one_after_the_other_even_on_separate_links() -> None:
    messages = [message(0, 1, [1], hold=4, route=(0,)), message(0, 2, [2], hold=4, route=(1,))]
    schedule = lowered([[0], [1], [2]], [2, 1, 1], messages, channels=2)
    assert run(schedule, semantics="link").sent == [2, 2]
    assert run(schedule, semantics="blocking").sent == [2, 6]


def test_an_empty_message_queues_behind_a_full_one_on_the_same_link() -> None:
    messages = [message(0, 2, [2], hold=4), message(1, 2, [3], hold=0)]
    trace = run(lowered([[0], [1], [2, 3]], [2, 3, 1, 1], messages))
    assert trace.arrived == [6, 6]


def test_four_units_on_two_cores_take_turns_by_request_time_and_then_by_unit() -> None:
    trace = run(lowered([[0, 4], [1], [2], [3]], [4, 2, 3, 3, 1]), cores=2)
    # t=0: units 0 and 1 get the cores; unit 2 at 2, unit 3 at 4 (before unit 0's next task, which asks only now).
    assert trace.starts == [0, 0, 2, 4, 5]
    assert max(trace.ends) == 7


def test_a_unit_that_waits_for_a_message_holds_no_core() -> None:
    messages = [message(0, 1, [1], hold=10)]
    trace = run(lowered([[0], [1], [2, 3]], [1, 1, 5, 5], messages), cores=1)
    assert trace.starts == [0, 11, 1, 6]


def test_enough_cores_are_as_good_as_no_limit() -> None:
    schedule = lowered([[0], [1]], [4, 4])
    assert run(schedule, cores=2) == run(schedule) == run(schedule, cores=7)


def test_a_buffer_that_is_there_from_the_start_leaves_at_time_zero() -> None:
    trace = run(lowered([[0], [1]], [3, 2], [Message(NONE, 0, 1, 0, 4, 1, (0,), [1])]))
    assert (trace.sent, trace.starts) == ([0], [0, 5])


def test_lanes_that_wait_for_each_other_are_refused() -> None:
    with pytest.raises(DeadlockError, match="wait for each other"):
        run(lowered([[0, 1], [2, 3]], [1, 1, 1, 1], preds={0: [3], 2: [1]}))
