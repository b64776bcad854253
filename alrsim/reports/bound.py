"""What cannot be beaten, beside a makespan: the `bound` of every JSON and the line under every table."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

from alrsim.schedule.proof import FREEDOM_NAMES, Freedom, Gap


@dataclass(frozen=True)
class Bound:
    """What a makespan cannot be below. Times in ns, or in the unit of the durations.

    Attributes:
        this_placement: Lower bound with the placement of the schedule, the order alone being open.
        gap: makespan / this_placement - 1.
        any_placement: Lower bound over all placements.
        gap_any_placement: makespan / any_placement - 1.
        status: Of an exact solver, if one ran: ``OPTIMAL`` or ``FEASIBLE``.
        freedom: What that solver could change.
    """

    this_placement: int | float
    gap: float
    any_placement: int | float
    gap_any_placement: float
    status: str
    freedom: str


def bound_of(found: Gap, ticks_per_unit: int = 1) -> Bound:
    """A gap with times in ns, or in the typed unit where ``ticks_per_unit`` is given."""

    def time(ticks: int) -> int | float:
        return ticks if ticks_per_unit == 1 else float(Fraction(ticks, ticks_per_unit))

    return Bound(
        time(found.bound), float(found.gap), time(found.any_bound), float(found.any_gap), found.status, found.freedom
    )


def bound_line(found: Bound, time: Callable[[float], str]) -> str:
    """One line for people: ``OPTIMAL (this placement); lower bound 15, gap 0.0 % (any placement: 11, 36.4 %)``.

    Args:
        time: A time as text.
    """
    here, anywhere = (f"{100 * value:.1f} %" for value in (found.gap, found.gap_any_placement))
    word = f"{status_words(found)}; " if found.status else ""
    return (
        f"{word}lower bound {time(found.this_placement)}, gap {here} "
        f"(any placement: {time(found.any_placement)}, gap {anywhere})"
    )


def status_words(found: Bound) -> str:
    """``OPTIMAL (this placement)``, or a dash where no exact solver ran."""
    if not found.status:
        return "-"
    return f"{found.status} ({FREEDOM_NAMES[cast(Freedom, found.freedom)]})"
