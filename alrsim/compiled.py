"""Loops in machine code: the one place that imports numba, which is optional and loaded when a loop is first needed."""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
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
    except RuntimeError:  # numba finds no folder that it may write its cache to
        compiled = build(nogil=True, error_model="numpy")(function)
    return cast(F, compiled)


@cache
def available() -> bool:
    """Whether loops can be compiled; where not, that is said once, and slower code gives the same results."""
    found = find_spec("numba") is not None
    if not found:
        warn("numba is not installed: plain Python runs large schedules, slower")
    return found
