"""Progress of long work: what is done tells whoever listens, and nobody where nobody does.

A verb sets a listener with :func:`reporting`; the work inside walks a :func:`stretch` and tells each of its steps.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

Advance = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a stretch of work stands.

    Attributes:
        title: Of the stretch: ``calibrate``.
        step: What begins now: ``bp:1f1b``; empty when the stretch is done.
        done: Steps that are done.
        total: Steps of the stretch.
    """

    title: str
    step: str
    done: int
    total: int


Listener = Callable[[Progress], None]

_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def reporting(listener: Listener | None) -> Iterator[None]:
    """While this lasts, ``listener`` hears of progress; ``None`` leaves it to whoever listens already."""
    if listener is None:
        yield
        return
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


@contextmanager
def stretch(total: int, title: str) -> Iterator[Advance]:
    """A stretch of ``total`` steps; call what it gives at the beginning of each step, with its name."""
    listener = _LISTENER.get()
    begun = 0

    def advance(step: str) -> None:
        nonlocal begun
        if listener is not None:
            listener(Progress(title, step, begun, total))
        begun += 1

    yield advance
    if listener is not None:
        listener(Progress(title, "", total, total))
