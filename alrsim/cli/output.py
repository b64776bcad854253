"""Where results go: JSON, files and text, each only after everything has been computed; warnings; the progress bar."""

import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alrsim.errors import AlrsimWarning, OptionError, Spelling, printable, respell
from alrsim.progress import Listener, Progress

STDOUT = "-"


@dataclass(frozen=True)
class Targets:
    """Where a result goes.

    Attributes:
        json: A file, or ``-``.
        out: A folder.
        folder: Of the verb's own option ``out``.
        file: For later verbs.
        endings: That the name of ``file`` may have; empty: any.
        written: Files that the verb itself writes, each with its option.
    """

    json: str | None = None
    out: Path | None = None
    folder: Path | None = None
    file: Path | None = None
    endings: tuple[str, ...] = ()
    written: tuple[tuple[str, Path], ...] = ()


@contextmanager
def checked_targets(targets: Targets) -> Iterator[None]:
    """Refuse targets that cannot be written BEFORE minutes of computing; pipes stay open until it is done.

    Raises:
        FileError: a folder that does not exist, a file where a folder is wanted, no right or no room to write.
        OptionError: a JSON target of length 0, or a file with a wrong ending.
    """
    from alrsim.writing import check_folder, writable

    if targets.json == "":
        raise OptionError("needs - (standard output) or a file name", where="--json")
    if targets.file is not None and targets.endings and targets.file.suffix not in targets.endings:
        wanted = " nor in ".join(targets.endings) if len(targets.endings) > 1 else targets.endings[0]
        verb = "ends neither in" if len(targets.endings) > 1 else "does not end in"
        raise OptionError(f"{targets.file.name!r} {verb} {wanted}", where="--output")
    files = [*targets.written]
    files += [("--json", Path(targets.json))] if targets.json not in (None, STDOUT) else []
    files += [("--output", targets.file)] if targets.file is not None else []
    with ExitStack() as held:
        for option, path in files:
            held.enter_context(writable(path, where=f"{option} {path}"))
        for folder in (targets.out, targets.folder):
            if folder is not None:
                check_folder(folder, where=f"--out {folder}")
        yield


def publish(result: Any, targets: Targets, spelling: Spelling) -> None:
    """Write files, then JSON, then text for people. With ``--json -`` stdout holds the JSON and nothing else."""
    encoded = result.to_json()
    text = "" if targets.json == STDOUT else _lines(respell(result.table(), spelling))
    written = [] if targets.out is None else [str(path) for path in result.save(targets.out)]
    if targets.file is not None:
        result.write(targets.file)
        written.append(str(targets.file))
    if targets.json not in (None, STDOUT):
        from alrsim.writing import write_atomically

        write_atomically(Path(str(targets.json)), encoded.encode())
    if targets.json == STDOUT:
        sys.stdout.write(encoded)
        return
    print(printable("\n".join([text, *(f"wrote {name}" for name in written)])))


def _lines(text: str) -> str:
    """Text with one empty line, not more, where paragraphs and tables meet."""
    return re.sub(r"\n{3,}", "\n\n", text).rstrip("\n")


@contextmanager
def telling_warnings(spelling: Spelling) -> Iterator[None]:
    """Warnings of the library become lines on stderr, each once."""
    told: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("always", AlrsimWarning)
        show = warnings.showwarning

        def tell(message: Any, category: type[Warning], *place: Any, **named: Any) -> None:
            if not issubclass(category, AlrsimWarning):
                show(message, category, *place, **named)
            elif (text := respell(str(message), spelling)) not in told:
                told.add(text)
                print(printable(f"warning: {text}"), file=sys.stderr)

        warnings.showwarning = tell
        yield


@contextmanager
def showing_progress() -> Iterator[Listener | None]:
    """A progress bar on stderr, only on a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    tasks: dict[str, Any] = {}
    with Bar(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:

        def listen(state: Progress) -> None:
            if state.title not in tasks:
                tasks[state.title] = bar.add_task(printable(state.title), total=state.total)
            words = f"{state.title}: {state.step}" if state.step else state.title
            bar.update(tasks[state.title], description=printable(words), completed=state.done, total=state.total)
            if not state.step:
                bar.remove_task(tasks.pop(state.title))

        yield listen
