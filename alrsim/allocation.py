"""Passes that only allocate, memory that torch does not see, and whether this host has enough of it.

The cyclic collector would walk the growing lists of a pass that only allocates again and again: not linear.
"""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

_LISTENERS: list[Callable[[int], None]] = []


@contextmanager
def collector_paused() -> Iterator[None]:
    """No cyclic garbage collection inside; use as a context or, called, as a decorator. Nests."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def beside(size: int) -> None:
    """Say that ``size`` bytes are held at this moment that no torch operator made (numpy's own arrays)."""
    for listener in _LISTENERS:
        listener(size)


@contextmanager
def listening(listener: Callable[[int], None]) -> Iterator[None]:
    """Hear every :func:`beside` inside."""
    _LISTENERS.append(listener)
    try:
        yield
    finally:
        _LISTENERS.remove(listener)


@cache
def host_memory() -> int:
    """Bytes that programs of this host may have together: what is built in, or what their container may take. Looked up
    once, since every training step asks."""
    if not hasattr(os, "sysconf"):  # on Windows, which promises no more memory than it has
        return sys.maxsize
    built_in = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):
        return min(built_in, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return built_in


def require_memory(size: int) -> None:
    """Refuse what cannot fit before it is tried: Linux promises memory that it does not have, and kills later.

    Raises:
        MemoryError: ``size`` bytes are more than the host has.
    """
    if size > host_memory():
        raise MemoryError(f"{size:,} bytes are needed, the host has {host_memory():,}")
