"""What was measured may differ between the ranks of one program; what they decide from it must not."""

from collections.abc import Callable
from typing import Any

_RANKS: list[Callable[[Any], Any]] = []


def same_on_all_ranks(value: Any) -> Any:
    """Rank 0's value, for everything that was measured and decides something: plain JSON.

    All ranks must ask at the same point. In a program without ranks it is the value itself.
    """
    return _RANKS[0](value) if _RANKS else value


def agree_through(ask: Callable[[Any], Any] | None) -> None:
    """From now on there are ranks, who agree through ``ask``; ``None``: no longer."""
    _RANKS[:] = [] if ask is None else [ask]
