"""What ``make crash`` kills: command lines that compute something small, what each keeps, and what must come out."""

import json
import sqlite3
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

Row = tuple[str, str]
"""What a row is of, and what it says."""

MODEL = "mlp --option hidden=8 --batch 8"

SWEEP = """\
verb: compare
fixed: {model: mlp.graph.json}
grid:
  method: ["bp:gpipe", "bp:1f1b", "lr:lr-fixed", "lr:lr-free"]
  units: [1, 2, 3, 4]
  microbatches: [2, 4]
"""


@dataclass(frozen=True)
class Work:
    """One command line.

    Attributes:
        name: The verb and what runs it.
        words: What is typed in a folder of its own.
        again: Words that are added when ``file`` is there.
        rows: What is recorded in a folder so far. A row, once there, is never lost, changed or doubled.
        result: What an interrupted and resumed call must share with one that was left alone.
        passing: Endings of files that may lie there after a kill, but not after the call went on to its end.
    """

    name: str
    words: str
    rows: Callable[[Path], list[Row]]
    result: Callable[[Path], Any]
    again: str = ""
    file: str = ""
    passing: tuple[str, ...] = ()

    def line(self, folder: Path) -> list[str]:
        """What is typed now."""
        more = self.again if self.file and (folder / self.file).exists() else ""
        return f"{self.words} {more}".split()


def train_rows(folder: Path) -> list[Row]:
    """Rows of the log; the CSV file and the lines of JSON are written one after the other, each of them whole."""
    file = folder / "out" / "log.jsonl"
    if not file.exists():
        return []
    return [(str(json.loads(line)["step"]), line) for line in file.read_text().splitlines()]


def train_result(folder: Path) -> Any:
    """Every bit of the last checkpoint, but for times."""
    from alrsim.training.checkpoint import read_checkpoint

    found = asdict(read_checkpoint(folder / "out" / "checkpoint.pt"))
    for row in found["rows"]:
        del row["seconds"]
    found["totals"] = found["totals"][:2]
    return _bits(found)


def _bits(value: Any) -> Any:
    """Tensors as bytes, so that equal means equal."""
    import torch

    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.detach().contiguous().numpy().tobytes()
    if isinstance(value, dict):
        return {key: _bits(one) for key, one in value.items()}
    return [_bits(one) for one in value] if isinstance(value, list | tuple) else value


def sweep_rows(folder: Path) -> list[Row]:
    """Rows of the store, which must be sound."""
    file = folder / "store.sqlite"
    if not file.exists():
        return []
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'results'").fetchone():
            return []
        (sound,) = connection.execute("PRAGMA integrity_check").fetchone()
        assert sound == "ok", sound
        return [(row[0], repr(row)) for row in connection.execute("SELECT * FROM results")]
    finally:
        connection.close()


def sweep_result(folder: Path) -> Any:
    """The document, and the rows without runs and times."""
    connection = sqlite3.connect(folder / "store.sqlite")
    rows = connection.execute("SELECT digest, status, configuration, outcome, error FROM results").fetchall()
    connection.close()
    document = json.loads((folder / "sweep.json").read_text())
    return _without_times(document), sorted(rows)


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(one) for key, one in value.items() if key not in {"seconds", "run", "file"}}
    return [_without_times(one) for one in value] if isinstance(value, list) else value


def validate_rows(folder: Path) -> list[Row]:
    """Whole lines of the journal, by what each is of."""
    file = folder / "out" / "journal.jsonl"
    data = file.read_bytes() if file.exists() else b""
    lines = data[: data.rfind(b"\n") + 1].splitlines()
    found = []
    for number, line in enumerate(lines):
        value = json.loads(line)
        if "note" in value:
            continue  # a later one of the same name replaces it
        if "prediction" in value:
            key = f"prediction {value['prediction']['cell']}"
        else:
            key = f"{value['cell']} {value['step']['turn']}" if "cell" in value else f"head {number}"
        found.append((key, line.decode()))
    return found


def validate_result(folder: Path) -> Any:
    """The cells, each predicted once and measured in as many turns; times are the host's."""
    document = json.loads((folder / "validate.json").read_text())
    return sorted(key for key, _ in validate_rows(folder)), document["planned"], document["steps_left"]


def calibrate_result(folder: Path) -> Any:
    """What a profile has figures for."""
    found = yaml.safe_load((folder / "here.yaml").read_text())
    return {key: sorted(value) if isinstance(value, dict) else "" for key, value in found.items()}


def compare_result(folder: Path) -> Any:
    """Which methods were predicted and measured."""
    found = json.loads((folder / "compare.json").read_text())
    return [(one["method"], one["schedule"], bool(one["measured"])) for one in found["methods"]]


def whole_files(folder: Path) -> list[Row]:
    """A file of a verb that records nothing on its way is whole or not there."""
    for file in folder.glob("*"):
        if file.suffix == ".json":
            json.loads(file.read_text())
        elif file.suffix == ".yaml":
            assert isinstance(yaml.safe_load(file.read_text()), dict), f"{file.name} is no whole file"
    return []


def _train(name: str, more: str) -> Work:
    words = f"train {MODEL} --steps 300 --eval-every 5 --out out {more}"
    return Work(name, words, train_rows, train_result, again="--resume", file="out/checkpoint.pt")


def _measured(executor: str) -> tuple[Work, ...]:
    where = f"--units 2 --executor {executor} --repeats 2"
    calibrate = f"calibrate {MODEL} {where} -m 2 --methods bp:gpipe --samples 4 --copies 1 --quick -o here.yaml"
    compare = f"compare {MODEL} {where} -m 2 --methods bp:gpipe,lr:lr-fixed --measure --json compare.json"
    validate = f"validate --quick --cells mlp/m4/bp:* {where} --out out --json validate.json"
    return (
        Work(f"validate {executor}", validate, validate_rows, validate_result),
        Work(f"calibrate {executor}", calibrate, whole_files, calibrate_result),
        Work(f"compare {executor}", compare, whole_files, compare_result),
    )


WORKS = (
    _train("train sequence", ""),
    _train("train threads", "--method lr --copies 2 --scheduler lr-fixed --units 2"),
    Work(
        "sweep processes",
        "sweep sweep.yaml --workers 2 -o store.sqlite --json sweep.json",
        sweep_rows,
        sweep_result,
        passing=("-wal", "-shm", "-journal"),
    ),
    *(work for executor in ("threads", "processes", "torchrun") for work in _measured(executor)),
)
