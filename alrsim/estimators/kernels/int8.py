"""int8: the loss weights are rounded to 127 levels and folded into the signs of the noise, then summed in int32.

``C = scale * sum x8 * (w8 * sign(e))`` with ``w8 = round(127 w / max|w|)`` and ``scale = max|w| / 127``: integers until
the last step. Blocks are short enough that int32 cannot overflow, and blocks are added in int64.

``int8-bits`` is int8 storage with 1-bit arithmetic: the paper's storage format at the packed kernel's accuracy. Signs
that were kept as int8 are packed when the gradient is taken, which reads every byte once: that costs less than an int8
matrix product of few channels.
"""

from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from alrsim.estimators.kernels import gemm, packed
from alrsim.estimators.kernels.real import fold
from alrsim.estimators.kernels.shapes import ConvShape, LinearShape, Shape, taps_of
from alrsim.estimators.kernels.state import (
    INTEGER_INPUT,
    SIGNS,
    InputKind,
    NoiseKind,
    Product,
    State,
    group_ranges,
    keep_in,
    line_weights,
    lines,
    quantise,
    weighted_bias,
)
from alrsim.estimators.kernels.threads import aligned, run_all, spread

LEVELS = 127
_MOST = 2**31 - 1
_CHUNK, _SCRATCH, _CHANNELS = 1 << 12, 1 << 19, 8
"""Positions at a time, so that a tile of both operands stays in the first cache; bytes of taps; channels."""


def multiply(x: State, e: State, weights: Tensor, shape: Shape, threads: int) -> Tensor:
    """The weight gradient; see :class:`Product`."""
    whole, scale = quantise(weights, LEVELS)
    return (sums(x, e, whole, shape, threads).to(torch.float64) * scale).to(torch.float32)


def sums(x: State, e: State, weights: Tensor, shape: Shape, threads: int = 1, longest: int | None = None) -> Tensor:
    """``sum w x e`` for integer weights up to 127; int64 of ``shape.weight``, exact.

    Args:
        longest: Most elements per product; default what int32 can hold.
    """
    if isinstance(shape, ConvShape) and longest is None and _fits(shape):
        return _direct_sums(x, e, weights, shape, threads)
    longest = longest_sum(x.kind) if longest is None else longest
    if not isinstance(shape, LinearShape):
        folded = fold(e.data, weights, torch.int8)
        # One int32 total is enough where all of it is one short sum, and takes half the memory.
        total = torch.int32 if x.rows * shape.positions <= longest_sum(x.kind) else torch.int64
        return gemm.convolution(x.data, folded, shape, _matmul, total, longest, threads).to(torch.int64)
    weighted = lines(e.data) * line_weights(weights, shape).to(torch.int8)[:, None]
    result = torch.zeros(shape.weight, dtype=torch.int64)
    with gemm.intra_op(threads):
        for part, numbers in zip(torch.split(weighted, longest), torch.split(lines(x.data), longest), strict=True):
            result += int_mm(part.T, numbers)
    return result


def _fits(shape: ConvShape) -> bool:
    from alrsim.estimators.kernels.machine import vnni

    return vnni.available() and shape.positions <= vnni.LONGEST


def _direct_sums(x: State, e: State, weights: Tensor, shape: ConvShape, threads: int) -> Tensor:
    """Convolutions where the processor multiplies bytes: taps are expanded in cache, a few channels at a time."""
    from alrsim.estimators.kernels.machine import vnni

    table, positions, inner = taps_of(shape), shape.positions, shape.inputs // shape.groups
    rows = max(1, min(x.rows, _CHUNK // positions))
    # An odd number of vectors: lines a page apart would push each other out of the first cache.
    length = (-(-rows * positions // vnni.STEP) | 1) * vnni.STEP
    step = max(1, min(_CHANNELS, -(-inner // threads), _SCRATCH // (length * shape.taps)))
    masks = (table.source >= 0).astype(np.int8) * np.int8(-1)
    left = x.data.contiguous().flatten(2).numpy()
    right = e.data.contiguous().flatten(2).numpy()
    factors = weights.reshape(-1).to(torch.int64).numpy()
    result = np.empty((shape.outputs, inner * shape.taps), dtype=np.int64)
    for channels, outputs in group_ranges(shape):
        count = outputs[1] - outputs[0]
        padded = -(-count // vnni.TILE) * vnni.TILE
        folded = aligned((-(-x.rows // rows), padded, length), np.uint8)
        own, to = np.ascontiguousarray(right[:, outputs[0] : outputs[1]]), result[outputs[0] : outputs[1]]
        spread(partial(vnni.fold, own, factors, rows, out=folded), len(folded), threads, own.size // 16)

        def part(low: int, channels: tuple[int, int] = channels, folded: Any = folded, to: Any = to) -> None:
            high = min(low + step, channels[1])
            sums = vnni.channel_sums(left, folded, rows, (low, high), table.source, table.shifts, masks)
            begin, end = ((at - channels[0]) * shape.taps for at in (low, high))
            to[:, begin:end] = sums[: end - begin, : len(to)].T

        work = own.size * inner * shape.taps // 64
        run_all([partial(part, low) for low in range(*channels, step)], threads, work)
    return torch.from_numpy(result).view(shape.weight)


def longest_sum(kind: InputKind | NoiseKind) -> int:
    """How many products int32 can sum: 16.9 million signs, or 133,144 codes of 8 bits."""
    return _MOST // (LEVELS * (LEVELS if kind == "int8" else 1))


def _matmul(left: Tensor, right: Tensor) -> Tensor:
    return int_mm(left, right.T)


def int_mm(left: Tensor, right: Tensor) -> Tensor:
    """``torch._int_mm``, which returns garbage on a CPU if a dimension of size 1 has an unusual stride.

    Source: https://github.com/pytorch/pytorch/issues/195066
    """
    product: Tensor = torch._int_mm(_canonical(left), _canonical(right))
    return product


def _canonical(matrix: Tensor) -> Tensor:
    rows, columns = matrix.shape
    return matrix.contiguous().as_strided((1, columns), (columns, 1)) if rows == 1 else matrix


KEEP = keep_in(torch.int8)
"""Integers, or signs, in 8 bits."""

INT8 = Product(
    "int8",
    KEEP,
    KEEP,
    multiply,
    weighted_bias,
    INTEGER_INPUT,
    SIGNS,
    "weights rounded to 127 levels of the largest; exact for those",
    2.0**-23,
)


def multiply_bits(x: State, e: State, weights: Tensor, shape: Shape, threads: int) -> Tensor:
    """The weight gradient from bytes that are packed first; see :class:`Product`."""
    bits = packed.keep_input(x.data, shape, cast(InputKind, x.kind), threads)
    noise = packed.keep_noise(e.data, shape, "sign", threads)
    return packed.multiply(bits, noise, weights, shape, threads)


INT8_BITS = replace(
    packed.PACKED,
    name="int8-bits",
    keep_input=KEEP,
    keep_noise=KEEP,
    multiply=multiply_bits,
    bias=weighted_bias,
)
