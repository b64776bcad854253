"""Values on disk: typed JSON, written whole or not at all."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from alrsim.errors import FileError

T = TypeVar("T")


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a crash, never sees half of it.

    Raises:
        FileError: if the folder does not exist or cannot be written.
    """
    path = Path(path)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise FileError(
            f"cannot write: {error.strerror}",
            where=str(path),
            fix="check that the folder exists and is writable",
        ) from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise FileError(f"cannot write: {error.strerror}", where=str(path)) from None
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, if they are missing.

    Raises:
        FileError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the folder: {error.strerror}", where=str(path)) from None


def read_text(path: Path) -> str:
    """The text of a file, or a FileError that says why not."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileError("no such file", where=str(path)) from None
    except UnicodeDecodeError:
        raise FileError("is not a text file", where=str(path)) from None
    except OSError as error:
        raise FileError(f"cannot be read: {error.strerror}", where=str(path)) from None


def read_json(path: Path) -> Any:
    """The parsed JSON of a file, or a FileError with line and column."""
    try:
        return json.loads(read_text(path))
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
