"""Loops in machine code: the one place that imports numba, which is optional and loaded when a loop is first needed."""

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar, cast

from alrsim.warning import warn

F = TypeVar("F", bound=Callable[..., object])


def machine_code(function: F) -> F:
    """Compile at the first call; keep the result on disk where a cache folder is writable, else in memory.

    Compiled loops let go of the interpreter, so that threads may run them side by side.
    """
    from numba import njit

    build: Any = njit
    try:
        compiled = build(cache=True, nogil=True, error_model="numpy")(function)
        if hasattr(compiled, "stats"):  # not where numba is told to compile nothing
            forget_stale(Path(compiled.stats.cache_path), sources(Path(function.__code__.co_filename).parent))
    except RuntimeError:  # numba finds no folder that it may write its cache to
        compiled = build(nogil=True, error_model="numpy")(function)
    return cast(F, compiled)


def forget_stale(cached: Path, now: str) -> None:
    """Throw away what other sources were compiled to.

    Numba looks only at the file of the function itself: a loop that was inlined from another file would live on in the
    cache after that file has changed, and a type that has gone would be an error.

    Args:
        cached: Where numba keeps the machine code of one folder of sources.
        now: :func:`sources` of that folder.
    """
    stamp = cached / "alrsim.sources"
    with suppress(OSError):  # a folder that cannot be written to is numba's to report
        if stamp.exists() and stamp.read_text(encoding="ascii") == now:
            return
        for index in cached.glob("*.nbi"):
            index.unlink(missing_ok=True)
        stamp.write_text(now, encoding="ascii")


@cache
def sources(folder: Path) -> str:
    """A digest of the names, sizes and times of a folder's files: loops use loops and types of their folder only."""
    files = sorted((path.name, path.stat()) for path in folder.glob("*.py"))
    return sha256(repr([(name, at.st_size, at.st_mtime_ns) for name, at in files]).encode()).hexdigest()


@cache
def available() -> bool:
    """Whether loops can be compiled; where not, that is said once, and slower code gives the same results."""
    found = find_spec("numba") is not None
    if not found:
        warn("numba is not installed: plain Python runs large schedules, slower")
    return found
