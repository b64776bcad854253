"""Recorded runs on disk: one small file per cell, with everything that it takes to predict it again.

A file is gzip of one JSON object ``{"format": "alrsim.recorded-run/1", "sha256": ..., "value": ...}``; the checksum is
of the value's canonical JSON. Equal runs give equal bytes. Nothing in it is ever executed or unpickled, and reading it
needs neither torch nor the model.
"""

import gzip
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from alrsim.errors import FileError
from alrsim.files import decode_json, from_json
from alrsim.units import Bytes, Ns
from alrsim.validation.cells import Cell
from alrsim.validation.journal import Journal
from alrsim.validation.records import Host, Prediction, Step, median_peaks, median_step
from alrsim.writing import reason

KIND = "recorded-run"
FORMAT = f"alrsim.{KIND}/1"
SUFFIX = ".trace.json.gz"
MOST_BYTES = 64_000_000
"""A recorded run is tens of kilobytes; what unpacks to more than this is none."""

_AGAIN = "take the file from the repository again, or record the run again"


@dataclass(frozen=True)
class RecordedRun:
    """A cell as it was predicted and measured.

    Attributes:
        step: The measured step with the median makespan.
        makespans: Of every measured step, in ns, in order of running.
        peaks: Median over the steps of every unit's peak.
    """

    host: Host
    prediction: Prediction
    step: Step
    makespans: tuple[Ns, ...]
    peaks: Mapping[str, Bytes]

    def __post_init__(self) -> None:
        if self.step.makespan_ns not in self.makespans:
            raise ValueError("the measured step is none of the repeats")


def recorded_runs(journal: Journal, cells: Sequence[Cell]) -> Iterator[RecordedRun]:
    """Those of the cells that were measured completely."""
    for cell in cells:
        if journal.left([cell]) == 0:
            steps = journal.steps[cell.name]
            makespans = tuple(step.makespan_ns for step in steps)
            prediction = journal.predictions[cell.name]
            yield RecordedRun(journal.host, prediction, median_step(steps), makespans, median_peaks(steps))


def trace_name(run: RecordedRun) -> str:
    """``resnet5-m8-bp_gpipe.trace.json.gz``: a file name that every system takes."""
    return run.prediction.cell.name.replace("/", "-").replace(":", "_") + SUFFIX


def trace_bytes(run: RecordedRun) -> bytes:
    """The file's content; the same run gives the same bytes."""
    value = TypeAdapter(RecordedRun).dump_python(run, mode="json")
    text = _canonical({"format": FORMAT, "sha256": _checksum(value), "value": value})
    return gzip.compress(text, compresslevel=9, mtime=0)


def read_trace(path: Path) -> RecordedRun:
    """What :func:`trace_bytes` wrote.

    Raises:
        FileError: not there, cut off, edited, of another version or type, or no recorded run at all.
    """
    where = str(path)
    document = _document(path, where)
    found = document.get("format") if isinstance(document, dict) else None
    if (
        isinstance(document, dict)
        and isinstance(found, str)
        and found.startswith(f"alrsim.{KIND}/")
        and found != FORMAT
    ):
        raise FileError(
            f"is of version {found.rpartition('/')[2]}, and this alrsim reads version 1",
            where=where,
            fix="use the alrsim that wrote it, or record the run again",
        )
    if found != FORMAT:
        holds = "has no format tag of alrsim" if not isinstance(found, str) else f"holds {found!r}"
        raise FileError(f"{holds}, expected {FORMAT!r}", where=where, fix="give a file of `alrsim validate --record`")
    if document.get("sha256") != _checksum(document.get("value")):
        raise FileError("was edited: its checksum is not that of its content", where=where, fix=_AGAIN)
    return from_json(KIND, RecordedRun, document, where=where)


def find_traces(paths: Sequence[Path]) -> list[Path]:
    """Files as given, and every recorded run below the folders given, sorted.

    Raises:
        FileError: a path that does not exist, or a folder without recorded runs.
    """
    found: list[Path] = []
    for path in paths:
        if os.path.isdir(path):
            below = sorted(path.rglob(f"*{SUFFIX}"))
            if not below:
                raise FileError(
                    f"holds no recorded run (*{SUFFIX})", where=str(path), fix="alrsim validate --record DIR"
                )
            found += below
        elif os.path.exists(path):
            found.append(path)
        else:
            raise FileError("no such file", where=str(path))
    return list(dict.fromkeys(found))


def _document(path: Path, where: str) -> Any:
    try:
        with gzip.open(path) as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise FileError("no such file", where=where) from None
    except EOFError:
        raise FileError("was cut off", where=where, fix=_AGAIN) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise FileError(f"is no recorded run, or was damaged: {error}", where=where, fix=_AGAIN) from None
    except (OSError, ValueError) as error:
        raise FileError(f"cannot be read: {reason(error)}", where=where) from None
    if len(data) > MOST_BYTES:
        raise FileError("is too large for a recorded run", where=where)
    try:
        return decode_json(data)
    except RecursionError:
        raise FileError("is nested too deeply", where=where, fix=_AGAIN) from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise FileError("holds no JSON", where=where, fix=_AGAIN) from None
    except ValueError as error:
        raise FileError(f"is damaged: {error}", where=where, fix=_AGAIN) from None


def _checksum(value: Any) -> str:
    return sha256(_canonical(value)).hexdigest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
