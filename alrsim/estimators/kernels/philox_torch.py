"""The noise of :mod:`alrsim.estimators.kernels.philox` in torch's own operators, for tensors of any device.

The same counters, the same integers and the same order of roundings as the compiled loops, which need the memory of a
CPU. On a CPU signs, Gaussian and Laplace numbers come out bit for bit the same (tested). Another device gives the same
integers, hence the same signs; its Gaussian and Laplace numbers may differ in the last place where its division or
square root is not correctly rounded. 64-bit integers hold the 32-bit words, so that products keep their upper halves.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from alrsim.estimators.kernels.noise_key import PhiloxKey
from alrsim.estimators.policy import NoiseKind

_M0, _M1, _W0, _W1 = 0xD2511F53, 0xCD9E8D57, 0x9E3779B9, 0xBB67AE85
_MASK = (1 << 32) - 1
_SHUFFLE, _EPOCHS = _MASK, 1 << 31
"""Counters of what Hadamard noise draws besides: as in the compiled loops."""

TOGETHER = 1 << 22
"""Numbers that are made at a time, as far as whole copies allow: temporaries take some 60 bytes for each."""

Four = tuple[Tensor, Tensor, Tensor, Tensor]


def words(key: tuple[int, int], block: Tensor, sample: Tensor, copy: Tensor, lane: int) -> Four:
    """Philox4x32-10: four words at every counter, int64 below 2^32, in the shape that the counters broadcast to."""
    x0, x1, x2, x3 = block, sample, copy, torch.full_like(block, lane)
    r0, r1 = key
    for _ in range(10):
        h0, l0 = _wide(x0, _M0)
        h1, l1 = _wide(x2, _M1)
        x0, x1, x2, x3 = h1 ^ x1 ^ r0, l1, h0 ^ x3 ^ r1, l0
        r0, r1 = r0 + _W0 & _MASK, r1 + _W1 & _MASK
    return x0, x1, x2, x3


def noise(
    key: PhiloxKey, copies: range, samples: range, shape: Sequence[int], kind: NoiseKind, device: torch.device
) -> Tensor:
    """As :func:`alrsim.estimators.kernels.philox.philox_noise` on a device: ``(copies, samples, *shape)`` fp32."""
    elements = prod(shape)
    step = max(1, TOGETHER // max(1, elements * len(samples)))
    parts = [
        _noise(key, range(low, min(low + step, copies.stop)), samples, elements, kind, device)
        for low in range(copies.start, copies.stop, step)
    ]
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).view(len(copies), len(samples), *shape)


def accumulate(
    total: Tensor, weights: Tensor, key: PhiloxKey, copies: range, samples: range, kind: NoiseKind
) -> Tensor:
    """``total += sum_k weights[k] * noise of copy k``, copies ascending, product first: one copy's noise in memory.

    Args:
        total: fp32 ``(samples, *shape)``, contiguous; changed in place and returned.
        weights: ``(copies, samples)`` on the same device.
    """
    flat = total.detach().view(len(samples), -1)
    factors = weights.detach().to(torch.float32).reshape(len(copies), len(samples), 1)
    for row, copy in enumerate(copies):
        drawn = _noise(key, range(copy, copy + 1), samples, flat.shape[1], kind, total.device)[0]
        flat.add_(drawn.mul_(factors[row]))
    return total


def _noise(
    key: PhiloxKey, copies: range, samples: range, elements: int, kind: NoiseKind, device: torch.device
) -> Tensor:
    """``(copies, samples, elements)``."""
    per = 128 if kind in ("rademacher", "hadamard") else 4
    block = torch.arange(-(-elements // per), device=device)
    sample = torch.arange(samples.start, samples.stop, device=device)[:, None]
    copy = torch.arange(copies.start, copies.stop, device=device)[:, None, None]
    if kind == "hadamard":
        found = _signs(_hadamard(key, copies, block, sample, copy, elements))
    elif kind == "rademacher":
        found = _signs(words(key.words, block, sample, copy, key.lane))
    elif kind == "gauss":
        a, b, c, d = words(key.words, block, sample, copy, key.lane)
        found = torch.stack([*_box_muller(a, b), *_box_muller(c, d)], -1).flatten(-2)
    else:
        four = words(key.words, block, sample, copy, key.lane)
        found = torch.stack([_laplacian(word) for word in four], -1).flatten(-2)
    return found[..., :elements].contiguous()


def _wide(value: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Upper and lower 32 bits of a product of two words, without a 64-bit overflow."""
    low, high = (value & 0xFFFF) * factor, (value >> 16) * factor
    upper = high + (low >> 16)
    return upper >> 16, (upper << 16 | low & 0xFFFF) & _MASK


def _signs(four: Four) -> Tensor:
    """Element ``i`` of a block is bit ``i % 32`` of word ``i // 32``; 1 is -1."""
    packed = torch.stack(four, -1)[..., None]
    bits = packed >> torch.arange(32, device=packed.device) & 1
    return bits.to(torch.float32).mul_(-2).add_(1).flatten(-3)


def _hadamard(key: PhiloxKey, copies: range, block: Tensor, sample: Tensor, copy: Tensor, elements: int) -> Four:
    """Words of signs: a copy's row of its epoch's matrix, columns with signs of their own."""
    bits = max(0, elements - 1).bit_length()
    epochs = range(copies.start >> bits, (copies.stop - 1 >> bits) + 1)
    drawer = torch.arange(epochs.start, epochs.stop, device=copy.device)[:, None, None] + _EPOCHS
    signs = words(key.words, block, sample, drawer, key.lane)
    shuffle = words(key.words, torch.full((1,), _SHUFFLE, device=copy.device), sample, drawer, key.lane)
    if len(epochs) > 1:
        at = (copy.flatten() >> bits) - epochs.start
        signs = _rows(signs, at)
        shuffle = _rows(shuffle, at)
    row = _mixed_row(copy, bits, shuffle)
    pattern = _patterns(row & 31)
    high = row >> 5
    found = [word ^ pattern ^ _parity(high & 4 * block + at) * _MASK for at, word in enumerate(signs)]
    return found[0], found[1], found[2], found[3]


def _rows(four: Four, at: Tensor) -> Four:
    return four[0][at], four[1][at], four[2][at], four[3][at]


def _mixed_row(copy: Tensor, bits: int, four: Four) -> Tensor:
    """A permutation of ``0 .. 2^bits - 1`` drawn by three words; of products only the low bits count."""
    mask, half = (1 << bits) - 1, max(1, bits // 2)
    row = (copy & mask) + four[0] & mask
    for word in four[1:3]:
        row = row * (word | 1) & mask
        row = row ^ row >> half
    return row


def _patterns(row: Tensor) -> Tensor:
    """Words whose bit ``t`` is the parity of ``row & t``."""
    at = torch.arange(32, device=row.device)
    return (_parity(row[..., None] & at) << at).sum(-1)


def _parity(value: Tensor) -> Tensor:
    for shift in (16, 8, 4, 2, 1):
        value = value ^ value >> shift
    return value & 1


def _log(word: Tensor) -> Tensor:
    """``-log((word + 1/2) / 2^32)`` in fp32: the exponent, and a series in ``(m - 1) / (m + 1)``."""
    bits = (word.to(torch.float32) + 0.5).view(torch.int32)
    high = ((bits & 0x7FFFFF) > 0x3504F3).to(torch.int32)
    exponent = ((bits >> 23) - 127 + high).to(torch.float32)
    m = ((bits & 0x7FFFFF) | (127 - high) << 23).view(torch.float32)
    s = (m - 1) / (m + 1)
    z = s * s
    series = z * (1 / 9) + 1 / 7
    series = series * z + 1 / 5
    series = series * z + 1 / 3
    tail = s * 2 + s * 2 * z * series
    return (32 - exponent) * 0.6931471805599453 - tail


def _box_muller(radius: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Two Gaussian numbers; the angle's upper two bits are the quadrant, the others x in [-1/2, 1/2) quarter turns."""
    # torch's fp32 root is off in the last place on a CPU (17 % of numbers); rounded from fp64 it is the correct one.
    r = (_log(radius) * 2).clamp_(min=0).to(torch.float64).sqrt_().to(torch.float32)
    rest = angle << 2 & _MASK
    x = (rest - (rest >> 31 << 32)).to(torch.float32) * 2.0**-32
    t = x * 1.5707963267948966
    z = t * t
    sine = z * (-1 / 5040) + 1 / 120
    sine = sine * z + (-1 / 6)
    sine = t + t * z * sine
    cosine = z * (1 / 40320) + (-1 / 720)
    cosine = cosine * z + 1 / 24
    cosine = cosine * z + (-1 / 2)
    cosine = z * cosine + 1
    odd, turned = (angle >> 30 & 1).bool(), (angle >> 31).bool()
    first, second = torch.where(odd, sine, cosine), torch.where(odd, cosine, sine)
    # Quarter turns: (c, s), (-s, c), (-c, -s), (s, -c).
    return r * torch.where(odd ^ turned, -first, first), r * torch.where(turned, -second, second)


def _laplacian(word: Tensor) -> Tensor:
    """Unit variance: the lowest bit is the sign, the others the size."""
    size = _log(word | 1) * 0.7071067811865476
    return torch.where((word & 1).bool(), -size, size)
