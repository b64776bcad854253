"""The door itself: options from fields, keywords respelled, targets, warnings, old spellings, completion."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import click
import pytest

import alrsim.cli.main as main_module
from alrsim.cli.commands import Verbs
from alrsim.cli.entry import Entry, Given, Saving
from alrsim.cli.parameters import option_of
from alrsim.cli.spelling import spelling_of
from alrsim.documents import Document
from alrsim.errors import AlrsimError, FileError, OptionError, respell
from alrsim.options import Options, keyword, options_of
from alrsim.progress import stretch
from alrsim.verbs import verb
from alrsim.warning import warn


@dataclass(frozen=True, kw_only=True)
class PaintOptions(Options):
    """Options of every type."""

    colour: str = keyword("The colour.", default="red", metavar="C", choices=("red", "blue"), panel="Look")
    coats: int = keyword("How many, beside `colour`.", default=2, metavar="N", short="n", least=1)
    wet: bool = keyword("Paint it wet.", default=False)
    dry_first: bool = keyword("Let it dry.", default=True)
    mix: list[str] | None = keyword("Repeatable.", default=None, metavar="KEY=VALUE", many=True)
    share: float | None = keyword("A share.", default=None, metavar="S", parse=lambda value, name: 2 * value)


@dataclass(frozen=True)
class Painted(Document):
    """What was asked for."""

    kind: ClassVar[str] = "painted"

    wall: str
    given: tuple[str, ...]
    values: tuple[str, ...]

    def table(self) -> str:
        """In words."""
        return f"{self.wall}: try more `coats`, `dry_first=False` or `brush`\n\n\n\nend"

    def write(self, path: Path) -> None:
        """As text."""
        path.write_text(self.wall)

    def save(self, folder: str | Path) -> tuple[Path, ...]:
        """Nothing but a name."""
        return (Path(folder) / "picture.png",)

    @property
    def failure(self) -> AlrsimError | None:
        """Grey walls fail after they were shown."""
        return OptionError("is grey", field="wall") if self.wall == "grey" else None


@verb(PaintOptions)
def paint(wall: str, *, asked: PaintOptions) -> Painted:
    """Paint a ``wall``.

    It takes :class:`PaintOptions` coats.

    Args:
        wall: Which.
    """
    with stretch(1, "paint") as step:
        step(wall)
    if wall == "missing":
        raise FileError("no such wall", where="north", fix="use `wall`", fixes=[("coats", 3), ("dry_first", False)])
    warn("the `coats` are thin")
    warn("the `coats` are thin")
    values = [f"{one.name}={getattr(asked, one.name)}" for one in options_of(PaintOptions)]
    return Painted(wall, tuple(sorted(asked.given)), tuple(values))


ENTRY = Entry(
    "paint",
    "A wall in one line.",
    f"{__name__}:paint",
    (Given("wall", "WALL", "Which wall."),),
    out=True,
    saving=Saving("The wall.", (".txt",), needs="coats"),
)


@pytest.fixture
def door(alrsim: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command with the made-up verb alone."""
    monkeypatch.setattr("alrsim.cli.commands.load_attribute", lambda path: paint)
    monkeypatch.setattr(main_module, "VERBS", (ENTRY,))
    return alrsim


def test_only_what_was_typed_reaches_the_verb_as_its_own_type(door: Any) -> None:
    typed = ("--coats", "3", "--wet", "--no-dry-first", "--mix", "a=1", "--mix", "b=2", "--share", "0.5")
    document = json.loads(door("paint", "east", *typed, "--json", "-").out)
    assert document["given"] == ["coats", "dry_first", "mix", "share", "wet"]
    wanted = ["colour=red", "coats=3", "wet=True", "dry_first=False", "mix=['a=1', 'b=2']", "share=1.0"]
    assert document["values"] == wanted
    assert json.loads(door("paint", "east", "-n", "2", "--json", "-").out)["given"] == ["coats"]
    assert json.loads(door("paint", "east", "--json", "-").out)["given"] == []


def test_text_is_spelled_as_it_is_typed_and_has_no_holes(door: Any) -> None:
    ran = door("paint", "east")
    assert ran.out == "east: try more --coats, --no-dry-first or brush\n\nend\n"
    assert ran.err == "warning: the --coats are thin\n"


def test_errors_are_spelled_as_they_are_typed(door: Any) -> None:
    ran = door("paint", "missing")
    assert (ran.status, ran.out) == (1, "")
    assert ran.err == "error: north: no such wall\n  try: use WALL or --coats 3 or --no-dry-first\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("east", "--colour", "blu"), "--colour: 'blu' is not a choice\n  try: blue;"),
        (("east", "--coats", "0"), "--coats: is 0, must be at least 1"),
        (("east", "--coats", "two"), "Invalid value for '--coats'"),
        (("east", "--coat", "2"), "No such option: --coat; did you mean --coats"),
        (("east", "--no-wet"), "No such option: --no-wet"),
        ((), "Missing argument 'WALL'"),
        (("east", "west"), "unexpected extra argument"),
        (("east", "-o", "a.txt"), "--output: what it writes is made by --coats"),
        (("east", "--coats", "2", "-o", "a.png"), "--output: 'a.png' does not end in .txt"),
        (("east", "--json", ""), "--json: needs - (standard output) or a file name"),
        (("east", "--plugin", "/nowhere/at/all.py"), "is no Python file"),
    ],
)
def test_what_is_wrong_is_told_once_and_nothing_is_painted(
    door: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = door("paint", *words)
    assert (ran.status, ran.out) == (1, "")
    assert message in ran.err
    assert ran.err.count("error: ") == 1
    assert list(tmp_path.iterdir()) == []


def test_results_go_where_they_are_sent(door: Any, tmp_path: Path) -> None:
    file, value, out = tmp_path / "r.json", tmp_path / "wall.txt", tmp_path / "out"
    ran = door("paint", "east", "-n", 2, "--json", file, "-o", value, "--out", out)
    assert ran.out.splitlines()[-2:] == [f"wrote {out}/picture.png", f"wrote {value}"]
    assert json.loads(file.read_text())["wall"] == value.read_text() == "east"
    quiet = door("paint", "east", "-n", 2, "--json", "-", "-o", value, "--out", out)
    assert json.loads(quiet.out)["format"] == "alrsim.painted/1"


def test_a_result_may_end_in_an_error_after_it_was_shown(door: Any) -> None:
    ran = door("paint", "grey", "--json", "-")
    assert ran.status == 1
    assert json.loads(ran.out)["wall"] == "grey"
    assert ran.err.endswith("error: WALL: is grey\n")


def test_help_is_made_of_docstring_and_fields(door: Any) -> None:
    assert "  paint  A wall in one line." in door().out
    text = door("paint", "--help").out
    assert "Usage: alrsim paint [OPTIONS] WALL" in text
    assert "  Paint a wall.\n\n  It takes PaintOptions coats.\n" in text
    assert "Args:" not in text
    assert text.index("Arguments:") < text.index("Options:") < text.index("Look:") < text.index("Output:")
    assert "-n, --coats N" in text
    assert "beside --colour. [default: 2]" in text
    assert "--dry-first / --no-dry-first" in text
    assert "--wet  " in text
    assert "--no-wet" not in text


def test_a_mapping_and_words_of_others_are_spelled_too() -> None:
    spelling = spelling_of([option_of(one) for one in options_of(PaintOptions)])
    assert spelling("mix", {"a": 1, "b": 2}) == "--mix a=1 b=2"
    assert spelling("dry_first", True) == "--dry-first"
    assert respell("`coats=4`, `wet`, `brush`, `brush=2`", spelling) == "--coats 4, --wet, brush, brush=2"


def test_old_spellings_name_the_new_one(alrsim: Any) -> None:
    for line, new in (
        ("train mlp --schedule lr-free", "--scheduler"),
        ("train mlp --update sign", "--direction"),
        ("train mlp --data digits", "--dataset"),
        ("compare mlp --plan best.json", "--estimators"),
        ("sweep grid.yaml --csv all.csv", "--out"),
        ("reproduce --data-dir data", "--data-folder"),
    ):
        ran = alrsim(*line.split())
        assert ran.status == 1
        assert f"use {new}\n" in ran.err


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("alrsim comp", ["compare"]),
        ("alrsim hardware v", ["validate"]),
        ("alrsim compare --transfer", ["--transfer-semantics"]),
        ("alrsim compare mlp --baseline a", ["antithetic"]),
        ("alrsim compare res", ["resnet5", "resnet9", "resnet12"]),
        ("alrsim compare mlp --hardware h1", ["h100"]),
    ],
)
def test_the_shell_completes_verbs_options_and_values(words: str, found: list[str]) -> None:
    environment = {**os.environ, "_ALRSIM_COMPLETE": "bash_complete", "COMP_WORDS": words}
    environment["COMP_CWORD"] = str(len(words.split()) - 1)
    done = subprocess.run(
        [sys.executable, "-m", "alrsim"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert [line.partition(",")[2] for line in done.stdout.split()] == found


def test_completion_prints_what_a_shell_reads(alrsim: Any) -> None:
    assert "_ALRSIM_COMPLETE=bash_complete" in alrsim("--completion", "bash").out
    assert alrsim("--completion", "csh").status == 1


def test_a_group_without_a_verb_says_so() -> None:
    with pytest.raises(click.UsageError, match="Missing command"):
        Verbs("hardware", "x", ()).make_context("hardware", []).command.main([], standalone_mode=False)
