"""Noise of an estimator: which distribution, what its sign is worth, and its weighted sum."""

from collections.abc import Sequence
from math import pi, sqrt

import torch
from torch import Tensor

from alrsim.estimators.kernels.noise_key import PhiloxKey
from alrsim.estimators.kernels.philox import accumulate_noise, philox_noise
from alrsim.estimators.policy import SIGN_NOISE, NoiseKind

_SIGN_SCALES = {"gauss": sqrt(pi / 2), "sobol": sqrt(pi / 2), "laplace": sqrt(2)}
_MASK = (1 << 64) - 1


def sign_scale(kind: NoiseKind) -> float:
    """1 / E|eps|: what the sign of the noise must be multiplied by to keep the scale of the estimate.

    For Laplace noise of variance 1 that is sqrt(2), and sqrt(2) sign(eps) is the score itself: nothing is approximated.
    """
    return _SIGN_SCALES.get(kind, 1.0)


def is_sign(kind: NoiseKind) -> bool:
    """Whether the noise is +-1 as it is drawn."""
    return kind in SIGN_NOISE


def add_weighted(
    total: Tensor,
    weights: Tensor,
    key: PhiloxKey,
    copies: range,
    samples: range,
    kind: NoiseKind,
    *,
    signs: bool,
) -> Tensor:
    """``total += sum_k weights[k] * noise of copy k`` (``signs``: its sign, on the estimate's scale), drawn again.

    At most one copy's noise is in memory, and none where noise and code allow it.

    Args:
        total: fp32 ``(samples, *shape)``, contiguous; changed in place and returned.
        weights: ``(copies, samples)``.
    """
    if not signs or is_sign(kind):
        return accumulate_noise(total, weights, key, copies, samples, kind)
    factors = weights * sign_scale(kind)
    for index, copy in enumerate(copies):
        drawn = philox_noise(key, range(copy, copy + 1), samples, total.shape[1:], kind, device=total.device)[0]
        total.addcmul_(drawn.sign_(), factors[index].view(-1, *(1,) * (drawn.dim() - 1)))
    return total


def antithetic(rows: Tensor) -> Tensor:
    """The draws, then the same draws negated."""
    return torch.cat([rows, -rows])


def mix(fields: Sequence[int]) -> int:
    """A 64-bit hash of integers: splitmix64's finaliser (Steele et al., OOPSLA 2014), chained."""
    state = 0
    for value in fields:
        state = (state ^ (value & _MASK)) + 0x9E3779B97F4A7C15 & _MASK
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state
