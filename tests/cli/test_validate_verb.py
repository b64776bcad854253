"""``alrsim validate`` and ``alrsim replay``: what they print, write, resume and refuse."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from alrsim.documents import document_type, kind_of
from alrsim.validation.cells import GRIDS

TWO = "mlp/m4/bp:gpipe,mlp/m4/bp:zb-h1"


def document_of(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    Draft202012Validator(document_type(kind_of(found)).schema()).validate(found)
    return found


def test_two_cells_from_prediction_to_picture_and_back_from_their_records(alrsim: Any, tmp_path: Path) -> None:
    out, records = tmp_path / "run", tmp_path / "records"
    argv = ("validate", "--quick", "--executor", "threads", "--cells", TWO, "--repeats", 1, "--out", out)
    ran = alrsim(*argv, "--record", records)
    assert ran.status == 0
    assert {path.name for path in out.iterdir()} == {
        "journal.jsonl",
        "result.json",
        "validate.md",
        "scatter.png",
        "worst.png",
        "trace.json.gz",
    }
    document = document_of((out / "result.json").read_text())
    assert [cell["name"] for cell in document["cells"]] == TWO.split(",")
    assert document["steps_left"] == 0
    wanted = {"median makespan error", "largest error of the fullest unit's peak memory"}
    assert {one["goal"] for one in document["goals"]} >= wanted
    (group,) = document["groups"]
    assert group["first"] == "mlp/m4/bp:gpipe"
    assert (out / "scatter.png").read_bytes().startswith(b"\x89PNG")
    assert "wait" in (out / "validate.md").read_text()
    assert "Kendall tau" in ran.out

    before = (out / "journal.jsonl").read_bytes()
    again = alrsim(*argv, "--json", "-")
    assert again.status == 0
    assert document_of(again.out) == document
    assert (out / "journal.jsonl").read_bytes() == before
    names = [path.name for path in sorted(records.iterdir())]
    assert [path.name for path in sorted((out / "traces").iterdir())] == names
    assert all((out / "traces" / name).read_bytes() == (records / name).read_bytes() for name in names)

    played = alrsim("replay", records, "--json", "-")
    assert (played.status, played.err) == (0, "")
    replayed = document_of(played.out)
    assert (replayed["runs"], replayed["worse"], replayed["changed"]) == (2, 0, 0)
    errors = {cell["name"]: cell["error"] for cell in document["cells"]}
    assert {one["name"]: pytest.approx(one["error_now"]) for one in replayed["traces"]} == errors
    words = alrsim("replay", *sorted(records.iterdir()), "--accept").out
    assert "2 recorded runs: median makespan error" in words
    assert "wrote" not in words, "nothing has changed"


def test_the_list_measures_nothing(alrsim: Any) -> None:
    ran = alrsim("validate", "--list", "--quick")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines()[:-1] == [cell.name for cell in GRIDS["quick"].cells]
    document = document_of(alrsim("validate", "--list", "--cells", "vgg8/*", "--json", "-").out)
    assert document["planned"] == [cell.name for cell in GRIDS["full"].cells if cell.model == "vgg8"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("validate", "--cells", "resnet7/*"), ("'resnet7/*' matches no cell", "mlp/m4/bp:gpipe")),
        (("validate", "--cells", ","), ("names no cell",)),
        (("validate", "--repeats", "0"), ("--repeats", "must be at least 1")),
        (("validate", "--quick", "--executor", "fibres"), ("'fibres' is not a known executor", "threads")),
        (("validate", "--json", ""), ("--json",)),
        (("replay", "/nowhere/at/all"), ("no such file",)),
        (("replay", "/"), ("holds no recorded run",)),
        (("replay",), ("TRACE",)),
    ],
)
def test_bad_input_is_refused_before_anything_is_measured(
    alrsim: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...], words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = tuple(str(tmp_path) if part == "/" else part for part in argv)
    ran = alrsim(*argv)
    assert ran.status == 1
    assert all(word in ran.err for word in words), ran.err
    assert ran.out == ""
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_says_how_to_go_on(alrsim: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("alrsim.validation.validating.run_validation", interrupted)
    ran = alrsim("validate", "--quick", "--cells", TWO, "--repeats", 2, "--executor", "threads", "--out", tmp_path)
    assert ran.status == 130
    assert "stopped with 4 of 4 steps to measure; the same call goes on" in ran.err


def test_other_numbers_of_units_are_other_cells(alrsim: Any) -> None:
    document = document_of(alrsim("validate", "--list", "--units", 4, "--cells", "*/u4/m16/*", "--json", "-").out)
    assert "mlp/u4/m16/bp:gpipe" in document["planned"]
