"""Quantities: integer nanoseconds and bytes inside, words for people outside, exact rationals for textbooks."""

from collections.abc import Iterable
from fractions import Fraction
from math import lcm

from alrsim.errors import OptionError

Ns = int
Bytes = int

_BYTE_STEPS = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("KB", 10**3))
_TIME_STEPS = (("s", 10**9), ("ms", 10**6), ("us", 10**3))


def format_bytes(count: int | float) -> str:
    """``1500000`` -> ``'1.50 MB'`` (decimal steps, as the datasheets use)."""
    for suffix, size in _BYTE_STEPS:
        if abs(count) >= size:
            return f"{count / size:.2f} {suffix}"
    return f"{count:.0f} B"


def format_ns(time: int | float) -> str:
    """``1500000`` -> ``'1.50 ms'``."""
    for suffix, size in _TIME_STEPS:
        if abs(time) >= size:
            return f"{time / size:.2f} {suffix}"
    return f"{time:.0f} ns"


def format_count(count: int | float) -> str:
    """``1500000`` -> ``'1.50 M'``."""
    for suffix, size in (("P", 10**15), ("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if abs(count) >= size:
            return f"{count / size:.2f} {suffix}"
    return f"{count:.0f}"


def parse_rational(text: str, *, where: str) -> Fraction:
    """A plain non-negative number such as ``2``, ``0.25`` or ``1/3``, exactly.

    Raises:
        OptionError: if it is not a finite number, or is negative.
    """
    try:
        value = Fraction(text.strip())
    except (ValueError, ZeroDivisionError):
        raise OptionError(
            f"{text!r} is not a number", where=where, fix="write a plain number such as 2, 0.25 or 1/3"
        ) from None
    if value < 0:
        raise OptionError(f"{text!r} is negative", where=where, fix="times cannot be negative")
    return value


def common_denominator(values: Iterable[Fraction]) -> int:
    """The smallest integer that makes every value an integer when multiplied by it."""
    return lcm(1, *(value.denominator for value in values))
