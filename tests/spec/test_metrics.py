"""Every metric on a timeline small enough to count by hand, and comparisons."""

from dataclasses import replace
from fractions import Fraction

import pytest

from alrsim.errors import OptionError, ScheduleError
from alrsim.tasks.token import parse_token
from alrsim.timeline import metrics
from alrsim.timeline.comparison import Comparison, Residual
from alrsim.timeline.timeline import Span, Timeline

# u0: 0-4 and 6-8 (busy 6 of 8); u1: 3-6 (busy 3); u2, the loss unit: 7-10 (busy 3). T = 10.
SPANS = (
    Span(parse_token("0F0"), "u0", 0, 4),
    Span(parse_token("1F0"), "u1", 3, 6),
    Span(parse_token("0B0"), "u0", 6, 8),
    Span(parse_token("2L0"), "u2", 7, 10),
)
TIMELINE = Timeline("simulated", "d", ("u0", "u1", "u2"), SPANS, layer_units=("u0", "u1"))
EMPTY = Timeline("simulated", "d", ("u0",), ())


def test_every_named_bubble_of_a_timeline_counted_by_hand() -> None:
    assert metrics.work(TIMELINE) == 12
    assert metrics.named_shares(TIMELINE) == {
        "idle_fraction": Fraction(18, 30),
        "overhead_ratio": Fraction(10 - 4, 4),
        "rank_span_bubble": 1 - Fraction(12, 3 * 8),
        "internal_idle": Fraction(2, 8 + 3 + 3),
        "grid_idle": Fraction(4 + 7, 30),
        "layer_rows_idle": Fraction(4 + 7, 20),
    }
    assert metrics.bubble_size(TIMELINE) == {"u0": 4, "u1": 7, "u2": 7}
    assert metrics.rank_span(TIMELINE) == 8


def test_a_fused_pair_is_busy_once() -> None:
    pair = (Span(parse_token("0F3"), "u0", 2, 8), Span(parse_token("3B1"), "u0", 2, 8))
    assert metrics.busy(Timeline("simulated", "d", ("u0",), pair)) == {"u0": 6}


def test_an_empty_timeline_has_no_idle_time() -> None:
    assert set(metrics.named_shares(EMPTY).values()) == {Fraction(0)}


def test_speedup_compares_typed_time_not_ticks() -> None:
    finer = replace(TIMELINE, ticks_per_unit=4)
    assert metrics.speedup(TIMELINE, finer) == 4
    assert metrics.typed(finer, finer.makespan) == Fraction(5, 2)


def test_speedup_over_nothing_or_over_another_unit_of_time_is_refused() -> None:
    with pytest.raises(OptionError, match="takes no time"):
        metrics.speedup(TIMELINE, EMPTY)
    with pytest.raises(OptionError, match="cannot compare times in ns with times in user"):
        metrics.speedup(TIMELINE, replace(TIMELINE, time_unit="user"))


def measured(stretch: int = 2, **changes: object) -> Timeline:
    spans = tuple(Span(s.task, s.unit, s.start * stretch, s.end * stretch) for s in SPANS)
    return replace(TIMELINE, source="measured", spans=spans, **changes)  # type: ignore[arg-type]


def test_a_comparison_tells_the_error_of_the_makespan_and_of_each_kind() -> None:
    comparison = Comparison(TIMELINE, measured())
    assert comparison.makespan_error == Fraction(-1, 2)
    assert comparison.by_kind == {"F": Residual(2, 7, 14), "B": Residual(1, 2, 4), "L": Residual(1, 3, 6)}
    assert comparison.by_kind["F"].error == Fraction(-1, 2)


def test_two_different_schedules_are_never_compared() -> None:
    with pytest.raises(ScheduleError, match="different schedules"):
        Comparison(TIMELINE, measured(schedule_digest="other"))


def test_a_comparison_needs_one_prediction_and_one_measurement() -> None:
    with pytest.raises(OptionError, match="a simulated and a measured timeline"):
        Comparison(TIMELINE, TIMELINE)
    with pytest.raises(OptionError, match="counts in user"):
        Comparison(replace(TIMELINE, time_unit="user"), measured())
