"""Passes that only allocate, and memory that torch does not see.

The cyclic collector would walk the growing lists of a pass that only allocates again and again: not linear.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
