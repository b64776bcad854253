"""Numbers of gradient quality: cosine, the ALR paper's Acc and Sta, 95 % confidence bands, and a fit of the law.

Arrays are numpy, float64. ``copies`` are ascending numbers of noise draws; ``cosines`` end in the axis of copies.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp, sqrt

import numpy as np

from alrsim.estimators.noise import sign_scale
from alrsim.estimators.policy import NoiseKind
from alrsim.estimators.variance_law import Array, law, noise_share

RESAMPLES = 400

# Student's t, 97.5 % quantile, for 1 to 30 degrees of freedom; beyond, its expansion in 1/df is exact to 3 digits.
# fmt: off
_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)
# fmt: on


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % confidence interval; one draw has none."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Law:
    """``cos(n) = ceiling / sqrt(1 + k * rho / n)``; with orthogonal noise ``1/n`` becomes :func:`noise_share`.

    Attributes:
        rho: Effective noise dimension: variance of one copy's estimate over the squared gradient.
        ceiling: Cosine with infinitely many copies; 1 where nothing is coded.
        k: Variance of the noise as the gradient sees it, over the variance of exact noise.
        order: Orthogonal noise: the number of copies that make the estimate exact; ``None`` for independent copies.
        determined: Whether the data fix rho: an interval within one order of magnitude.
    """

    rho: Interval
    ceiling: Interval
    k: float
    order: int | None = None
    determined: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        low, high = self.rho.low, self.rho.high
        object.__setattr__(self, "determined", low is not None and high is not None and high <= 10 * low)

    def at(self, copies: Array) -> Array:
        """The fitted cosine."""
        return law(copies, self.rho.value, self.ceiling.value, self.k, self.order)


def cosine(estimate: Array, truth: Array) -> float:
    """Cosine of two vectors; an estimate of zero points nowhere and counts as 0."""
    norms = float(np.linalg.norm(estimate) * np.linalg.norm(truth))
    return float(estimate @ truth) / norms if norms else 0.0


def copy_weights(copies: Sequence[int]) -> Array:
    """Weight of each observed number of copies in a mean over the range ``[n1, n2]``; they add up to 1.

    The trapezoidal rule: an observation stands for the numbers of copies around it, so that a list need not be evenly
    spaced. Eq. 7 of the ALR paper divides a sum of n2 - n1 + 1 terms by n2 - n1; here a constant has itself as mean.
    """
    points = np.asarray(copies, dtype=np.float64)
    if len(points) == 1:
        return np.ones(1)
    gaps: Array = np.diff(points)
    weights: Array = np.zeros(len(points))
    weights[:-1] += gaps / 2
    weights[1:] += gaps / 2
    return np.asarray(weights / weights.sum())


def accuracy(copies: Sequence[int], cosines: Array) -> Array:
    """Acc (eq. 7 of the ALR paper): mean cosine over the range of copies, ``(..., N) -> (...)``."""
    return np.asarray(cosines @ copy_weights(copies))


def stability(copies: Sequence[int], cosines: Array) -> Array:
    """Sta (eq. 8 of the ALR paper): root mean square distance from the line that fits ``cos`` over ``n`` best."""
    weights = copy_weights(copies)
    points = np.asarray(copies, dtype=np.float64)
    centred = points - weights @ points
    spread = float(weights @ centred**2)
    level = (cosines @ weights)[..., None]
    slope = (cosines @ (weights * centred))[..., None] / spread if spread else 0.0
    residual = cosines - level - slope * centred
    return np.asarray(np.sqrt(residual**2 @ weights))


def student_t(draws: int) -> float:
    """97.5 % quantile of Student's t with ``draws - 1`` degrees of freedom."""
    freedom = draws - 1
    return _T[freedom - 1] if freedom <= len(_T) else 1.96 + 2.4 / freedom


def mean_interval(values: Array) -> Interval:
    """Mean over draws ``(K,)`` with Student's t interval."""
    value = float(values.mean())
    if len(values) < 2:
        return Interval(value)
    half = student_t(len(values)) * float(values.std(ddof=1)) / sqrt(len(values))
    return Interval(value, value - half, value + half)


def noise_factor(kind: NoiseKind, *, signs: bool) -> float:
    """``k`` of the law: the sign of the noise, scaled by ``1/E|eps|`` to be unbiased, has that factor's square as its
    variance: pi/2 for Gaussian noise, 2 for Laplace's, 1 for noise that is +-1 already."""
    return sign_scale(kind) ** 2 if signs else 1.0


def fit_law(
    copies: Sequence[int],
    cosines: Array,
    *,
    k: float = 1.0,
    free_ceiling: bool = False,
    order: int | None = None,
    seed: int = 0,
) -> Law:
    """Least squares on the mean over draws ``(K, N)``.

    Intervals: the spread of a bootstrap over the draws (of ``log rho`` and of the ceiling) times Student's t; the bare
    percentiles of so few draws are too narrow.

    Args:
        free_ceiling: Fit the ceiling (0..1) too; else it is 1. With every n far below rho only ``ceiling / sqrt(rho)``
            is determined, and the intervals say so.
        order: Of orthogonal noise, see :class:`Law`.
    """
    shares = noise_share(copies, order)
    generator = np.random.default_rng(seed)
    draws = len(cosines)
    means = cosines.mean(0)[None]
    if draws > 1:
        picks = generator.integers(draws, size=(RESAMPLES, draws))
        means = np.concatenate([means, cosines[picks].mean(1)])
    log_rho, ceiling = _least_squares(shares, means, k, free_ceiling)
    low, high = _bootstrap(log_rho, draws)
    rho = Interval(exp(log_rho[0]), None if low is None else exp(low), None if high is None else exp(high))
    if not free_ceiling:
        return Law(rho, Interval(1.0), k, order)
    low, high = _bootstrap(ceiling, draws)
    cut = (None, None) if low is None or high is None else (max(0.0, low), min(1.0, high))
    return Law(rho, Interval(float(ceiling[0]), *cut), k, order)


def _bootstrap(values: Array, draws: int) -> tuple[float | None, float | None]:
    """Interval around the first value from its resamples, the others."""
    if draws < 2:
        return None, None
    half = student_t(draws) * float(values[1:].std()) * sqrt(draws / (draws - 1))
    return float(values[0]) - half, float(values[0]) + half


def _least_squares(shares: Array, means: Array, k: float, free_ceiling: bool) -> tuple[Array, Array]:
    """Best ``log rho`` and ceiling for each row of ``means``: a grid, refined three times around its minimum."""

    def loss(log_rho: Array) -> tuple[Array, Array]:
        shape = 1 / np.sqrt(1 + k * np.exp(log_rho)[..., None] * shares)
        rows = means[:, None, :]
        best = np.ones(shape.shape[:-1])
        if free_ceiling:
            best = np.clip((rows * shape).sum(-1) / (shape**2).sum(-1), 0.0, 1.0)
        return ((rows - best[..., None] * shape) ** 2).sum(-1), best

    low, high = np.full(len(means), np.log(1e-3)), np.full(len(means), np.log(1e9))
    rows = np.arange(len(means))
    for _ in range(4):
        grid = np.linspace(low, high, 61, axis=1)
        losses, ceilings = loss(grid)
        best = losses.argmin(1)
        step = (high - low) / 60
        centre = grid[rows, best]
        ceiling = ceilings[rows, best]
        low, high = centre - step, centre + step
    return np.asarray(centre), np.asarray(ceiling)
