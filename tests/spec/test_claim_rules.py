"""Verdicts are pure functions of the paper's figure and the measured interval."""

import pytest

from alrsim.experiments.rules import Measured, Rule


def measured(value: float, low: float | None = None, high: float | None = None) -> Measured:
    return Measured(value, low, high, "setup")


def verdict(rule: Rule, figure: float | None, *numbers: float) -> tuple[str, bool]:
    found = rule.judge(figure, measured(*numbers))
    return found.verdict, found.decided


def test_equals_allows_the_margin_and_no_more() -> None:
    rule = Rule("equals", absolute=0.1, relative=0.1)
    assert rule.margin(-2.0) == pytest.approx(0.3)
    assert verdict(rule, 2.0, 2.3) == ("reproduced", True)
    assert verdict(rule, 2.0, 2.31) == ("not reproduced", True)
    assert verdict(rule, 2.0, 2.4, 2.2, 2.6) == ("not reproduced", False), "the interval reaches the margin"
    assert verdict(rule, 2.0, 2.9, 2.5, 3.3) == ("not reproduced", True)


def test_at_least_is_exceeded_only_if_the_whole_interval_is_above() -> None:
    rule = Rule("at-least", relative=0.05)
    assert verdict(rule, 2.0, 2.05, 1.9, 2.2) == ("reproduced", True)
    assert verdict(rule, 2.0, 1.91, 1.5, 2.3) == ("reproduced", True), "not below 1.9"
    assert verdict(rule, 2.0, 2.6, 2.05, 3.0) == ("reproduced", True), "2.05 is not above 2.1"
    assert verdict(rule, 2.0, 2.6, 2.11, 3.0) == ("exceeded", True)
    assert verdict(rule, 2.0, 1.8, 1.7, 1.95) == ("not reproduced", False)
    assert verdict(rule, 2.0, 1.8, 1.7, 1.89) == ("not reproduced", True)
    assert verdict(rule, 2.0, 32.0) == ("exceeded", True), "an exact count needs no interval"


def test_at_most_is_at_least_upside_down() -> None:
    rule = Rule("at-most", absolute=0.02)
    assert verdict(rule, 0.03, 0.05, 0.04, 0.06) == ("reproduced", True)
    assert verdict(rule, 0.03, 0.0, -0.01, 0.005) == ("exceeded", True)
    assert verdict(rule, 0.03, 0.09, 0.04, 0.14) == ("not reproduced", False)
    assert verdict(rule, 0.03, 0.09, 0.06, 0.12) == ("not reproduced", True)


def test_an_ordering_needs_the_whole_interval_on_one_side() -> None:
    rule = Rule("ordering")
    assert verdict(rule, None, 1.0, 0.1, 1.9) == ("reproduced", True)
    assert verdict(rule, 20.7, -1.0, -1.9, -0.1) == ("not reproduced", True)
    assert verdict(rule, 20.7, 1.0, -0.1, 2.1) == ("not reproduced", False)
    assert verdict(rule, -2.5, -1.0, -1.9, -0.1) == ("reproduced", True), "the paper has the second in front"
    assert verdict(rule, -2.5, 1.0, 0.1, 1.9) == ("not reproduced", True)
    assert verdict(rule, 1.0, 5.0) == ("not reproduced", False), "one repetition shows no order"


def test_an_interval_that_holds_everything_proves_nothing() -> None:
    rule = Rule("contains", absolute=0.05)
    assert verdict(rule, 1.0, 1.01, 0.98, 1.04) == ("reproduced", True)
    assert verdict(rule, 1.0, 1.2, 0.7, 1.7) == ("not reproduced", False)
    assert verdict(rule, 1.0, 1.2, 1.1, 1.3) == ("not reproduced", True)


def test_a_disturbed_measurement_decides_nothing() -> None:
    found = Rule("at-least").judge(1.0, Measured(2.0, 1.5, 2.5, "busy host", sound=False))
    assert (found.verdict, found.decided) == ("exceeded", False)


def test_what_is_no_number_is_never_judged() -> None:
    for wrong in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="no number"):
            measured(wrong)
        with pytest.raises(ValueError, match="no number"):
            measured(1.0, wrong, 2.0)


def test_rules_say_what_they_do() -> None:
    assert Rule("at-least", relative=0.05).describe(2.0) == "at least 1.9; exceeded: interval above 2.1"
    assert Rule("at-most", absolute=1.0).describe(0.3) == "at most 1.3; exceeded: interval below -0.7"
    assert Rule("equals", absolute=0.1).describe(0.36) == "within 0.36 ± 0.1"
    assert "above 0" in Rule("ordering").describe(None)
    assert "below 0" in Rule("ordering").describe(-1.0)
