"""The journal of a validation run: one JSON object per line, on disk before the next thing happens.

The first line says what the run is (:class:`Header`); then come predictions and measured steps as they are made. A run
can be killed at any instant: a last line that was cut off is dropped, everything before it is kept.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from alrsim.errors import FileError
from alrsim.files import decode_json, read_bytes
from alrsim.validation.cells import Cell
from alrsim.validation.records import Host, Prediction, Step
from alrsim.writing import append_line, check_writable, cut_off, make_folder

JOURNAL = "journal.jsonl"
FORMAT = "alrsim.validation/1"
CLOCK = "clock"
"""The note that says how the units' clocks were aligned."""
_FIX = "give another --out, or delete the file to measure anew"

PREDICTIONS, STEPS = TypeAdapter(list[Prediction]), TypeAdapter(dict[str, list[Step]])
"""To plain JSON and back."""

T = TypeVar("T")


@dataclass(frozen=True)
class Header:
    """What a run is; a journal is only gone on with by an equal one, though by other cells if need be."""

    grid: str
    repeats: int
    warmup: int
    host: Host
    format: str = FORMAT


@dataclass
class Journal:
    """An open journal and what is in it.

    Attributes:
        predictions: By cell name.
        steps: By cell name, in order of turns.
        file: Where lines are added; ``None``: nowhere.
        notes: Other facts of the run, such as what the calibration of a model found, by name.
    """

    path: Path | None
    header: Header
    predictions: dict[str, Prediction] = field(default_factory=dict)
    steps: dict[str, list[Step]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    file: Path | None = None

    def predict(self, one: Prediction) -> None:
        """Write a prediction down."""
        self.predictions[one.cell.name] = one
        self._append({"prediction": _plain(Prediction, one)})

    def measure(self, cell: Cell, step: Step) -> None:
        """Write a measured step down.

        Raises:
            ValueError: its cell was not predicted before, or this turn is there already.
        """
        if cell.name not in self.predictions:
            raise ValueError(f"{cell.name} was measured before it was predicted")
        turns = self.steps.setdefault(cell.name, [])
        if step.turn != len(turns):
            raise ValueError(f"{cell.name}: turn {step.turn} after {len(turns)}")
        turns.append(step)
        self._append({"cell": cell.name, "step": _plain(Step, step)})

    def note(self, key: str, value: Any) -> None:
        """Write a fact of the run down; a later one of the same key replaces it."""
        self.notes[key] = value
        self._append({"note": key, "value": value})

    @property
    def host(self) -> Host:
        """With the clock that its workers had."""
        return replace(self.header.host, clock=str(self.notes.get(CLOCK, "")))

    def left(self, cells: Sequence[Cell]) -> int:
        """Steps that are still to be measured."""
        return sum(self.header.repeats - len(self.steps.get(cell.name, ())) for cell in cells)

    def dump(self) -> dict[str, Any]:
        """What is in it, as plain JSON."""
        predictions = PREDICTIONS.dump_python(list(self.predictions.values()), mode="json")
        return {"predictions": predictions, "steps": STEPS.dump_python(self.steps, mode="json")}

    def load(self, document: Mapping[str, Any]) -> None:
        """Hold what :meth:`dump` gave, of another process."""
        self.predictions = {one.cell.name: one for one in PREDICTIONS.validate_python(document["predictions"])}
        self.steps = STEPS.validate_python(document["steps"])

    def close(self) -> None:
        """Write no more."""
        self.file = None

    def _append(self, value: Mapping[str, Any]) -> None:
        if self.file is None:
            return
        append_line(self.file, json.dumps(value, allow_nan=False, separators=(",", ":")).encode())


def open_journal(folder: Path | None, header: Header) -> Journal:
    """Begin a journal in a folder, or go on with the one that is there.

    Args:
        folder: ``None``: nothing is kept.

    Raises:
        FileError: the folder holds another run, or something that is no journal; it cannot be written.
    """
    if folder is None:
        return Journal(None, header)
    path = folder / JOURNAL
    journal = read_journal(path) if os.path.isfile(path) and path.stat().st_size else None
    if journal is None:
        journal = Journal(path, header)
    elif (difference := _difference(journal.header, header)) is not None:
        raise FileError(f"holds another run: {difference}", where=str(path), fix=_FIX)
    make_folder(folder)
    check_writable(path)
    journal.file = path
    if not path.exists() or not path.stat().st_size:
        journal._append(_plain(Header, header))
    return journal


def read_journal(path: Path) -> Journal | None:
    """What a journal holds; a cut-off last line is dropped, from the file too. ``None`` if not even the first is whole.

    Raises:
        FileError: a whole line that is none of ours.
    """
    data = read_bytes(path)
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        cut_off(path, whole)
    lines = data[:whole].splitlines()
    if not lines:
        return None
    journal = Journal(path, _value(Header, _object(lines[0], path, 1), path, 1))
    if journal.header.format != FORMAT:
        raise FileError(f"is of format {journal.header.format!r}, not {FORMAT!r}", where=str(path), fix=_FIX)
    for number, line in enumerate(lines[1:], 2):
        _take(journal, _object(line, path, number), path, number)
    return journal


def _take(journal: Journal, value: dict[str, Any], path: Path, number: int) -> None:
    if "prediction" in value:
        one = _value(Prediction, value["prediction"], path, number)
        journal.predictions[one.cell.name] = one
    elif value.get("cell") in journal.predictions and "step" in value:
        step = _value(Step, value["step"], path, number)
        turns = journal.steps.setdefault(value["cell"], [])
        if step.turn != len(turns):
            raise FileError(f"line {number} is turn {step.turn}, expected {len(turns)}", where=str(path), fix=_FIX)
        turns.append(step)
    elif "note" in value and "value" in value:
        journal.notes[str(value["note"])] = value["value"]
    else:
        raise FileError(f"line {number} is no line of a validation run", where=str(path), fix=_FIX)


def _object(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        value = decode_json(line)
    except (ValueError, RecursionError):  # bad JSON and bad UTF-8 alike
        value = None
    if not isinstance(value, dict):
        raise FileError(f"line {number} is no line of a validation run", where=str(path), fix=_FIX)
    return value


def _value(type_: type[T], value: Any, path: Path, number: int) -> T:
    try:
        return TypeAdapter(type_).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(str(part) for part in first["loc"])
        raise FileError(f"line {number}: {at}: {first['msg']}", where=str(path), fix=_FIX) from None


def _plain(type_: type[T], value: T) -> dict[str, Any]:
    found: dict[str, Any] = TypeAdapter(type_).dump_python(value, mode="json")
    return found


def _difference(old: Header, new: Header) -> str | None:
    """The first thing in which two runs differ, in words. The commit may differ: a run outlives an edit."""
    before, after = _plain(Header, old), _plain(Header, new)
    for where, one, other in (
        *((key, before[key], after[key]) for key in ("grid", "repeats", "warmup")),
        *((key, before["host"][key], after["host"][key]) for key in before["host"] if key not in ("commit", "clock")),
    ):
        if one != other:
            return f"its {where} is {one!r}, not {other!r}"
    return None
