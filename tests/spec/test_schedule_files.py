"""Schedules on disk: three forms in, two out, and what a broken file is told."""

import json

import pytest

from alrsim.errors import AlrsimError
from alrsim.schedule.adapt import fit
from alrsim.schedule.check import check
from alrsim.schedule.files import parse_json, plain, read_schedule, write_schedule
from alrsim.schedule.pytorch_csv import parse_pytorch_csv, write_pytorch_csv
from alrsim.schedulers import SCHEDULERS, schedule
from alrsim.tasks.token import TaskId


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_schedule_survives_both_json_forms(textbook, tmp_path, name):
    entry = SCHEDULERS[name]
    problem = textbook(2 * (entry.chunks or 2), 2, 5, entry.rules[0], loss=True, update=True)
    made = schedule(problem, name)
    write_schedule(tmp_path / "tagged.json", made)
    (tmp_path / "plain.json").write_text(json.dumps(plain(made)))
    tagged = read_schedule(tmp_path / "tagged.json", problem)
    assert tagged.schedule == made
    assert tagged.notes == ()
    assert tagged.problem is problem
    by_hand = read_schedule(tmp_path / "plain.json", problem).schedule
    assert (by_hand.digest, by_hand.name) == (made.digest, "plain")
    assert json.loads((tmp_path / "plain.json").read_text()) == made.as_dict()


def test_overlaps_are_written_with_a_plus(textbook, tmp_path):
    text = "0F0,0F1,(0F2;0B0)OVERLAP_F_B,0B1,0B2"
    problem = textbook(1, 1, 3)
    made = fit(problem, parse_pytorch_csv(text).schedule).schedule
    assert plain(made) == {"u0": "0F0 0F1 0F2+0B0 0B1 0B2"}
    (tmp_path / "a.json").write_text(json.dumps(plain(made)))
    again = read_schedule(tmp_path / "a.json", problem).schedule
    assert again.overlaps == ((TaskId(0, "F", 2), TaskId(0, "B", 0)),)
    check(problem, again)
    write_pytorch_csv(tmp_path / "a.csv", again)
    assert (tmp_path / "a.csv").read_text().strip() == text


def test_hand_written_lanes_may_come_in_any_order_and_as_lists(textbook, tmp_path):
    file = tmp_path / "mine.json"
    file.write_text('{"u1": ["1F0", "1B0"], "u0": "0F0   0B0"}')
    problem = textbook(2, 2, 1)
    read = read_schedule(file, problem).schedule
    check(problem, read)
    assert read.as_dict() == {"u0": "0F0 0B0", "u1": "1F0 1B0"}


def test_one_full_backward_among_split_ones_changes_the_problem_and_says_so(textbook, tmp_path):
    file = tmp_path / "mixed.json"
    file.write_text('{"u0": "0F0 0F1 0B0 0I1 0W1"}')
    problem = textbook(1, 1, 2, "bp-split", b=3, w=4)
    read = read_schedule(file, problem)
    check(read.problem, read.schedule)
    assert read.notes == ("1 full backwards take the place of an I and a W each: 0B0",)
    assert read.problem.durations[read.problem.tasks.index[TaskId(0, "B", 0)]] == (7,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"is not valid JSON: .* at line 1, column 2"),
        ('{"u0": "0F0 0B0"', "is not valid JSON"),
        ("{}", "is not a schedule"),
        ("[]", "is not a schedule"),
        ("[" * 100_000, "is nested too deeply"),
        ('[["0F0"]]', "is not a schedule"),
        ('{"u0": 3}', "lane u0 is not a text or a list of tokens"),
        ('{"u0": ["0F0", 1]}', "lane u0 is not a text or a list of tokens"),
        ('{"u0": "0F0 0Q0"}', r"lane u0, position 1: '0Q0' is not a task token"),
        ('{"u0": "0F0 F0"}', "position 1: 'F0' is not a task token"),
        ('{"u0": "0F"}', r"'0F': kind F \(forward\) needs a micro-batch"),
        ('{"u0": "0F0 0U0"}', r"'0U0': kind U \(update\) has no micro-batch"),
        ('{"u0": "0F0", "u0": "0B0"}', "'u0' is given twice"),
        ('{"u0": "0F0+0B0+0F1"}', "overlaps more than two tasks"),
        ('{"u0": "0F0+"}', "'' is not a task token"),
        ('{"format": "alrsim.timeline/1", "value": {}}', r"holds 'alrsim.timeline/1', expected 'alrsim.schedule/1'"),
        ('{"format": "alrsim.schedule/1"}', "schedule"),
        ('{"format": "alrsim.schedule/1", "value": {"lanes": [{"unit": "u0", "tasks": ["0Q0"]}]}}', "not a task token"),
        ('{"format": "alrsim.schedule/1", "value": {"lanes": [{"unit": "u0"}]}}', r"lanes\.0\.tasks"),
    ],
)
def test_a_broken_file_says_what_and_where(text, message):
    with pytest.raises(AlrsimError, match=message) as caught:
        parse_json(text, where="file.json")
    assert str(caught.value).startswith("file.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"\xff\xfe\x00", "is not a text file"),
        (b"", "holds no actions"),
        (b"hello world\n\n", "row 0, cell 0: 'hello world' is not an action"),
        (b"0F0,0B0\n1F0,1B0\n2F0,2B0\n", "3 rows for 2 units"),
    ],
)
def test_a_file_that_is_no_schedule_is_refused(textbook, tmp_path, content, message):
    file = tmp_path / "schedule.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(AlrsimError, match=message):
        read_schedule(file, textbook(2, 2, 1))
