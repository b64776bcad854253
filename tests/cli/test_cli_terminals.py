"""What leaves for a terminal, a page or a picture: characters that steer one become escapes, whoever wrote them."""

import json
import os
import re
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from alrsim.documents import read_document
from alrsim.errors import AlrsimError, AlrsimWarning, printable
from alrsim.warning import warn

NAME = "\x1b[2J\u202e\x9b1m$\\frac$\r<b>"
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def renamed(value: Any) -> Any:
    """A graph whose model and operators have a name that steers."""
    if isinstance(value, dict):
        return {key: renamed(one) for key, one in value.items()}
    if isinstance(value, list):
        return [renamed(one) for one in value]
    return NAME + value if isinstance(value, str) and value.startswith(("node_", "mlp")) else value


@pytest.fixture
def steering(graph_file: Path, tmp_path: Path) -> Path:
    path = tmp_path / "steering.json"
    path.write_text(json.dumps(renamed(json.loads(graph_file.read_text()))))
    return path


@pytest.mark.parametrize(
    "argv",
    [
        ("graph",),
        ("stages",),
        ("compare", "--units", 2),
        ("explain", "--units", 2, "--method", "bp:gpipe"),
        ("schedule", "--units", 2, "--method", "bp:gpipe"),
    ],
    ids=lambda argv: argv[0],
)
def test_names_of_a_model_steer_nothing(alrsim: Any, steering: Path, tmp_path: Path, argv: tuple[Any, ...]) -> None:
    out = ("--out", tmp_path / "out") if argv[0] in ("compare", "explain") else ()
    for more in (out, ("--json", "-")):
        ran = alrsim(argv[0], steering, *argv[1:], *more)
        assert ran.status == 0, ran.err
        assert not STEERING.search(ran.out)
        assert not STEERING.search(ran.err)
        assert "[2J" in ran.out or argv[0] == "explain"  # whose table has units and tasks only
    if out:
        assert not STEERING.search(read_document(out[1] / "result.json").table())


@pytest.mark.parametrize("argv", [("compare", NAME), ("sweep", NAME), ("compare", "mlp", "--hardware", NAME), (NAME,)])
def test_messages_steer_nothing(alrsim: Any, argv: tuple[str, ...]) -> None:
    ran = alrsim(*argv)
    assert ran.status == 1
    assert "\\x1b[2J\\u202e\\x9b1m" in ran.err
    assert not STEERING.search(ran.err)


def test_errors_and_warnings_of_the_library_steer_nothing() -> None:
    assert str(AlrsimError(NAME)) == printable(NAME) == "\\x1b[2J\\u202e\\x9b1m$\\frac$\\r<b>"
    with pytest.warns(AlrsimWarning) as told:
        warn(NAME)
    assert str(told[0].message) == printable(NAME)
    assert printable("a\tb\nc → ü") == "a\tb\nc → ü"
    assert printable("\ud800") == "\\ud800"


def test_a_result_goes_into_a_pipe_that_is_read(alrsim: Any, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    ran = alrsim("figure2", "--json", pipe)
    assert (ran.status, ran.out) == (1, "")
    assert "nobody reads from it" in ran.err
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()))
    reader.start()
    while alrsim("figure2", "--json", pipe).status:  # until the reader has opened it
        pass
    reader.join()
    assert json.loads(found[0])["format"].startswith("alrsim.figure2/")
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_what_the_host_refuses_is_no_bug(alrsim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import alrsim.cli.main as main

    def full(_arguments: list[str]) -> None:
        raise OSError(28, "No space left on device", "\x1bfile")

    monkeypatch.setattr(main, "dispatch", full)
    ran = alrsim("figure2")
    assert (ran.status, ran.err) == (1, "error: \\x1bfile: the disk is full\n")
