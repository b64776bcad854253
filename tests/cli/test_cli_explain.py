"""``alrsim explain``: the words of the command; numbers are tested on the function."""

import json
from pathlib import Path
from typing import Any

import pytest

TEXTBOOK = ("--durations", "f=1,b=1,w=1,transfer=0.25", "--method", "bp:1f1b", "--units", 4)


def test_a_question_is_answered_in_words_and_in_json(alrsim: Any) -> None:
    ran = alrsim("explain", *TEXTBOOK, "--unit", "u0", "--at", 0.5)
    assert ran.status == 0, ran.err
    assert ran.out == "u0 at 0.5 runs 0F0 (0 to 1); it is on the critical path.\n"
    ran = alrsim("explain", *TEXTBOOK, "--unit", "u0", "--at", 0.5, "--json", "-")
    assert json.loads(ran.out)["answer"]["runs"] == "0F0"


def test_a_schedule_file_is_explained_and_drawn(alrsim: Any, graph_file: Path, tmp_path: Path) -> None:
    made = tmp_path / "s.json"
    ran = alrsim("schedule", graph_file, "--method", "bp:1f1b", "--units", 2, "-o", made)
    assert ran.status == 0, ran.err
    ran = alrsim("explain", made, graph_file, "--out", tmp_path / "out")
    assert ran.status == 0, ran.err
    assert (tmp_path / "out" / "explained.png").read_bytes().startswith(b"\x89PNG")
    assert "critical path:" in ran.out
    assert "idle time by reason" in ran.out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--at", "1"), "--at: is a moment of a unit"),
        (("--unit", "u9", "--at", "1"), "'u9' is not a unit"),
        (("--unit", "u1", "--at", "3ms"), "typed durations have no seconds"),
        (("--unit", "u1", "--at", "soon"), "not a number"),
        (("--unit", "u1", "--at", "-1"), "negative"),
    ],
)
def test_questions_that_make_no_sense_are_refused(alrsim: Any, argv: tuple[object, ...], message: str) -> None:
    ran = alrsim("explain", *TEXTBOOK, *argv)
    assert ran.status == 1
    assert message in ran.err
    assert "Traceback" not in ran.err
