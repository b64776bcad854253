"""Counter-based noise: a pure function of its key, so that any worker can make it again."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

NoiseKind = Literal["gauss", "rademacher"]

_MASK = (1 << 64) - 1


class NoiseKey(NamedTuple):
    """Which noise: one independent stream for each copy, so that grouping copies does not change the numbers.

    Attributes:
        seed: The run's seed.
        stage: Stage on whose output the noise is added.
        value: Position of the value among the stage's outputs.
        microbatch: Micro-batch.
        copy: Draw (for antithetic pairs: the pair), counted over all copy groups.
    """

    seed: int
    stage: int
    value: int
    microbatch: int
    copy: int


def noise(key: NoiseKey, shape: Sequence[int], kind: NoiseKind = "gauss") -> Tensor:
    """Zero-mean, unit-variance fp32 noise of one copy; ``shape`` is (samples, features...).

    The Mersenne twister behind torch's CPU generator keeps 32 bits of its seed only, so the upper half of the
    64-bit hash rotates the stream: two keys give the same numbers only if all 64 bits agree.
    """
    digest = mix(key)
    generator = torch.Generator().manual_seed(digest & 0xFFFFFFFF)
    count = 1
    for size in shape:
        count *= size
    if kind == "gauss":
        flat = torch.randn(count, generator=generator)
    else:
        flat = torch.empty(count).random_(0, 2, generator=generator).mul_(2).sub_(1)
    return flat.roll((digest >> 32) % max(count, 1)).view(tuple(shape))


def stacked_noise(
    key: NoiseKey, copies: Sequence[int], shape: Sequence[int], kind: NoiseKind = "gauss", *, antithetic: bool = False
) -> Tensor:
    """Noise of several copies, ``(rows, *shape)``: one row per copy, then (antithetic) the same rows negated."""
    rows = torch.stack([noise(key._replace(copy=copy), shape, kind) for copy in copies])
    return torch.cat([rows, -rows]) if antithetic else rows


def mix(fields: Sequence[int]) -> int:
    """A 64-bit hash of integers: splitmix64's finaliser (Steele et al., OOPSLA 2014), chained."""
    state = 0
    for value in fields:
        state = (state ^ (value & _MASK)) + 0x9E3779B97F4A7C15 & _MASK
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state
