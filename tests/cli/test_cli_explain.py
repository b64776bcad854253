"""``alrsim explain``: answers that can be checked by hand, and the sums of its JSON."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from alrsim.documents import document_type, kind_of

TEXTBOOK = ("--durations", "f=1,b=1,w=1,transfer=0.25", "--method", "bp:1f1b", "--units", 4)


def explained(alrsim: Any, *argv: object) -> dict[str, Any]:
    ran = alrsim("explain", *argv, "--json", "-")
    assert ran.status == 0, ran.err
    document: dict[str, Any] = json.loads(ran.out)
    Draft202012Validator(document_type(kind_of(document)).schema()).validate(document)
    return document


@pytest.mark.parametrize("semantics", ["latency", "link", "blocking"])
def test_the_critical_path_is_as_long_as_the_step_and_idle_time_is_all_there(alrsim: Any, semantics: str) -> None:
    found = explained(alrsim, *TEXTBOOK, "--transfer-semantics", semantics)
    path = found["critical_path"]
    assert path[0]["start"] == 0
    assert sum(step["end"] - step["start"] for step in path) == found["makespan"] == path[-1]["end"]
    assert all(found["slack"][step["what"]] == 0 for step in path if step["kind"] == "task")
    for unit, row in found["idle"].items():
        assert sum(row["causes"].values()) == row["idle"] == found["makespan"] - row["busy"]
        stretches = [one for one in found["stretches"] if one["unit"] == unit]
        assert sum(one["end"] - one["start"] for one in stretches) == row["idle"]


def test_each_reason_is_told_in_words_that_name_task_unit_link_and_time(alrsim: Any) -> None:
    def answer(unit: str, at: object, *more: object) -> str:
        return " ".join(explained(alrsim, *TEXTBOOK, "--unit", unit, "--at", at, *more)["answer"]["text"])

    assert answer("u0", 0.5) == "u0 at 0.5 runs 0F0 (0 to 1); it is on the critical path."
    assert answer("u1", 0.5) == (
        "u1 at 0.5 is idle from 0 to 1: 1F0 waits. It reads 0F0:x1, which 0F0 makes on u0 (0 to 1); "
        "over u0 -> u1 it travels 1 to 1.25."
    )
    assert "idle from 1 to 1.25" in answer("u1", 1.1)
    assert answer("u2", 6).startswith(
        "u2 at 6 is idle from 4.5 to 7: a choice of the schedule. Its lane goes on with 2B0, which is not ready, "
        "although 2F2 is (planned for 9)."
    )
    held = answer("u2", 6, "--search", "live=2")
    assert "2F2 is, but it takes room for 1 more live micro-batch, and there is room for 0" in held
    assert answer("u3", "100%").startswith("u3 at 23.5: the step is over")
    assert answer("u3", "99%").endswith("nothing is left in its lane.")
    assert "it sends what 0F0 made" in answer("u0", 1.1, "--transfer-semantics", "blocking")


def test_a_unit_that_waits_for_a_busy_link_or_a_shared_core_says_so(alrsim: Any, graph_file: Path) -> None:
    slow = ("--durations", "f=1,b=1,w=1,transfer=2", "--method", "lr:lr-free", "--units", 4, "--stages", 8)
    found = explained(alrsim, *slow)
    queued = next(one for one in found["stretches"] if one["cause"] == "link")
    at = (queued["start"] + queued["end"]) / 2
    text = explained(alrsim, *slow, "--unit", queued["unit"], "--at", at)["answer"]["text"]
    assert "The link is busy with other messages until then." in text[0]
    model = (graph_file, "--method", "lr:lr-fixed", "--units", 3, "-m", 8, "--hardware", "cpu-2core")
    causes = {one["cause"] for one in explained(alrsim, *model)["stretches"]}
    assert "core" in causes  # two cores, three units


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
        (("--unit", "u1"), "go together"),
        (("--unit", "u9", "--at", "1"), "'u9' is no unit"),
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
