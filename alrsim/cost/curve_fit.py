"""Small fits of measured times: a line over message sizes, a monotone curve over problem sizes."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from statistics import median
from typing import Literal

How = Literal["measured", "interpolated", "extrapolated"]


@dataclass(frozen=True, slots=True)
class Line:
    """``y = start + slope * x``, both not negative.

    Attributes:
        error: Median of |fit / y - 1| over the points.
    """

    start: float
    slope: float
    error: float = 0.0

    def at(self, x: float) -> float:
        return self.start + self.slope * x


def fit_line(points: Sequence[tuple[float, float]]) -> Line:
    """The line with the least squares of RELATIVE errors (weights 1 / y^2): short and long messages count alike.

    Args:
        points: ``(x, y)`` with y > 0.
    """
    weights = [1 / max(y, 1e-9) ** 2 for _, y in points]
    total = sum(weights)
    mean_x = sum(w * x for w, (x, _) in zip(weights, points, strict=True)) / total
    mean_y = sum(w * y for w, (_, y) in zip(weights, points, strict=True)) / total
    across = sum(w * (x - mean_x) * (y - mean_y) for w, (x, y) in zip(weights, points, strict=True))
    along = sum(w * (x - mean_x) ** 2 for w, (x, _) in zip(weights, points, strict=True))
    slope = max(0.0, across / along) if along else 0.0
    start = mean_y - slope * mean_x
    if start < 0:  # through the origin: minimise sum w (y - s x)^2
        start = 0.0
        slope = sum(w * x * y for w, (x, y) in zip(weights, points, strict=True)) / sum(
            w * x * x for w, (x, _) in zip(weights, points, strict=True)
        )
    line = Line(start, slope)
    return Line(start, slope, median(abs(line.at(x) / max(y, 1e-9) - 1) for x, y in points))


def fit_sum(rows: Sequence[Sequence[float]], totals: Sequence[float]) -> tuple[float, ...]:
    """Coefficients, none negative, whose weighted sums of each row are closest to the totals in RELATIVE error.

    Args:
        rows: One row of terms per total.
        totals: All > 0.
    """
    import numpy as np
    from scipy.optimize import nnls

    matrix, target = np.array(rows, dtype=float), np.array(totals, dtype=float)
    scale = np.abs(matrix).max(axis=0)
    scale[scale == 0] = 1.0
    found, _ = nnls(matrix / scale / target[:, None], np.ones(len(target)))
    return tuple(float(value) for value in found / scale)


def monotone(values: Sequence[float], weights: Sequence[float] | None = None) -> list[float]:
    """The closest ascending sequence in least squares: neighbours that descend are averaged (pool adjacent violators).

    R. E. Barlow et al., Statistical Inference under Order Restrictions, 1972.
    """
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights or [1.0] * len(values), strict=True):
        blocks.append((value, weight, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, wa, na), (b, wb, nb) = blocks[-2], blocks[-1]
            blocks[-2:] = [((a * wa + b * wb) / (wa + wb), wa + wb, na + nb)]
    return [value for value, _, count in blocks for _ in range(count)]


def interpolate(points: Sequence[tuple[float, float]], x: float) -> tuple[float, How]:
    """A time at a size between measured ones: straight in log(size) and log(time), after making the times ascend.

    Beyond the measured sizes the last slope goes on, held between 0 and 1 (a task never gets faster with its size, and
    at most takes time in proportion); of one point nothing but proportion is known.

    Args:
        points: ``(size, time)``, both > 0; sizes distinct, in any order.
        x: The size that is asked for.
    """
    found = sorted(points)
    if (exact := dict(found).get(x)) is not None:
        return exact, "measured"
    sizes = [log(size) for size, _ in found]
    times = monotone([log(max(time, 1e-9)) for _, time in found])
    at = log(x)
    if len(found) == 1:
        return exp(times[0] + at - sizes[0]), "extrapolated"
    right = min(max(bisect_left(sizes, at), 1), len(sizes) - 1)
    slope = (times[right] - times[right - 1]) / (sizes[right] - sizes[right - 1])
    if sizes[0] < at < sizes[-1]:
        return exp(times[right - 1] + slope * (at - sizes[right - 1])), "interpolated"
    slope, end = min(max(slope, 0.0), 1.0), (0 if at < sizes[0] else -1)
    return exp(times[end] + slope * (at - sizes[end])), "extrapolated"


def left_out_error(points: Sequence[tuple[float, float]]) -> float | None:
    """Median of |interpolated / measured - 1| where every inner point is predicted by the others; ``None``: no inner
    points."""
    found = sorted(points)
    errors = [
        abs(interpolate(found[:at] + found[at + 1 :], found[at][0])[0] / found[at][1] - 1)
        for at in range(1, len(found) - 1)
    ]
    return median(errors) if errors else None
