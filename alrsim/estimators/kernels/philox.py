"""Counter-based noise: Philox4x32-10 bits at a counter that names the element, so that nothing depends on the order.

==========  ===================================================================================================
key         word 0: seed (64 bits folded to 32), word 1: optimisation step
counter     word 0: block of elements, word 1: sample of the whole step, word 2: copy, word 3: ``stage << 8 | value``
signs       element ``i`` is bit ``i % 32`` of word ``i % 128 // 32`` of block ``i // 128``; 1 stands for -1
Gaussian    elements ``4 j`` to ``4 j + 3`` are Box-Muller on words (0, 1) and (2, 3) of block ``j``
Laplace     element ``4 j + i`` is the inverse distribution function on word ``i`` of block ``j``, variance 1
Hadamard    +-1: rows of a Walsh-Hadamard matrix of the next power of two, permuted, columns with random signs
Sobol       Gaussian by scrambled Sobol points, not by Philox bits: see :mod:`alrsim.estimators.kernels.sobol`
==========  ===================================================================================================

Splitting a batch into micro-batches, copies into groups, or work among threads, workers or devices changes no number.
Random123, Triton and CUDA libraries have the same generator, so that another device can make the same bits.

Hadamard noise: let N be the least power of two that is not below the number of elements m. A sample's copies ``0 .. N -
1`` are all rows of one matrix, so that ``sum_k e_k e_k' = N I`` and a gradient by these N copies is exact for a linear
function; where m is no power of two that takes N copies, not m. Copies ``N .. 2N - 1`` are another matrix with signs of
its own, and so on. Any element follows from its row and column alone.
"""

from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor

from alrsim.estimators.kernels import device_noise, sobol
from alrsim.estimators.kernels.noise_key import PhiloxKey
from alrsim.estimators.kernels.threads import spread
from alrsim.estimators.policy import NoiseKind

CPU = torch.device("cpu")

_KINDS: dict[NoiseKind, int] = {"rademacher": 0, "gauss": 1, "laplace": 2, "hadamard": 3}
_PER_BLOCK = {0: 128, 1: 4, 2: 4, 3: 128}


def philox_noise(
    key: PhiloxKey,
    copies: range,
    samples: range,
    shape: Sequence[int],
    kind: NoiseKind = "rademacher",
    *,
    threads: int = 1,
    device: torch.device = CPU,
) -> Tensor:
    """Zero-mean, unit-variance fp32 noise, ``(copies, samples, *shape)``.

    Args:
        copies: Which draws of the step; consecutive, below 2^31. Likewise ``samples``, counted over the whole step.
        device: Where the noise is made; Sobol points are made on the CPU and moved.

    Raises:
        OptionError: Sobol noise of more than 21,201 elements per sample.
    """
    if kind == "sobol":
        return _sobol_noise(key, copies, samples, shape).to(device)
    if device.type != "cpu":
        return device_noise.noise(key, copies, samples, shape, kind, device)
    from alrsim.estimators.kernels.machine.philox import fill

    out = np.empty((len(copies), len(samples), prod(shape)), dtype=np.float32)
    words, lane, code = key.words, key.lane, _KINDS[kind]
    for copy, rows in zip(copies, out, strict=True):

        def part(low: int, high: int, at: int = copy, to: np.ndarray = rows) -> None:
            fill(code, words, lane, at, samples.start, low, high, to)

        spread(part, _pieces(code, out.shape[2]) * len(samples), threads, _steps(code, rows.size))
    return torch.from_numpy(out).view(len(copies), len(samples), *shape)


def _sobol_noise(key: PhiloxKey, copies: range, samples: range, shape: Sequence[int]) -> Tensor:
    out = torch.empty(len(copies), len(samples), prod(shape))
    for row, sample in enumerate(samples):
        out[:, row] = torch.cat(list(sobol.points(key.sample_seed(sample), copies, prod(shape))))
    return out.view(len(copies), len(samples), *shape)


def accumulate_noise(
    total: Tensor,
    weights: Tensor,
    key: PhiloxKey,
    copies: range,
    samples: range,
    kind: NoiseKind = "rademacher",
    *,
    threads: int = 1,
) -> Tensor:
    """``total += sum_k weights[k] * noise of copy k``, without any noise in memory.

    Each element adds its copies in ascending order in fp32, product first, then sum: for signs that is what adding the
    materialised noise gives, bit for bit, and for the others too where nobody fuses the two roundings.

    Noise that all samples share (of a stage's parameters) is that of ``samples=range(1)``: total is ``(1, *shape)``.
    With one copy and weights sigma it adds noise to values in place.

    Args:
        total: fp32 ``(samples, *shape)``, contiguous; changed in place and returned.
        weights: ``(copies, samples)``.

    Raises:
        OptionError: Sobol noise of more than 21,201 elements per sample.
    """
    flat = total.detach().view(len(samples), -1)
    factors = weights.detach().to(torch.float32).reshape(len(copies), len(samples)).contiguous()
    if kind == "sobol":
        _accumulate_sobol(flat, factors, key, copies, samples)
        return total
    if total.device.type != "cpu":
        return device_noise.accumulate(total, factors, key, copies, samples, kind)
    from alrsim.estimators.kernels.machine.philox import accumulate

    words, lane, code = key.words, key.lane, _KINDS[kind]
    out, scale = flat.numpy(), factors.numpy()

    def part(low: int, high: int) -> None:
        accumulate(code, words, lane, copies.start, samples.start, low, high, scale, out)

    spread(part, _pieces(code, flat.shape[1]) * len(samples), threads, _steps(code, flat.numel() * len(copies)))
    return total


def _accumulate_sobol(total: Tensor, weights: Tensor, key: PhiloxKey, copies: range, samples: range) -> None:
    for row, sample in enumerate(samples):
        copy = 0
        for noise in sobol.points(key.sample_seed(sample), copies, total.shape[1]):
            for one in noise:
                total[row] += weights[copy, row] * one.to(total.device)
                copy += 1


def perturbed(
    values: Tensor,
    sigma: float,
    key: PhiloxKey,
    copies: range,
    samples: range,
    kind: NoiseKind = "rademacher",
    *,
    threads: int = 1,
) -> Tensor:
    """``values + sigma * noise`` for each copy, ``(copies, samples, *shape)`` fp32, without the noise in memory.

    Args:
        values: ``(copies, samples, *shape)``, or ``(1, samples, *shape)``: shared by the copies.
    """
    wide = values.detach().to(torch.float32).expand(len(copies), *values.shape[1:])
    out = wide.clone(memory_format=torch.contiguous_format)
    scale = torch.full((1, len(samples)), sigma, device=out.device)
    for at, copy in enumerate(copies):
        accumulate_noise(out[at], scale, key, range(copy, copy + 1), samples, kind, threads=threads)
    return out


def _steps(code: int, numbers: int) -> int:
    return numbers // 8 if code in (0, 3) else numbers


def _pieces(code: int, elements: int) -> int:
    from alrsim.estimators.kernels.machine.philox import TILE

    return -(-elements // (_PER_BLOCK[code] * TILE))
