"""Counter-based noise: Philox4x32-10 bits at a counter that names the element, so that nothing depends on the order.

==========  ===================================================================================================
key         word 0: seed (64 bits folded to 32), word 1: optimisation step
counter     word 0: block of elements, word 1: sample of the whole step, word 2: copy, word 3: ``stage << 8 | value``
signs       element ``i`` is bit ``i % 32`` of word ``i % 128 // 32`` of block ``i // 128``; 1 stands for -1
Gaussian    elements ``4 j`` to ``4 j + 3`` are Box-Muller on words (0, 1) and (2, 3) of block ``j``
Laplace     element ``4 j + i`` is the inverse distribution function on word ``i`` of block ``j``, variance 1
==========  ===================================================================================================

Splitting a batch into micro-batches, copies into groups, or work among threads, workers or devices changes no number.
Random123, Triton and CUDA libraries have the same generator, so that another device can make the same bits.
"""

from collections.abc import Sequence
from math import prod
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from alrsim.errors import OptionError

PhiloxKind = Literal["rademacher", "gauss", "laplace"]
_KINDS: dict[PhiloxKind, int] = {"rademacher": 0, "gauss": 1, "laplace": 2}
_PER_BLOCK = {0: 128, 1: 4, 2: 4}
_MASK = (1 << 32) - 1


class PhiloxKey(NamedTuple):
    """Which noise.

    Attributes:
        seed: The run's seed.
        step: Optimisation step.
        stage: Stage on whose output the noise is added.
        value: Position of the value among the stage's outputs, below 256.
    """

    seed: int
    step: int = 0
    stage: int = 0
    value: int = 0

    @property
    def words(self) -> tuple[int, int]:
        """The generator's key."""
        return (self.seed ^ self.seed >> 32) & _MASK, self.step & _MASK

    @property
    def lane(self) -> int:
        """The counter's last word.

        Raises:
            OptionError: more stages or values than the counter can name.
        """
        if not (0 <= self.value < 256 and 0 <= self.stage < 1 << 24):
            raise OptionError(
                f"noise on value {self.value} of stage {self.stage} has no counter of its own",
                where="noise",
                fix="use a coarser cut: at most 256 values per stage and 16.7 million stages",
            )
        return self.stage << 8 | self.value


def philox_noise(
    key: PhiloxKey,
    copies: range,
    samples: range,
    shape: Sequence[int],
    kind: PhiloxKind = "rademacher",
    *,
    threads: int = 1,
) -> Tensor:
    """Zero-mean, unit-variance fp32 noise, ``(copies, samples, *shape)``.

    Args:
        copies: Which draws of the step; consecutive. Likewise ``samples``, counted over the whole step.
    """
    from alrsim.estimators.kernels.machine.compile import spread
    from alrsim.estimators.kernels.machine.philox import fill

    out = np.empty((len(copies), len(samples), prod(shape)), dtype=np.float32)
    words, lane, code = key.words, key.lane, _KINDS[kind]
    for copy, rows in zip(copies, out, strict=True):

        def part(low: int, high: int, at: int = copy, to: np.ndarray = rows) -> None:
            fill(code, words, lane, at, samples.start, low, high, to)

        spread(part, _pieces(code, out.shape[2]) * len(samples), threads)
    return torch.from_numpy(out).view(len(copies), len(samples), *shape)


def philox_bits(key: PhiloxKey, copy: int, samples: range, elements: int, *, threads: int = 1) -> Tensor:
    """Signs as packed bits, 1 is -1: int64 words ``(samples, ceil(elements / 64))``, element ``i`` is bit ``i % 64``.

    Bits behind the last element are 0.
    """
    from alrsim.estimators.kernels.machine.compile import spread
    from alrsim.estimators.kernels.machine.philox import TILE, fill_bits

    blocks = -(-elements // 128)
    out = np.empty((len(samples), 4 * blocks), dtype=np.uint32)
    words, lane = key.words, key.lane

    def part(low: int, high: int) -> None:
        fill_bits(words, lane, copy, samples.start, low, high, out)

    spread(part, -(-blocks // TILE) * len(samples), threads)
    packed = np.ascontiguousarray(out.astype("<u4", copy=False).view("<i8")[:, : -(-elements // 64)])
    if elements % 64:
        packed[:, -1] &= (1 << elements % 64) - 1
    return torch.from_numpy(packed)


def accumulate_noise(
    total: Tensor,
    weights: Tensor,
    key: PhiloxKey,
    copies: range,
    samples: range,
    kind: PhiloxKind = "rademacher",
    *,
    threads: int = 1,
) -> Tensor:
    """``total += sum_k weights[k] * noise of copy k``, without any noise in memory.

    Each element adds its copies in ascending order in fp32, product first, then sum: for signs that is what adding the
    materialised noise gives, bit for bit, and for the others too where nobody fuses the two roundings.

    Args:
        total: fp32 ``(samples, *shape)``, contiguous; changed in place and returned.
        weights: ``(copies, samples)``.
    """
    from alrsim.estimators.kernels.machine.compile import spread
    from alrsim.estimators.kernels.machine.philox import accumulate

    flat = total.detach().view(len(samples), -1).numpy()
    factors = weights.detach().to(torch.float32).reshape(len(copies), len(samples)).contiguous().numpy()
    words, lane, code = key.words, key.lane, _KINDS[kind]

    def part(low: int, high: int) -> None:
        accumulate(code, words, lane, copies.start, samples.start, low, high, factors, flat)

    spread(part, _pieces(code, flat.shape[1]) * len(samples), threads)
    return total


def accumulate_rademacher(
    total: Tensor, weights: Tensor, key: PhiloxKey, copies: range, samples: range, *, threads: int = 1
) -> Tensor:
    """:func:`accumulate_noise` with signs."""
    return accumulate_noise(total, weights, key, copies, samples, "rademacher", threads=threads)


def accumulate_gaussian(
    total: Tensor, weights: Tensor, key: PhiloxKey, copies: range, samples: range, *, threads: int = 1
) -> Tensor:
    """:func:`accumulate_noise` with Gaussian noise."""
    return accumulate_noise(total, weights, key, copies, samples, "gauss", threads=threads)


def _pieces(code: int, elements: int) -> int:
    from alrsim.estimators.kernels.machine.philox import TILE

    return -(-elements // (_PER_BLOCK[code] * TILE))
