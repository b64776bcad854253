"""Numbers about errors: medians, spreads, agreement of orders. Pure functions on plain numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np


@dataclass(frozen=True, slots=True)
class Spread:
    """Relative errors, signed: negative means that the prediction is too small.

    Attributes:
        median: Of the absolute errors.
        p95: 95th percentile of the absolute errors, interpolated.
        bias: Median of the signed errors.
    """

    count: int
    median: float
    p95: float
    bias: float
    least: float
    most: float


def spread(errors: Sequence[float]) -> Spread | None:
    """``None`` without any errors."""
    if not errors:
        return None
    sizes = np.abs(errors)
    return Spread(
        len(errors),
        float(np.median(sizes)),
        float(np.percentile(sizes, 95)),
        float(np.median(errors)),
        float(min(errors)),
        float(max(errors)),
    )


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median and third quartile, interpolated; of at least one value."""
    low, middle, high = np.percentile(values, (25, 50, 75))
    return float(low), float(middle), float(high)


def order_agreement(predicted: Sequence[float], measured: Sequence[float]) -> float | None:
    """Kendall's tau-b between two rankings of the same things: 1 equal, -1 reversed. ``None`` where it is undefined."""
    if len(predicted) < 2 or len(set(predicted)) < 2 or len(set(measured)) < 2:
        return None
    from scipy.stats import kendalltau

    return float(kendalltau(predicted, measured).statistic)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two methods that differ.

    Attributes:
        ratio: Slower over faster, measured.
        right: Whether the prediction has the same one faster.
    """

    faster: str
    slower: str
    ratio: float
    right: bool


def clear_pairs(predicted: Mapping[str, float], measured: Mapping[str, float], margin: float) -> list[Pair]:
    """All pairs whose measured times differ by more than ``margin`` (of the faster)."""
    found = []
    for one, other in combinations(measured, 2):
        faster, slower = (one, other) if measured[one] <= measured[other] else (other, one)
        ratio = measured[slower] / measured[faster]
        if ratio > 1 + margin:
            found.append(Pair(faster, slower, ratio, predicted[faster] < predicted[slower]))
    return found
