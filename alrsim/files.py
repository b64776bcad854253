"""Values on disk: typed JSON, read with one message for whatever is wrong with it; :mod:`alrsim.writing` writes."""

import json
from collections.abc import Callable
from math import isfinite
from os import fstat
from pathlib import Path
from stat import S_ISREG
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from alrsim.errors import FileError
from alrsim.writing import reason, write_atomically

T = TypeVar("T")

MOST_STREAMED = 1 << 28
"""Bytes that are taken from what is no regular file: a device need not end."""


def read_bytes(path: Path) -> bytes:
    """The content of a file, or a FileError that says why not."""
    try:
        with open(path, "rb") as file:
            if S_ISREG(fstat(file.fileno()).st_mode):
                return file.read()
            data = file.read(MOST_STREAMED + 1)
    except FileNotFoundError:
        raise FileError("no such file", where=str(path)) from None
    except (OSError, ValueError) as error:
        raise FileError(f"cannot be read: {reason(error)}", where=str(path)) from None
    if len(data) > MOST_STREAMED:
        raise FileError(f"is no regular file and gives more than {MOST_STREAMED:,} bytes", where=str(path))
    return data


def read_text(path: Path) -> str:
    """The text of a file, or a FileError that says why not."""
    data = read_bytes(path)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"byte {error.start} (0x{data[error.start]:02x}) is not UTF-8"
        raise FileError(f"is not a text file: {found}", where=str(path)) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def decode_json(text: str | bytes, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Parsed JSON. Python would take NaN and infinities, which JSON does not know and no value of ours holds.

    Args:
        pairs: Makes an object of its keys and values.

    Raises:
        ValueError: what is no JSON.
        RecursionError: nested too deeply.
    """
    return json.loads(text, parse_float=_finite, parse_constant=_finite, object_pairs_hook=pairs)


def _finite(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"holds {text}, which is no finite number")
    return value


def read_json(path: Path) -> Any:
    """The parsed JSON of a file, or a FileError with line and column."""
    try:
        return decode_json(read_text(path))
    except json.JSONDecodeError as error:
        raise FileError(
            f"is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}",
            where=str(path),
            fix="the file may be cut off; write it again",
        ) from None
    except RecursionError:
        raise FileError("is nested too deeply to be a value of alrsim", where=str(path)) from None
    except ValueError as error:
        raise FileError(f"is not valid JSON: {error}", where=str(path)) from None


def to_json(kind: str, value: object) -> dict[str, Any]:
    """A value of the vocabulary as plain JSON: ``{"format": "alrsim.<kind>/1", "value": ...}``."""
    return {"format": f"alrsim.{kind}/1", "value": TypeAdapter(type(value)).dump_python(value, mode="json")}


def from_json(kind: str, type_: type[T], document: Any, *, where: str) -> T:
    """The inverse of :func:`to_json`.

    Raises:
        FileError: wrong format tag, unknown or missing keys, or values that break an invariant.
    """
    expected = f"alrsim.{kind}/1"
    found = document.get("format") if isinstance(document, dict) else None
    if found != expected:
        holds = "has no format tag of alrsim" if found is None else f"holds {found!r}"
        raise FileError(f"{holds}, expected {expected!r}", where=where, fix=f"give a file that alrsim wrote as {kind}")
    try:
        return TypeAdapter(type_).validate_python(document.get("value"), strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(str(part) for part in first["loc"]) or "value"
        raise FileError(f"{at}: {first['msg']}", where=where, fix=f"the {kind} file was cut off or edited") from None


def save_value(kind: str, value: object, path: Path) -> None:
    """Write a value of the vocabulary as JSON, atomically."""
    write_atomically(path, (json.dumps(to_json(kind, value)) + "\n").encode())


def load_value(kind: str, type_: type[T], path: Path) -> T:
    """Read a value that :func:`save_value` wrote."""
    return from_json(kind, type_, read_json(path), where=str(path))
