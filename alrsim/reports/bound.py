"""What cannot be beaten, beside a makespan: the `bound` of every JSON and the line under every table."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from alrsim.schedule.proof import FREEDOM_NAMES, Gap


def bound_document(found: Gap, ticks_per_unit: int = 1) -> dict[str, Any]:
    """A gap as JSON; times in ticks, or in the typed unit where ``ticks_per_unit`` is given."""

    def time(ticks: int) -> int | float:
        return ticks if ticks_per_unit == 1 else float(Fraction(ticks, ticks_per_unit))

    return {
        "this_placement": time(found.bound),
        "gap": float(found.gap),
        "any_placement": time(found.any_bound),
        "gap_any_placement": float(found.any_gap),
        "status": found.status,
        "freedom": found.freedom,
    }


def bound_line(found: Gap, time: Callable[[int], str]) -> str:
    """One line for people: ``OPTIMAL (this placement); lower bound 15, gap 0.0 % (any placement: 11, 36.4 %)``.

    Args:
        time: Ticks as text.
    """
    here, anywhere = (f"{100 * float(value):.1f} %" for value in (found.gap, found.any_gap))
    word = f"{status_words(found)}; " if found.status else ""
    return f"{word}lower bound {time(found.bound)}, gap {here} (any placement: {time(found.any_bound)}, gap {anywhere})"


def status_words(found: Gap) -> str:
    """``OPTIMAL (this placement)``, or a dash where no exact solver ran."""
    return f"{found.status} ({FREEDOM_NAMES[found.freedom]})" if found.status else "-"
