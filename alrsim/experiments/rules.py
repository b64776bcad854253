"""Verdicts: pure functions of the paper's figure and of what was measured. Nothing here is written by hand."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any, Literal

Verdict = Literal["reproduced", "exceeded", "not reproduced", "not testable here", "failed"]
RuleKind = Literal["equals", "at-least", "at-most", "ordering", "contains"]

VERDICTS: tuple[Verdict, ...] = ("reproduced", "exceeded", "not reproduced", "not testable here", "failed")


@dataclass(frozen=True)
class Measured:
    """A measured quantity.

    Attributes:
        value: In the claim's unit.
        low: End of the 95 % interval; ``None`` where nothing is random, or for a single repetition.
        how: The setup in one line.
        reason: What measured numbers say about a miss; empty where there is nothing to explain.
        detail: Further numbers, JSON.
        sound: False where the measurement was disturbed: its verdict is then never final.

    Raises:
        ValueError: a number that is not finite.
    """

    value: float
    low: float | None
    high: float | None
    how: str
    reason: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    sound: bool = True

    @classmethod
    def mean(
        cls,
        values: Any,
        how: str,
        reason: str = "",
        detail: Mapping[str, Any] | None = None,
        sound: bool = True,
    ) -> "Measured":
        """The mean of an array over draws or seeds, with its interval; the other arguments are the fields."""
        from alrsim.quality.metrics import mean_interval

        band = mean_interval(values)
        return cls(band.value, band.low, band.high, how, reason, detail or {}, sound)

    def __post_init__(self) -> None:
        for number in (self.value, self.low, self.high):
            if number is not None and not isfinite(number):
                raise ValueError(f"measured {number}, which is no number to judge ({self.how})")


@dataclass(frozen=True)
class Outcome:
    """A verdict.

    Attributes:
        decided: False where the interval holds both answers: a finer measurement may change the verdict.
        why: The arithmetic behind it.
    """

    verdict: Verdict
    decided: bool
    why: str


@dataclass(frozen=True)
class Rule:
    """When a claim counts as reproduced.

    ``equals``: value within the margin. ``at-least``: value not below figure - margin; exceeded where the whole
    interval is above figure + margin. ``at-most``: the same downwards. ``ordering``: the whole 95 % interval has the
    sign of the figure (+ without a figure). ``contains``: the interval holds the figure and is no wider than the margin
    to each side.

    Attributes:
        absolute: Margin in the claim's unit.
        relative: Margin as a share of the figure; both add up.
    """

    kind: RuleKind
    absolute: float = 0.0
    relative: float = 0.0

    def margin(self, figure: float) -> float:
        return self.absolute + self.relative * abs(figure)

    def describe(self, figure: float | None) -> str:
        """The rule in words, with its numbers."""
        if self.kind == "ordering":
            return "whole 95 % interval below 0" if figure is not None and figure < 0 else "whole 95 % interval above 0"
        assert figure is not None
        margin = self.margin(figure)
        return {
            "equals": f"within {figure:g} ± {margin:.3g}",
            "at-least": f"at least {figure - margin:.4g}; exceeded: interval above {figure + margin:.4g}",
            "at-most": f"at most {figure + margin:.4g}; exceeded: interval below {figure - margin:.4g}",
            "contains": f"interval holds {figure:g}, half as wide as {margin:.3g} at most",
        }[self.kind]

    def judge(self, figure: float | None, measured: Measured) -> Outcome:
        """The verdict."""
        found = JUDGES[self.kind](self, 0.0 if figure is None else figure, measured)
        return found if measured.sound else replace(found, decided=False)


def _equals(rule: Rule, figure: float, measured: Measured) -> Outcome:
    margin, gap = rule.margin(figure), abs(measured.value - figure)
    if gap <= margin * (1 + 1e-9):
        return Outcome("reproduced", True, f"differs by {gap:.3g}, allowed {margin:.3g}")
    near = _nearest(measured, figure)
    return Outcome("not reproduced", abs(near - figure) > margin, f"differs by {gap:.3g}, allowed {margin:.3g}")


def _nearest(measured: Measured, figure: float) -> float:
    """The value of the interval that is nearest to the figure."""
    low, high = _ends(measured)
    return min(max(figure, low), high)


def _ends(measured: Measured) -> tuple[float, float]:
    low = measured.value if measured.low is None else measured.low
    high = measured.value if measured.high is None else measured.high
    return low, high


def _at_least(rule: Rule, figure: float, measured: Measured) -> Outcome:
    return _beyond(rule.margin(figure), figure, measured.value, _ends(measured), ("above", "below"))


def _at_most(rule: Rule, figure: float, measured: Measured) -> Outcome:
    low, high = _ends(measured)
    return _beyond(rule.margin(figure), -figure, -measured.value, (-high, -low), ("below", "above"))


def _beyond(margin: float, figure: float, value: float, ends: tuple[float, float], words: tuple[str, str]) -> Outcome:
    """Larger is better."""
    if ends[0] > figure + margin:
        return Outcome("exceeded", True, f"whole interval {words[0]} {abs(figure + margin):.4g}")
    if value >= figure - margin:
        return Outcome("reproduced", True, f"not {words[1]} {abs(figure - margin):.4g}")
    decided = ends[1] < figure - margin
    more = "" if decided else ", but the interval reaches it"
    return Outcome("not reproduced", decided, f"{words[1]} {abs(figure - margin):.4g}{more}")


def _ordering(_rule: Rule, figure: float, measured: Measured) -> Outcome:
    sign = -1.0 if figure < 0 else 1.0
    if measured.low is None or measured.high is None:
        return Outcome("not reproduced", False, "one repetition has no interval")
    low, high = sorted((sign * measured.low, sign * measured.high))
    if low > 0:
        return Outcome("reproduced", True, "the order holds throughout the interval")
    if high < 0:
        return Outcome("not reproduced", True, "the opposite order holds throughout the interval")
    return Outcome("not reproduced", False, "the interval holds 0: neither order is shown")


def _contains(rule: Rule, figure: float, measured: Measured) -> Outcome:
    low, high = _ends(measured)
    half, margin = (high - low) / 2, rule.margin(figure)
    if not low <= figure <= high:
        return Outcome("not reproduced", True, f"{figure:g} lies outside [{low:.3g}, {high:.3g}]")
    if half > margin:
        return Outcome("not reproduced", False, f"interval half as wide as {half:.2g}, allowed {margin:.2g}")
    return Outcome("reproduced", True, f"{figure:g} lies in [{low:.3g}, {high:.3g}]")


JUDGES: Mapping[RuleKind, Callable[[Rule, float, Measured], Outcome]] = {
    "equals": _equals,
    "at-least": _at_least,
    "at-most": _at_most,
    "ordering": _ordering,
    "contains": _contains,
}
