"""What ``check`` refuses and what it says."""

from dataclasses import replace

import pytest

from alrsim.errors import DeadlockError, ScheduleError
from alrsim.hardware.machine import Link, Machine
from alrsim.hardware.topology import Listed
from alrsim.schedule.check import check
from alrsim.schedule.deadlock import order_items
from alrsim.schedule.evaluate import evaluate
from alrsim.schedule.lower import lower
from alrsim.schedule.schedule import Lane, Schedule
from alrsim.schedulers import schedule
from alrsim.tasks.token import parse_token

GOOD = {"u0": "0F0 0F1 0B0 0B1", "u1": "1F0 1F1 1B0 1B1"}


def typed(lanes, overlaps=()):
    rows = tuple(Lane(unit, tuple(map(parse_token, row.split()))) for unit, row in lanes.items())
    return Schedule(rows, "typed", tuple((parse_token(a), parse_token(b)) for a, b in overlaps))


def test_a_good_schedule_passes(textbook):
    check(textbook(2, 2, 2), typed(GOOD))
    check(textbook(2, 2, 2), typed({"u0": "0F0 0F1 1F0 1F1 1B1 1B0 0B1 0B0", "u1": ""}))


@pytest.mark.parametrize(
    ("lanes", "message"),
    [
        ({**GOOD, "u0": "0F0 0F1 0B0"}, "schedule typed: missing: 0B1"),
        ({**GOOD, "u0": "0F0 0F1"}, "2 missing: 0B0, 0B1"),
        ({**GOOD, "u0": "0F0 0F1 0F1 0B0 0B1"}, r"double: 0F1 \(u0\[1\] and u0\[2\]\)"),
        ({**GOOD, "u0": "0F0 0F1 0B0 0B1 1B1"}, r"double: 1B1 \(u0\[4\] and u1\[3\]\)"),
        ({**GOOD, "u0": "0F0 0F1 0B0 0B1 0F2"}, r"unknown: 0F2 \(u0\[4\]\)"),
        ({**GOOD, "u0": "0F0 0F1 0B0 0B1 5F0"}, r"unknown: 5F0(.|\n)*2 stages, 2 micro-batches"),
        ({**GOOD, "u0": "0F0 0F1 0B0 0W1"}, r"missing: 0B1; unknown: 0W1(.|\n)*kinds B \(full backward\), F"),
        ({**GOOD, "u0": "0F0 0F1 0B0 0B1 0U"}, r"unknown: 0U \(u0\[4\]\)"),
        ({**GOOD, "u0": "0F0 0F1 0B0 0B1 2L0"}, "unknown: 2L0"),
        ({**GOOD, "u0": "0F0.1 0F1 0B0 0B1"}, r"missing: 0F0; unknown: 0F0\.1"),
        ({**GOOD, "u0": "0F0 0X0 0F1 0B0 0B1"}, r"unknown: 0X0(.|\n)*leave transfers \(X\) out"),
        ({"u0": GOOD["u0"]}, "missing lane: u1"),
        ({**GOOD, "u7": ""}, "unknown lane: u7"),
        ({"u1": GOOD["u1"], "u0": GOOD["u0"]}, "lanes are not in machine order: u1, u0"),
        ({"gpu0": "", "gpu1": ""}, "2 unknown lanes: gpu0, gpu1; 2 missing lanes: u0, u1"),
        ({}, "2 missing lanes: u0, u1"),
        ({"u0": "", "u1": ""}, "8 missing: 0F0, 1F0, 1B0, 0B0, 0F1, 1F1, 1B1, 0B1"),
    ],
)
def test_a_bad_schedule_is_refused_with_what_is_wrong_and_where(textbook, lanes, message):
    with pytest.raises(ScheduleError, match=message):
        check(textbook(2, 2, 2), typed(lanes))


def test_a_double_lane_is_refused(textbook):
    good = typed(GOOD)
    with pytest.raises(ScheduleError, match="double lane: u0; missing lane: u1"):
        check(textbook(2, 2, 2), replace(good, lanes=(good.lanes[0], replace(good.lanes[1], unit="u0"))))


@pytest.mark.parametrize(
    ("overlaps", "message"),
    [
        ([("0F0", "0B0")], "0B0 does not come right after 0F0 in one lane"),
        ([("0F0", "1F0")], "1F0 does not come right after 0F0 in one lane"),
        ([("0F1", "0F0")], "0F0 does not come right after 0F1"),
        ([("0F0", "0F1"), ("0F1", "0B0")], "a task can be in one overlap only"),
        ([("0F0", "9F9")], "9F9 does not come right after 0F0"),
    ],
)
def test_a_bad_overlap_is_refused(textbook, overlaps, message):
    with pytest.raises(ScheduleError, match=message):
        check(textbook(2, 2, 2), typed(GOOD, overlaps))


def test_two_tasks_that_need_each_other_cannot_overlap(textbook):
    with pytest.raises(ScheduleError, match="1B0 needs 1F0, so they cannot run at the same time"):
        check(textbook(2, 2, 1), typed({"u0": "0F0 0B0", "u1": "1F0 1B0"}, [("1F0", "1B0")]))


def test_data_cannot_move_where_no_link_is(textbook):
    problem = textbook(2, 2, 1)
    one_way = Machine("one-way", problem.machine.units, Listed((Link(0, 1),)))
    with pytest.raises(ScheduleError, match=r"one-way: 1B0:dx1 must move from u1 to u0, which no link joins"):
        check(replace(problem, machine=one_way), typed({"u0": "0F0 0B0", "u1": "1F0 1B0"}))


def test_a_deadlock_across_lanes_names_its_cycle_and_marks_the_lanes(textbook):
    lanes = {"u0": "0F0 0B0 0F1 0B1", "u1": "1F1 1F0 1B0 1B1"}
    with pytest.raises(DeadlockError) as caught:
        check(textbook(2, 2, 2), typed(lanes))
    assert str(caught.value) == (
        "schedule: the lanes wait for each other: 0B0 -> 1B0 -> 1F1 -> 0F1 -> 0B0\n"
        "  0B0 on u0 waits for 1B0 on u1, whose 1B0:dx1 it reads\n"
        "  1B0 on u1 waits for 1F1 on u1, which is before it in the lane\n"
        "  1F1 on u1 waits for 0F1 on u0, whose 0F1:x1 it reads\n"
        "  0F1 on u0 waits for 0B0 on u0, which is before it in the lane\n"
        "  u0: 0F0 0B0 <-- here 0F1 <-- here 0B1\n"
        "  u1: 1F1 <-- here 1F0 1B0 <-- here 1B1\n"
        "  try: move one of the marked tasks in its lane"
    )


def test_a_deadlock_inside_one_lane_is_a_cycle_of_two(textbook):
    with pytest.raises(DeadlockError, match=r"0B0 -> 0F0 -> 0B0\n  0B0 on u0 waits for 0F0 on u0"):
        check(textbook(2, 2, 1), typed({"u0": "0B0 0F0", "u1": "1F0 1B0"}))


def test_long_lanes_are_cut_around_the_marks(textbook):
    problem = textbook(2, 2, 40)
    lanes = schedule(problem, "gpipe").as_dict()
    lanes["u0"] = lanes["u0"].replace("0F30 ", "").replace("0B30 ", "0B30 0F30 ")
    with pytest.raises(DeadlockError) as caught:
        check(problem, typed(lanes))
    rows = str(caught.value).splitlines()
    shown = [row for row in rows if row.startswith(("  u0:", "  u1:"))]
    assert shown == [
        "  u0: ... 0F36 0F37 0F38 0F39 0B0 <-- here 0B1 0B2 0B3 0B4 ... 0B27 0B28 0B29 0B30 0F30 <-- here "
        "0B31 0B32 0B33 0B34 ...",
        "  u1: ... 1F26 1F27 1F28 1F29 1F30 <-- here 1F31 1F32 1F33 1F34 ... 1F36 1F37 1F38 1F39 1B0 <-- here "
        "1B1 1B2 1B3 1B4 ...",
    ]


def test_the_evaluator_refuses_the_same_deadlocks(textbook):
    problem = textbook(2, 2, 1)
    lowered = lower(problem, typed({"u0": "0B0 0F0", "u1": "1F0 1B0"}))
    with pytest.raises(DeadlockError, match=r"4 of 4 items can never run"):
        evaluate(lowered)
    assert order_items(lowered) == ([], [0, 1, 2, 3])
