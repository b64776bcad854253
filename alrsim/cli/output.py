"""Where results go: JSON, files and human text, each only after everything has been computed."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alrsim.errors import FileError, OptionError
from alrsim.files import write_atomically

if TYPE_CHECKING:
    from rich.table import Table

STDOUT = "-"

Advance = Callable[[str], None]


def check_targets(json_target: str | None, out: Path | None = None, file: Path | None = None) -> None:
    """Refuse targets that cannot be written BEFORE minutes of computing.

    Raises:
        FileError: a folder that does not exist, or a file where a folder is wanted.
        OptionError: a JSON target of length 0.
    """
    if json_target == "":
        raise OptionError("needs - (standard output) or a file name", where="--json")
    targets = [("--json", Path(json_target))] if json_target not in (None, STDOUT) else []
    for option, path in [*targets, *([("--output", file)] if file is not None else [])]:
        if path.is_dir():
            raise FileError("is a folder, not a file", where=f"{option} {path}")
        if not path.parent.is_dir():
            raise FileError("its folder does not exist", where=f"{option} {path}", fix=f"mkdir -p {path.parent}")
    if out is not None:
        first = next((part for part in (out, *out.parents) if part.exists()), None)
        if first is not None and not first.is_dir():
            raise FileError(f"{first} is a file, not a folder", where=f"--out {out}")


def publish(
    document: Mapping[str, Any],
    *,
    json_target: str | None = None,
    out: Path | None = None,
    files: Mapping[str, bytes] | None = None,
    text: Callable[[], None] | None = None,
) -> None:
    """Write files, then JSON, then human text. With ``--json -`` stdout holds the JSON and nothing else.

    Args:
        files: Name in ``out`` and content; the folder is made if it is missing.
        text: Prints for people; not called when stdout belongs to the JSON.
    """
    encoded = json.dumps(document, indent=2, allow_nan=False) + "\n"
    if out is not None and files:
        _make_folder(out)
        for name, data in files.items():
            write_atomically(out / name, data)
    if json_target is not None and json_target != STDOUT:
        write_atomically(Path(json_target), encoded.encode())
    if json_target == STDOUT:
        sys.stdout.write(encoded)
    elif text is not None:
        text()


def encode(document: Mapping[str, Any]) -> bytes:
    """A JSON file's content."""
    return (json.dumps(document, indent=2, allow_nan=False) + "\n").encode()


def warn(message: str) -> None:
    """One line on stderr."""
    print(f"warning: {message}", file=sys.stderr)


def tell_progress(message: str) -> None:
    """One line on stderr about what is going on."""
    print(message, file=sys.stderr, flush=True)


def say(message: str = "") -> None:
    """One line for people on stdout."""
    print(message)


def show(table: "Table") -> None:
    """A table on stdout: coloured and fitted on a terminal, plain and wide elsewhere."""
    from rich.console import Console

    from alrsim.reports.tables import PLAIN_WIDTH, to_text

    if sys.stdout.isatty():
        console = Console(highlight=False, emoji=False)
        console.print(table)
    else:
        sys.stdout.write(to_text(table, PLAIN_WIDTH))


@contextmanager
def progress(total: int, title: str) -> Iterator[Advance]:
    """A progress bar on stderr, only on a terminal. The yielded function names the step that begins now."""
    if not sys.stderr.isatty():
        yield lambda _step: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        begun = False

        def advance(step: str) -> None:
            nonlocal begun
            bar.update(task, description=f"{title}: {step}", advance=1 if begun else 0)
            begun = True

        yield advance


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the folder: {error.strerror}", where=f"--out {path}") from None
