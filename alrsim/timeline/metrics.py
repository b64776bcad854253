"""Numbers of a timeline, each a small function, all exact (integers of ticks, or fractions).

Notation: T is the makespan, N the number of units, busy(u) the ticks in which unit u runs some task (a fused pair
counts once), work the sum of busy(u), span(u) the ticks from the start of u's first task to the end of its last.
Every share of an empty timeline (T = 0) is 0.
"""

from fractions import Fraction

from alrsim.errors import OptionError
from alrsim.timeline.timeline import Timeline
from alrsim.units import Ns


def busy(timeline: Timeline) -> dict[str, Ns]:
    """busy(u): ticks in which each unit runs a task. Overlapping spans (a fused pair) count once."""
    if timeline.occupancy is not None:
        return dict(zip(timeline.units, timeline.occupancy.busy, strict=True))
    total = dict.fromkeys(timeline.units, 0)
    until = dict.fromkeys(timeline.units, 0)
    for span in timeline.spans:  # sorted by start
        new = span.end - max(span.start, until[span.unit])
        if new > 0:
            total[span.unit] += new
            until[span.unit] = span.end
    return total


def work(timeline: Timeline) -> Ns:
    """Sum of busy(u) over the units."""
    return sum(busy(timeline).values())


def spans_of_units(timeline: Timeline) -> dict[str, Ns]:
    """span(u): ticks from the first start to the last end of each unit; 0 for a unit without tasks."""
    if timeline.occupancy is not None:
        return dict(zip(timeline.units, timeline.occupancy.extent, strict=True))
    first: dict[str, Ns] = {}
    last: dict[str, Ns] = {}
    for span in timeline.spans:
        first.setdefault(span.unit, span.start)
        last[span.unit] = max(last.get(span.unit, 0), span.end)
    return {unit: last[unit] - first[unit] if unit in first else 0 for unit in timeline.units}


def idle_fraction(timeline: Timeline) -> Fraction:
    """``1 - work / (N T)``."""
    return 1 - _share(work(timeline), len(timeline.units) * timeline.makespan, default=1)


def overhead_ratio(timeline: Timeline) -> Fraction:
    """``(T - ideal) / ideal`` with ``ideal = work / N``: how much longer than a perfectly packed step."""
    total = work(timeline)
    return _share(timeline.makespan * len(timeline.units) - total, total)


def bubble_size(timeline: Timeline) -> dict[str, Ns]:
    """``T - busy(u)``: idle ticks of each unit over the whole step."""
    return {unit: timeline.makespan - ticks for unit, ticks in busy(timeline).items()}


def rank_span(timeline: Timeline) -> Ns:
    """``max over u of span(u)``: the cost of a schedule in the zero-bubble papers (arXiv 2401.10241).

    It forgives units that start late and end early by the same amount: with the optimizer step no barrier, the
    next step fills those ends, so ZB-V at equal F, I and W costs 2 m t although its makespan is p - 1 longer.
    """
    return max(spans_of_units(timeline).values(), default=0)


def rank_span_bubble(timeline: Timeline) -> Fraction:
    """``1 - work / (N rank_span)``: the zero-bubble papers' bubble rate."""
    return 1 - _share(work(timeline), len(timeline.units) * rank_span(timeline), default=1)


def internal_idle(timeline: Timeline) -> Fraction:
    """``sum(span(u) - busy(u)) / sum(span(u))``: idle share between the first and the last task of each unit."""
    total = sum(spans_of_units(timeline).values())
    return _share(total - work(timeline), total)


def grid_idle(timeline: Timeline) -> Fraction:
    """Idle cells of the layer rows over all cells of the grid, the loss row included: ``sum over layer units of
    (T - busy(u)) / (N T)``. The count behind the 24 % of the ALR paper's Figure 2 (arXiv 2403.12320); it mixes two
    sets of rows, so it is a convention, not the idle share."""
    bubbles = bubble_size(timeline)
    idle = sum(bubbles[unit] for unit in _layer_units(timeline))
    return _share(idle, len(timeline.units) * timeline.makespan)


def layer_rows_idle(timeline: Timeline) -> Fraction:
    """Idle share of the units that run at least one layer: ``sum of (T - busy(u)) / (layer units x T)``."""
    units, bubbles = _layer_units(timeline), bubble_size(timeline)
    return _share(sum(bubbles[unit] for unit in units), len(units) * timeline.makespan)


def speedup(first: Timeline, other: Timeline) -> Fraction:
    """Makespan of ``first`` over makespan of ``other``.

    Raises:
        OptionError: if the two count time in different units, or ``other`` takes no time.
    """
    if first.time_unit != other.time_unit:
        raise OptionError(f"cannot compare times in {first.time_unit} with times in {other.time_unit}")
    if not other.makespan:
        raise OptionError("a step that takes no time has no speed-up", fix="give at least one task a duration")
    return Fraction(first.makespan * other.ticks_per_unit, other.makespan * first.ticks_per_unit)


def named_shares(timeline: Timeline) -> dict[str, Fraction]:
    """Every bubble that is a share, by the name under which reports print it."""
    return {
        "idle_fraction": idle_fraction(timeline),
        "overhead_ratio": overhead_ratio(timeline),
        "rank_span_bubble": rank_span_bubble(timeline),
        "internal_idle": internal_idle(timeline),
        "grid_idle": grid_idle(timeline),
        "layer_rows_idle": layer_rows_idle(timeline),
    }


def typed(timeline: Timeline, ticks: int) -> Fraction:
    """Ticks in the timeline's own time unit (ns, or what the user typed)."""
    return Fraction(ticks, timeline.ticks_per_unit)


def _layer_units(timeline: Timeline) -> tuple[str, ...]:
    return timeline.layer_units or timeline.units


def _share(part: int, whole: int, default: int = 0) -> Fraction:
    return Fraction(part, whole) if whole else Fraction(default)
