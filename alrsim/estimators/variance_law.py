"""The variance law: how near the gradient from n noisy copies comes to the true one.

One copy's estimate has variance ``v`` around its own expectation ``e``, whose cosine with the true gradient is the
ceiling (1 where nothing is coded). With ``r = v / |e|^2`` the mean over n copies has

    cos(n) = ceiling / sqrt(1 + r / n)

in the linear regime: sigma small, clean, copy-mean or antithetic baseline. Signs instead of noise multiply ``r`` by
``k``, the variance of what takes the noise's place; with orthogonal noise ``1 / n`` becomes :func:`noise_share`.
"""

from collections.abc import Sequence
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FAR = 1e9
"""Noise of one copy from which on nobody has patience for the copies."""


def cosine(noise: float, copies: float, ceiling: float = 1.0) -> float:
    """Expected cosine of the mean over so many independent copies; ``noise`` is ``r`` of one."""
    return ceiling / sqrt(1 + noise / copies)


def noise_to_signal(cosine: float, copies: float, ceiling: float = 1.0) -> float:
    """``r`` of one copy where so many reach a cosine: infinite at cosine 0, negative above the ceiling."""
    return copies * ((ceiling / cosine) ** 2 - 1) if cosine > 0 else float("inf")


def copies_for(noise: float, target: float, ceiling: float = 1.0) -> int | None:
    """The least copies that reach a cosine, at least 1; ``None`` where the ceiling, or anybody's patience, is below."""
    if target >= ceiling or not noise < FAR:
        return None
    return max(1, ceil(round(noise / noise_to_signal(target, 1, ceiling), 9)))


def law(copies: Array, rho: float | Array, ceiling: float | Array, k: float, order: int | None = None) -> Array:
    """The cosine at several numbers of copies.

    Args:
        rho: ``r`` of exact noise.
        order: Of orthogonal noise: the copies that make the estimate exact.
    """
    return np.asarray(ceiling / np.sqrt(1 + k * rho * noise_share(copies, order)))


def noise_share(copies: Array | Sequence[int], order: int | None = None) -> Array:
    """Variance of the mean over ``n`` copies, over that of one copy.

    ``1/n`` for independent copies. Rows of an orthogonal matrix leave ``1/n - 1/order`` and nothing at ``n = order``;
    beyond it every full matrix is exact and the ``r`` rows of the last one weigh ``r/n``.
    """
    points = np.asarray(copies, dtype=np.float64)
    if order is None:
        return np.asarray(1 / points)
    rest = np.mod(points, order)
    within = np.where(rest > 0, 1 / np.where(rest > 0, rest, 1.0) - 1 / order, 0.0)
    return np.asarray((rest / points) ** 2 * within)
