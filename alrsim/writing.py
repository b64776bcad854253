"""Files written whole or not at all, targets tried before anything is computed, and one writer at a time."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from alrsim.errors import FileError

ROOM = 64 * 1024
"""Bytes that must fit where something is to be written."""

_WORDS = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}
_held: set[int] = set()
"""Descriptors of locks and of pipes that are kept open: a forked child lets go of them."""


def _let_go() -> None:
    while _held:
        with suppress(OSError):
            os.close(_held.pop())


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_let_go)


def reason(error: OSError | ValueError) -> str:
    """Why a file cannot be opened, read or written, in words."""
    if isinstance(error, OSError):
        return _WORDS.get(error.errno or 0) or error.strerror or str(error) or type(error).__name__
    return "holds a character that no file name has"


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/alrsim``, by default ``~/.cache/alrsim``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The standard says that a relative path is to be ignored.
    return (Path(base) if os.path.isabs(base) else Path(os.path.expanduser("~")) / ".cache") / "alrsim"


@contextmanager
def _explained(what: str, path: Path) -> Iterator[None]:
    """What the system refuses becomes one message: what, where and why."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise FileError(f"{what}: {reason(error)}", where=str(path)) from None


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a crash, never sees half of it; what was there stays until all is on disk.

    Links are followed, the mode of a file that is there is kept, that of a new one follows the umask. What is no
    regular file (a device, a pipe) and what this program prints to are written in place.

    Raises:
        FileError: it cannot be written; a regular file is then as it was.
    """
    path = Path(path)
    try:
        info = _status(path)
        if info is not None and _in_place(info):
            _write(_open_in_place(path), data)
        else:
            _replace(Path(os.path.realpath(path)), data, info)
    except (OSError, ValueError) as error:
        fix = "check that the folder exists and is writable" if _folder_fails(error) else ""
        raise FileError(f"cannot write: {reason(error)}", where=str(path), fix=fix) from None


def check_writable(path: Path, *, where: str = "") -> None:
    """Refuse a file that could not be written, before anything is computed.

    A temporary file of :data:`ROOM` bytes is tried beside it; what is there stays as it is.

    Raises:
        FileError: it is a folder, its folder is missing, or cannot be written, or has no room; or it is a pipe that
            nobody reads.
    """
    with writable(path, where=where):
        pass


@contextmanager
def writable(path: Path, *, where: str = "") -> Iterator[None]:
    """As :func:`check_writable`; a pipe stays open meanwhile, or its reader would see an end before the data."""
    where, pipe = where or str(path), -1
    try:
        info = _status(path)
        if info is not None and stat.S_ISDIR(info.st_mode):
            raise FileError("is a folder, not a file", where=where)
        if info is not None and _in_place(info):
            pipe = _open_in_place(path)
        else:
            folder = Path(os.path.realpath(path)).parent
            if not os.path.isdir(folder):
                raise FileError("its folder does not exist", where=where, fix=f"mkdir -p {folder}")
            _require_rights(path, info)
            _probe(folder)
    except (OSError, ValueError) as error:
        nobody = isinstance(error, OSError) and error.errno == errno.ENXIO
        words = "nobody reads from it" if nobody else reason(error)
        raise FileError(f"cannot be written: {words}", where=where) from None
    _held.add(pipe)
    try:
        yield
    finally:
        _close(pipe)


def check_folder(folder: Path, *, where: str = "") -> None:
    """Refuse a folder that could not be made or written to, before anything is computed; it is not made.

    Raises:
        FileError: it, or one above it, is a file, cannot be written, or has no room.
    """
    where = where or str(folder)
    try:
        found = next(part for part in (folder, *folder.absolute().parents) if _status(part) is not None)
        if not os.path.isdir(found):
            raise FileError(f"{found} is a file, not a folder", where=where)
        _probe(found)
    except (OSError, ValueError) as error:
        raise FileError(f"cannot be written: {reason(error)}", where=where) from None


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, if they are missing.

    Raises:
        FileError: it cannot be made.
    """
    with _explained("cannot make the folder", path):
        path.mkdir(parents=True, exist_ok=True)


def append_line(path: Path, line: bytes) -> None:
    """Add a line to a file, on disk before this returns.

    Raises:
        FileError: it cannot be written.
    """
    with _explained("cannot write", path):
        _write(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666), line + b"\n")


def cut_off(path: Path, length: int) -> None:
    """Keep the first ``length`` bytes of a file: the last line of a journal whose writer was killed is no line.

    Raises:
        FileError: it cannot be written.
    """
    with _explained("cannot write", path):
        os.truncate(path, length)


@contextmanager
def locked(path: Path, taken: str, *, fix: str) -> Iterator[None]:
    """Hold a file (made if it is missing) or a folder alone; the operating system lets go of it if we die.

    Args:
        taken: What is wrong if somebody else holds it.

    Raises:
        FileError: somebody else holds it, or it cannot be opened.
    """
    with _explained("cannot be opened", path):
        flags = os.O_RDONLY if os.path.isdir(path) else os.O_RDWR | os.O_CREAT
        held = os.open(path, flags, 0o666)
    _held.add(held)
    try:
        if not _lock(held):
            raise FileError(taken, where=str(path), fix=fix)
        yield
    finally:
        _close(held)


def _lock(held: int) -> bool:
    """Whether nobody else has it. Where there are no such locks (Windows, some network disks), nobody has."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _close(handle: int) -> None:
    _held.discard(handle)
    if handle >= 0:
        os.close(handle)


def _status(path: Path) -> os.stat_result | None:
    """Of what a path leads to; ``None``: there is nothing."""
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _in_place(info: os.stat_result) -> bool:
    """Whether replacing it would be wrong: no regular file, or where this program's own output goes."""
    if not stat.S_ISREG(info.st_mode):
        return True
    for number in (1, 2):
        with suppress(OSError):
            if os.path.samestat(info, os.fstat(number)):
                return True
    return False


def _open_in_place(path: Path) -> int:
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)  # a pipe without a reader fails, and waits not
    os.set_blocking(handle, True)
    return handle


def _replace(path: Path, data: bytes, info: os.stat_result | None) -> None:
    _require_rights(path, info)
    name = path.with_name(f".alrsim.{token_hex(6)}")
    try:
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # the system takes the umask off
        if info is not None:
            with suppress(OSError):  # only root gives files away
                os.chown(name, info.st_uid, info.st_gid)
            os.chmod(name, stat.S_IMODE(info.st_mode))
        _write(handle, data)
        os.replace(name, path)
    except BaseException:
        name.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # not every system can
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _write(handle: int, data: bytes) -> None:
    """Write, sync and close."""
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a device or a pipe has nothing to sync
                raise


def _probe(folder: Path) -> None:
    name = folder / f".alrsim.{token_hex(6)}"
    try:
        _write(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), bytes(ROOM))
    finally:
        with suppress(OSError):
            name.unlink(missing_ok=True)


def _require_rights(path: Path, info: os.stat_result | None) -> None:
    """A file that is not ours to write is not replaced by way of its folder."""
    if info is not None and not os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _folder_fails(error: Exception) -> bool:
    return isinstance(error, FileNotFoundError | NotADirectoryError | PermissionError)
