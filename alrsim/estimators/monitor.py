"""The split-half monitor: how good an estimated gradient is, without the true one.

Two estimates with independent noise, each from half of the copies, have the true gradient as their common part, so that
``E <g1, g2> = |g_true|^2`` for an unbiased method, while their mean g has ``E |g|^2 = |g_true|^2 + variance``. Hence
``cos(g, g_true)^2 ~ <g1, g2> / |g|^2``. Nothing is wasted: the mean of the halves is the estimate from all copies.
A biased method (signs) is judged by its own expectation instead of the gradient.
"""

from dataclasses import dataclass
from math import sqrt

from alrsim.estimators import variance_law
from alrsim.estimators.variance_law import noise_to_signal

MARGIN = 0.75
"""Copies are halved only where the law says that half of them still hold the target with this much to spare."""


@dataclass(frozen=True, slots=True)
class SplitHalf:
    """Inner products of the two halves' gradients.

    Attributes:
        product: ``<g1, g2>``.
        first: ``|g1|^2``.
        second: ``|g2|^2``.
    """

    product: float
    first: float
    second: float

    def __add__(self, other: "SplitHalf") -> "SplitHalf":
        return SplitHalf(self.product + other.product, self.first + other.first, self.second + other.second)

    @property
    def cosine(self) -> float:
        """Estimated cosine of the mean of the halves with the true gradient; 0 where the halves disagree."""
        mean = (self.first + self.second + 2 * self.product) / 4
        return sqrt(min(1.0, max(0.0, self.product) / mean)) if mean > 0 else 0.0

    def scaled(self, factor: float) -> "SplitHalf":
        return SplitHalf(self.product * factor, self.first * factor, self.second * factor)


MEASUREMENTS = 3
"""Measurements that a decision needs: at low cosines one of them scatters by more than its value."""

NOTHING = SplitHalf(0.0, 0.0, 0.0)


def smoothed(before: SplitHalf, now: SplitHalf, keep: float = 0.7) -> SplitHalf:
    """A running mean of inner products: the ratio of means scatters less than the mean of ratios."""
    return now if before == NOTHING else before.scaled(keep) + now.scaled(1 - keep)


def steer(cosine: float, copies: int, target: float, least: int, most: int) -> int:
    """The number of copies to go on with: doubled, halved, or as it is.

    Doubled while the cosine is below the target. Halved where the law says that half of the copies would hold the
    target with room to spare, so that it does not swing to and fro.
    """
    if cosine < target:
        return min(most, 2 * copies)
    half = copies // 2
    after = variance_law.cosine(noise_to_signal(cosine, copies), half) if half else 0.0
    enough = 1 - MARGIN * (1 - target)
    return half if after >= enough and half >= least and half % 2 == 0 else copies
