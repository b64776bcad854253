"""Quantities: integer nanoseconds and bytes inside, words for people outside, exact rationals for textbooks."""

import re
from collections.abc import Iterable
from fractions import Fraction
from math import lcm

from alrsim.errors import OptionError

Ns = int
Bytes = int

_PLAIN = re.compile(
    r"[0-9]{1,15}(?:\.[0-9]{0,15})?(?:[eE][+-]?(?:[0-9]|1[0-5]))?|\.[0-9]{1,15}|[0-9]{1,15}/[0-9]{1,15}"
)

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
    """A plain non-negative number such as ``2``, ``0.25``, ``1e-3`` or ``1/3``, exactly.

    Raises:
        OptionError: if it is not a plain number, is negative, or is beyond what a schedule can mean: up to 15 digits
            on either side of the point or the stroke, and powers of ten from -15 to 15.
    """
    word = text.strip()
    if word.startswith("-") and _PLAIN.fullmatch(word[1:]):
        raise OptionError(f"{text!r} is negative", where=where, fix="times cannot be negative")
    try:
        value = Fraction(word) if _PLAIN.fullmatch(word) else None
    except ZeroDivisionError:
        value = None
    if value is None:
        raise OptionError(
            f"{text!r} is not a number between 1e-15 and 1e15",
            where=where,
            fix="write a plain number such as 2, 0.25 or 1/3",
        )
    return value


def common_denominator(values: Iterable[Fraction]) -> int:
    """The smallest integer that makes every value an integer when multiplied by it."""
    return lcm(1, *(value.denominator for value in values))
