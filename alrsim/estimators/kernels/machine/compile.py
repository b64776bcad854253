"""How a loop becomes machine code, and how it is spread over threads.

Threads are Python's own, because compiled loops let go of the interpreter. Numba's ``prange`` is not used: its default
threading layer ends the process when two executor workers enter it at once, and its launch costs milliseconds.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, TypeVar, cast

from numba import njit

STEPS_PER_THREAD = 1 << 18
"""Vector operations that take about as long as starting a thread."""

F = TypeVar("F", bound=Callable[..., object])


def machine_code(function: F) -> F:
    """Compile at the first call; keep the result on disk where a cache folder is writable, else in memory."""
    build: Any = njit
    try:
        compiled = build(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # numba finds no folder that it may write its cache to
        compiled = build(nogil=True, error_model="numpy")(function)
    return cast(F, compiled)


def split(count: int, threads: int) -> list[tuple[int, int]]:
    """``range(count)`` in at most ``threads`` runs of nearly equal length; empty runs are left out."""
    parts = max(1, min(threads, count))
    bounds = [count * part // parts for part in range(parts + 1)]
    return [(low, high) for low, high in pairwise(bounds) if high > low]


def spread(body: Callable[[int, int], None], count: int, threads: int, work: int | None = None) -> None:
    """Call ``body(low, high)`` over ``range(count)``, in this thread if there is one run only.

    Args:
        work: Elementary steps in all, where that is known: too few do not pay for a thread.
    """
    runs = split(count, threads if work is None else min(threads, work // STEPS_PER_THREAD))
    if len(runs) <= 1:
        for low, high in runs:
            body(low, high)
        return
    with ThreadPoolExecutor(len(runs)) as pool:
        for waiting in [pool.submit(body, low, high) for low, high in runs]:
            waiting.result()
