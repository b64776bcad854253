"""How the work of a compiled loop is spread over threads.

Threads are Python's own, because compiled loops let go of the interpreter. Numba's ``prange`` is not used: its default
threading layer ends the process when two executor workers enter it at once, and its launch costs milliseconds.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache, partial
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

STEPS_PER_THREAD = 1 << 17
"""Vector operations that take about as long as waking a thread."""

LINE = 64
"""Bytes of a line of the cache, and of the longest vector."""


def aligned(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Zeros that begin with a line of the cache: a vector that lies across two lines is two loads."""
    size = prod(shape) * np.dtype(dtype).itemsize
    held = np.zeros(size + LINE, dtype=np.uint8)
    skip = -held.ctypes.data % LINE
    return held[skip : skip + size].view(dtype).reshape(shape)


def split(count: int, threads: int) -> list[tuple[int, int]]:
    """``range(count)`` in at most ``threads`` runs of nearly equal length; empty runs are left out."""
    parts = max(1, min(threads, count))
    bounds = [count * part // parts for part in range(parts + 1)]
    return [(low, high) for low, high in pairwise(bounds) if high > low]


def spread(body: Callable[[int, int], None], count: int, threads: int, work: int | None = None) -> None:
    """Call ``body(low, high)`` over ``range(count)``, one run per thread; the runs do not depend on who takes them.

    Args:
        work: Elementary steps in all, where that is known: too few do not pay for a thread.
    """
    run_all([partial(body, *run) for run in split(count, _worth(threads, work))], threads)


def run_all(jobs: Sequence[Callable[[], None]], threads: int, work: int | None = None) -> None:
    """Run jobs on this thread and up to ``threads - 1`` helpers; each takes the next that nobody has taken.

    This thread works too: a caller that only waits is often put to sleep on the core that its helper then starts on,
    and the other core stays idle. Helpers stay alive, because starting a thread costs as much as a small product.
    """
    left = iter(jobs)

    def take() -> None:
        for job in left:
            job()

    helpers = min(_worth(threads, work), len(jobs)) - 1
    waiting = [_pool(os.getpid()).submit(take) for _ in range(helpers)]
    try:
        take()
    finally:
        # Helpers that have not begun find nothing to do; only the others are waited for.
        begun = [future for future in waiting if not future.cancel()]
        wait(begun)
    for future in begun:
        future.result()


def _worth(threads: int, work: int | None) -> int:
    return threads if work is None else max(1, min(threads, work // STEPS_PER_THREAD))


@lru_cache(maxsize=1)
def _pool(_process: int) -> ThreadPoolExecutor:
    """The helpers of this process: a forked process has none of its parent's threads."""
    return ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1), thread_name_prefix="alrsim-kernel")
