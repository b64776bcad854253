"""Results in one SQLite file: a row per configuration, written as it finishes, so that a kill loses nothing recorded.

Tables: ``results`` (key: digest of the configuration), ``graphs`` (exported models, so that no run exports twice),
``runs`` (when, where), ``meta``. One writer at a time: a second sweep on the same file is refused, and the lock is the
operating system's, gone with its process. Anybody may read while a sweep writes.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alrsim.errors import FileError
from alrsim.files import decode_json
from alrsim.sweeps.grid import Configuration, canonical
from alrsim.writing import check_writable, locked

FORMAT = "alrsim.sweep/1"
_FIX = "choose another `store`"

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS graphs (key TEXT PRIMARY KEY, graph BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS runs (run INTEGER PRIMARY KEY, started TEXT NOT NULL, workers TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS results (
  digest TEXT PRIMARY KEY,
  run INTEGER NOT NULL REFERENCES runs (run),
  status TEXT NOT NULL CHECK (status IN ('ok', 'failed')),
  configuration TEXT NOT NULL,
  outcome TEXT NOT NULL,
  error TEXT NOT NULL,
  seconds REAL NOT NULL
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Result:
    """What became of one configuration.

    Attributes:
        outcome: Its numbers; empty if it failed.
        error: One line, empty if it did not fail.
        seconds: Time that it took.
    """

    digest: str
    configuration: Configuration
    outcome: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        return bool(self.error)


class Store:
    """An open file of results."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self._path = connection, path
        self._run = 0

    def begin(self, workers: str) -> None:
        """Note that a run starts; what is recorded belongs to it."""
        cursor = self._connection.execute(
            "INSERT INTO runs (started, workers) VALUES (strftime('%Y-%m-%dT%H:%M:%SZ', 'now'), ?)", (workers,)
        )
        self._run = cursor.lastrowid or 0

    def record(self, result: Result) -> None:
        """Write one result, whole or not at all; a key is recorded once.

        Raises:
            FileError: it is there already, or cannot be written.
        """
        row = (
            result.digest,
            self._run,
            "failed" if result.failed else "ok",
            canonical(dict(result.configuration)),
            canonical(dict(result.outcome)),
            result.error,
            result.seconds,
        )
        try:
            self._connection.execute("INSERT INTO results VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        except sqlite3.Error as error:
            raise FileError(
                f"cannot record a result: {_refused(error, self._path).what}", where=str(self._path)
            ) from None

    def forget_failed(self, digests: Iterable[str]) -> None:
        """Remove failures, so that they are tried again."""
        rows = [(digest,) for digest in digests]
        self._connection.executemany("DELETE FROM results WHERE digest = ? AND status = 'failed'", rows)

    def results(self, digests: Iterable[str]) -> dict[str, Result]:
        """What is recorded of these configurations.

        Raises:
            FileError: a row is damaged.
        """
        wanted = set(digests)
        rows = self._connection.execute("SELECT digest, configuration, outcome, error, seconds FROM results")
        return {row[0]: self._result(*row) for row in rows if row[0] in wanted}

    def _result(self, digest: str, configuration: str, outcome: str, error: str, seconds: float) -> Result:
        try:
            parts = [decode_json(configuration), decode_json(outcome)]
        except (ValueError, TypeError, RecursionError):
            parts = []
        words = isinstance(error, str) and isinstance(seconds, float | int)
        if not words or not parts or not all(isinstance(part, dict) for part in parts):
            raise _damaged(self._path, f"the row {digest}")
        return Result(digest, parts[0], parts[1], error, seconds)

    def graphs(self) -> dict[str, bytes]:
        """Exported models by key."""
        return dict(self._connection.execute("SELECT key, graph FROM graphs"))

    def add_graph(self, key: str, graph: bytes) -> None:
        """Keep an exported model."""
        self._connection.execute("INSERT OR REPLACE INTO graphs VALUES (?, ?)", (key, graph))


@contextmanager
def open_store(path: Path) -> Iterator[Store]:
    """Open or make a file of results, and hold it alone.

    Raises:
        FileError: no such folder, no file of a sweep, or another sweep has it.
    """
    new = not os.path.exists(path)
    if not (new or os.path.isdir(path) or os.path.isfile(path)):
        raise FileError("is no regular file", where=str(path), fix=_FIX)
    check_writable(path)
    beside = [Path(f"{path}{ending}") for ending in ("-wal", "-shm", "-journal")]
    there = [one for one in beside if one.exists()]
    with locked(path, "another sweep is writing to it", fix="wait for it, or choose another `store`"):
        connection = sqlite3.connect(path, isolation_level=None, timeout=10.0)
        kept = False
        try:
            _prepare(connection, str(path))
            kept = True
            yield Store(connection, path)
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the message quotes what cannot be decoded
            if kept and isinstance(error, UnicodeDecodeError):
                raise
            kept = isinstance(error, sqlite3.OperationalError)
            raise _refused(error, path) from None
        finally:
            with suppress(sqlite3.Error, UnicodeDecodeError):  # somebody reads: the log stays beside the file
                connection.execute("PRAGMA journal_mode = DELETE")  # the log is written back: one file is left
            connection.close()
            if not kept:  # nothing of ours is in it
                for one in (*(one for one in beside if one not in there), *([path] if new else [])):
                    one.unlink(missing_ok=True)


def _refused(error: sqlite3.Error | UnicodeDecodeError, path: Path) -> FileError:
    words = str(error)
    if "not a database" in words:
        return FileError("is no file of a sweep", where=str(path), fix=_FIX)
    if "malformed" in words or "decode" in words:
        return _damaged(path, words)
    return FileError("the disk is full" if "full" in words else f"cannot be used: {words}", where=str(path), fix=_FIX)


def _damaged(path: Path, words: str) -> FileError:
    return FileError(
        f"is damaged: {words}", where=str(path), fix=f"choose another `store`, or `sqlite3 {path} .recover`"
    )


def _prepare(connection: sqlite3.Connection, where: str) -> None:
    """Make the tables, or see that they are ours.

    Raises:
        FileError: they are not.
    """
    # With a log, a commit is one append: it survives a kill of this process, and costs no wait for the disk.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if names and "meta" not in names:
        raise FileError("is a database, but not of a sweep", where=where, fix=_FIX)
    connection.executescript(_TABLES)
    connection.execute("INSERT OR IGNORE INTO meta VALUES ('format', ?)", (FORMAT,))
    (found,) = connection.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()
    if found != FORMAT:
        raise FileError(f"holds {found!r}, expected {FORMAT!r}", where=where, fix=_FIX)
