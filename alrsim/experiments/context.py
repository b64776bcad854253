"""What measurements share: mode, seeds, data folders, and a memory of finished parts that survives a kill."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from alrsim import writing
from alrsim.errors import FileError
from alrsim.experiments.claim import Mode
from alrsim.files import decode_json, read_text
from alrsim.progress import stretch

T = TypeVar("T")

MOST_SEEDS = {"quick": 3, "full": 5}


@dataclass
class Memo:
    """Finished parts by key, appended to a JSON-lines file as they finish.

    Attributes:
        path: ``None``: remembered for this run only.
    """

    path: Path | None = None
    parts: dict[str, Any] = field(default_factory=dict)

    def keep(self, key: str, what: Mapping[str, Any], value: Any, *, lasting: bool) -> None:
        """Remember a value; beyond this run only if it is ``lasting``."""
        self.parts[key] = value
        if self.path is not None and lasting:
            append_line(self.path, {"key": key, "what": dict(what), "value": value})


def open_memo(path: Path | None) -> Memo:
    """The memory of an earlier run, if there is one.

    Raises:
        FileError: the file is not one of ours.
    """
    memo = Memo(path)
    if path is not None:
        for line in read_lines(path, ("key", "value")):
            memo.parts[line["key"]] = line["value"]
    return memo


def read_lines(path: Path, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    """Objects of a JSON-lines file; a last line that a kill cut off is dropped, from the file too.

    Raises:
        FileError: any other line is no object with these keys.
    """
    if not path.exists():
        return []
    text = read_text(path)
    found, whole = [], 0
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        try:
            value = decode_json(line)
        except (ValueError, RecursionError):
            value = None
        if not line.endswith("\n"):
            writing.cut_off(path, whole)
            break
        if not (isinstance(value, dict) and all(key in value for key in keys)):
            raise FileError(
                f"line {number} is not a finished measurement", where=str(path), fix="delete it to measure anew"
            )
        whole += len(line.encode())
        found.append(value)
    return found


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """Add one object to a JSON-lines file.

    Raises:
        FileError: it cannot be written.
    """
    writing.make_folder(path.parent)
    writing.append_line(path, json.dumps(value, allow_nan=False).encode())


@dataclass(frozen=True)
class Context:
    """The setting of a run.

    Attributes:
        mode: ``quick``: fewer seeds and steps, smaller models.
        folder: Holds data sets, one folder each, named as in the registry.
        version: Of whatever decides what a measurement gives; part of every key.
    """

    mode: Mode
    seed: int = 0
    folder: Path | None = None
    version: str = ""
    memo: Memo = field(default_factory=Memo)

    def pick(self, quick: T, full: T) -> T:
        """By mode."""
        return quick if self.mode == "quick" else full

    @property
    def seeds(self) -> range:
        """Seeds of repeated trainings."""
        return range(self.seed, self.seed + MOST_SEEDS[self.mode])

    def once(
        self,
        what: Mapping[str, Any],
        compute: Callable[[], Any],
        lasting: Callable[[Any], bool] = lambda _value: True,
        words: str = "",
    ) -> Any:
        """The value of ``compute`` (JSON), from memory if this part has been done before.

        Args:
            what: Decides the value; ``part`` names it.
            lasting: Whether a value is good enough to be kept for later runs.
            words: What is measured, for people.
        """
        key = key_of({**what, "version": self.version})
        if key not in self.memo.parts:
            with stretch(1, "measure") as step:
                step(words or str(what["part"]))
                value = json.loads(json.dumps(compute()))
            self.memo.keep(key, what, value, lasting=lasting(value))
        return self.memo.parts[key]


def key_of(what: Mapping[str, Any]) -> str:
    """A digest of plain values."""
    return sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:24]
