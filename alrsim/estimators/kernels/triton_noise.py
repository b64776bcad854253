"""Philox noise on a GPU, from the same counters: generated and added, or generated and accumulated, never stored.

Checked in Triton's interpreter on CPU tensors only, where it gives the bits of the compiled loops
(:mod:`alrsim.estimators.kernels.philox`). It has not been run on a GPU and never been timed. The arithmetic is written
so that a GPU can give the same bits: correctly rounded division and root, and no fused multiply-add.

Triton is optional: importing this module without it raises ``ImportError``.
"""

from importlib import import_module
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor

from alrsim.estimators.kernels.noise_key import PhiloxKey

triton: Any = import_module("triton")
tl: Any = import_module("triton.language")

Kind = Literal["rademacher", "gauss"]

BLOCKS = 64
"""Philox blocks of one program; a power of two."""


@triton.jit
def _words(block, sample, copy, lane, k0, k1):  # type: ignore[no-untyped-def]
    """Philox4x32-10 at a vector of blocks: four vectors of words."""
    x0 = block.to(tl.uint32)
    x1 = tl.full(x0.shape, 0, tl.uint32) + sample.to(tl.uint32)
    x2 = tl.full(x0.shape, 0, tl.uint32) + copy.to(tl.uint32)
    x3 = tl.full(x0.shape, 0, tl.uint32) + lane.to(tl.uint32)
    m0 = tl.full(x0.shape, 0xD2511F53, tl.uint32)
    m1 = tl.full(x0.shape, 0xCD9E8D57, tl.uint32)
    r0 = tl.full(x0.shape, 0, tl.uint32) + k0.to(tl.uint32)
    r1 = tl.full(x0.shape, 0, tl.uint32) + k1.to(tl.uint32)
    w0 = tl.full(x0.shape, 0x9E3779B9, tl.uint32)
    w1 = tl.full(x0.shape, 0xBB67AE85, tl.uint32)
    for _ in tl.static_range(10):
        h0 = tl.umulhi(m0, x0)
        h1 = tl.umulhi(m1, x2)
        l0 = m0 * x0
        l1 = m1 * x2
        x0 = h1 ^ x1 ^ r0
        x1 = l1
        x2 = h0 ^ x3 ^ r1
        x3 = l0
        r0 = r0 + w0
        r1 = r1 + w1
    return x0, x1, x2, x3


@triton.jit
def _signs(a, b, c, d):  # type: ignore[no-untyped-def]
    """``(blocks, 128)`` signs: bit 1 is -1."""
    at = tl.arange(0, 128)[None, :]
    word = at // 32
    low = tl.where(word == 0, a[:, None], b[:, None])
    high = tl.where(word == 2, c[:, None], d[:, None])
    bits = (tl.where(word < 2, low, high) >> (at % 32).to(tl.uint32)) & 1
    return 1.0 - 2.0 * bits.to(tl.float32)


@triton.jit
def _log(word):  # type: ignore[no-untyped-def]
    """``-log((word + 1/2) / 2^32)``, in the operations of the compiled loop."""
    bits = (word.to(tl.float32) + 0.5).to(tl.uint32, bitcast=True)
    high = ((bits & 0x7FFFFF) > 0x3504F3).to(tl.int32)
    exponent = ((bits >> 23).to(tl.int32) - 127 + high).to(tl.float32)
    m = ((bits & 0x7FFFFF) | ((127 - high).to(tl.uint32) << 23)).to(tl.float32, bitcast=True)
    s = tl.div_rn(m - 1.0, m + 1.0)
    z = s * s
    series = 0.1111111119389534 * z + 0.1428571492433548
    series = series * z + 0.20000000298023224
    series = series * z + 0.3333333432674408
    tail = 2.0 * s + 2.0 * s * z * series
    return (32.0 - exponent) * 0.6931471824645996 - tail


@triton.jit
def _pair(radius, angle):  # type: ignore[no-untyped-def]
    """Two Gaussian numbers from two words; see the compiled loop."""
    r = tl.sqrt_rn(tl.maximum(2.0 * _log(radius), 0.0))
    quadrant = angle >> 30
    x = (angle << 2).to(tl.int32, bitcast=True).to(tl.float32) * 2.3283064365386963e-10
    t = x * 1.5707963705062866
    z = t * t
    sine = -0.00019841270113829523 * z + 0.008333333767950535
    sine = sine * z + -0.1666666716337204
    sine = t + t * z * sine
    cosine = 2.4801587642286904e-05 * z + -0.0013888889225199819
    cosine = cosine * z + 0.0416666679084301
    cosine = cosine * z + -0.5
    cosine = 1.0 + z * cosine
    swap = (quadrant & 1) != 0
    first = tl.where(swap, sine, cosine).to(tl.uint32, bitcast=True)
    second = tl.where(swap, cosine, sine).to(tl.uint32, bitcast=True)
    turn = (quadrant << 30) & 0x80000000
    odd = (quadrant & 1) << 31
    one = r * (first ^ turn ^ odd).to(tl.float32, bitcast=True)
    two = r * (second ^ turn).to(tl.float32, bitcast=True)
    return one, two


@triton.jit  # type: ignore[untyped-decorator]
def _noise(block, sample, copy, lane, k0, k1, signs: tl.constexpr):  # type: ignore[no-untyped-def]
    """``(blocks, 128)`` signs or ``(blocks, 4)`` Gaussian numbers."""
    a, b, c, d = _words(block, sample, copy, lane, k0, k1)
    if signs:
        return _signs(a, b, c, d)
    n0, n1 = _pair(a, b)
    n2, n3 = _pair(c, d)
    at = tl.arange(0, 4)[None, :]
    low = tl.where(at == 0, n0[:, None], n1[:, None])
    high = tl.where(at == 2, n2[:, None], n3[:, None])
    return tl.where(at < 2, low, high)


@triton.jit  # type: ignore[untyped-decorator]
def _accumulate(  # type: ignore[no-untyped-def]
    total, weights, elements, samples, copies, first_copy, first_sample, lane, k0, k1,
    signs: tl.constexpr, count: tl.constexpr,
):  # fmt: skip
    """One program: some blocks of one sample, all copies in ascending order."""
    row = tl.program_id(1)
    per: tl.constexpr = 128 if signs else 4
    block = tl.program_id(0) * count + tl.arange(0, count)
    at = block[:, None] * per + tl.arange(0, per)[None, :]
    inside = at < elements
    place = total + row.to(tl.int64) * elements + at
    found = tl.load(place, mask=inside, other=0.0)
    for k in range(copies):
        weight = tl.load(weights + k * samples + row)
        found += weight * _noise(block, first_sample + row, first_copy + k, lane, k0, k1, signs)
    tl.store(place, found, mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _add(  # type: ignore[no-untyped-def]
    values, out, sigma, stride, elements, samples, first_copy, first_sample, lane, k0, k1,
    signs: tl.constexpr, count: tl.constexpr,
):  # fmt: skip
    """One program: some blocks of one sample of one copy; ``stride`` is 0 where copies share the values."""
    row, copy = tl.program_id(1), tl.program_id(2)
    per: tl.constexpr = 128 if signs else 4
    block = tl.program_id(0) * count + tl.arange(0, count)
    at = block[:, None] * per + tl.arange(0, per)[None, :]
    inside = at < elements
    line = row.to(tl.int64) * elements + at
    value = tl.load(values + copy.to(tl.int64) * stride + line, mask=inside, other=0.0)
    noise = _noise(block, first_sample + row, first_copy + copy, lane, k0, k1, signs)
    scale = tl.load(sigma)
    tl.store(out + copy.to(tl.int64) * samples * elements + line, value + scale * noise, mask=inside)


def accumulate_noise(
    total: Tensor, weights: Tensor, key: PhiloxKey, copies: range, samples: range, kind: Kind = "rademacher"
) -> Tensor:
    """``total += sum_k weights[k] * noise of copy k``; as :func:`alrsim.estimators.kernels.philox.accumulate_noise`.

    Args:
        total: fp32 ``(samples, *shape)``, contiguous, on a GPU; changed in place and returned.
        weights: ``(copies, samples)``.
    """
    elements = total[0].numel()
    factors = weights.to(total.device, torch.float32).reshape(len(copies), len(samples)).contiguous()
    k0, k1 = key.words
    _accumulate[(_programs(elements, kind), len(samples))](
        total, factors, elements, len(samples), len(copies), copies.start, samples.start, key.lane, k0, k1,
        signs=kind == "rademacher", count=BLOCKS, **_options(total),
    )  # fmt: skip
    return total


def perturbed(
    values: Tensor, sigma: float, key: PhiloxKey, copies: range, samples: range, kind: Kind = "rademacher"
) -> Tensor:
    """``values + sigma * noise``, ``(copies, samples, *shape)`` fp32.

    Args:
        values: fp32 ``(copies, samples, *shape)``, or ``(1, samples, *shape)``: shared by the copies; on a GPU.
    """
    values = values.to(torch.float32).contiguous()
    elements = prod(values.shape[2:])
    out = torch.empty(len(copies), *values.shape[1:], dtype=torch.float32, device=values.device)
    # The scale is loaded, not passed: a number would be a double in the interpreter.
    scale = torch.full((1,), sigma, device=values.device)
    stride = 0 if len(values) == 1 else len(samples) * elements
    k0, k1 = key.words
    _add[(_programs(elements, kind), len(samples), len(copies))](
        values, out, scale, stride, elements, len(samples), copies.start, samples.start, key.lane, k0, k1,
        signs=kind == "rademacher", count=BLOCKS, **_options(values),
    )  # fmt: skip
    return out


def _programs(elements: int, kind: Kind) -> int:
    return -(-elements // (BLOCKS * (128 if kind == "rademacher" else 4)))


def _options(value: Tensor) -> dict[str, bool]:
    """A fused multiply-add rounds once where the compiled loop rounds twice."""
    return {"enable_fp_fusion": False} if value.is_cuda else {}
