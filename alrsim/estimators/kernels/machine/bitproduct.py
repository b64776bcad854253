"""Packed bits: packing, shifting a convolution's taps out of them, and their weighted counts.

Words are little-endian along the reduced axis and the channel is the fastest axis: bit ``i`` of ``words[row, l, c]`` is
position ``64 l + i`` of channel ``c``. Bits behind the last position are 0.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from alrsim.compiled import machine_code
from alrsim.estimators.kernels.machine.popcount import HIGH, LANES, Reals, Words, and_count, count_ones

SCRATCH = 1 << 15
"""Words of shifted input that are held at a time: 256 KiB, which stays in a core's second cache."""


def _define_mask(greater: bool) -> Any:
    """64 comparisons with 0 as one word; a vector of truth values is a word of bits where the processor has masks."""

    def mask(_typing: Any, array: Any, index: Any) -> Any:
        kind = ir.FloatType() if array.dtype == types.float32 else ir.IntType(8)

        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
            row = ir.VectorType(kind, 64)
            address = builder.bitcast(builder.gep(data, [arguments[1]]), row.as_pointer())
            values, zero = builder.load(address, align=kind_size), ir.Constant(row, [0] * 64)
            compare = builder.fcmp_ordered if kind_size == 4 else builder.icmp_signed
            return builder.bitcast(compare(">" if greater else "<", values, zero), ir.IntType(64))

        kind_size = 4 if array.dtype == types.float32 else 1
        return types.uint64(array, index), build

    return intrinsic(mask)


_above: Any = _define_mask(True)
_below: Any = _define_mask(False)


@machine_code
def pack_planes(x: npt.NDArray[Any], sign: int, first: int, last: int, packed: Words) -> None:
    """``(rows, channels, positions)`` to ``(rows, words, channels)``: bit = ``sign * x > 0``.

    Args:
        x: fp32 or int8, contiguous.
        first: Row to begin with. ``last``: Behind the last.
        packed: All of its rows; those asked for are written.
    """
    _, channels, positions = x.shape
    words = (positions + 63) // 64
    flat = x.reshape(-1)
    for row in range(first, last):
        for channel in range(channels):
            for word in range(words):
                low = 64 * word
                bits = np.uint64(0)
                if low + 64 <= positions:
                    at = (row * channels + channel) * positions + low
                    bits = _above(flat, at) if sign > 0 else _below(flat, at)
                else:
                    for bit in range(positions - low):
                        bits |= np.uint64(sign * x[row, channel, low + bit] > 0) << np.uint64(bit)
                packed[row, word, channel] = bits


@machine_code
def pack_rows(x: npt.NDArray[Any], sign: int) -> Words:
    """``(rows, features)`` to ``(ceil(rows / 64), features)``: bit = ``sign * x > 0``, along the rows."""
    rows, features = x.shape
    packed = np.zeros(((rows + 63) // 64, features), dtype=np.uint64)
    for row in range(rows):
        for feature in range(features):
            packed[row >> 6, feature] |= np.uint64(sign * x[row, feature] > 0) << np.uint64(row & 63)
    return packed


@machine_code
def _add_counts(a: Words, weight: float, single: Reals) -> None:
    """``single += weight * popcount(a)``, word by word."""
    for j in range(len(single)):
        v = a[j]
        v = v - ((v >> np.uint64(1)) & np.uint64(0x5555555555555555))
        v = (v & np.uint64(0x3333333333333333)) + ((v >> np.uint64(2)) & np.uint64(0x3333333333333333))
        v = (v + (v >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
        single[j] += weight * np.float64(np.int64((v * np.uint64(0x0101010101010101)) >> np.uint64(56)))


@machine_code
def count_columns(words: Words, weights: Reals) -> Reals:
    """``sum_b w_b sum_l popcount(words[b, l, n])``, ``(channels,)``."""
    single = np.zeros(words.shape[1] * words.shape[2])
    for block in range(len(words)):
        _add_counts(words[block].reshape(-1), weights[block], single)
    sums: Reals = single.reshape(words.shape[1], words.shape[2]).sum(0)
    return sums


@machine_code
def linear_counts(
    x: Words, e: Words, negative: Words, planes: Words, channels: tuple[int, int], ones: int
) -> tuple[Reals, Reals]:
    """Weighted counts of ``x & e`` and of ``x``: ``planes[q]`` holds bit ``q`` of each position's integer weight.

    Args:
        x: ``(words, inputs)``.
        e: ``(words, outputs)``.
        negative: ``(words,)``, the positions whose weight is negative: their bits of e are turned.
        planes: ``(planes, words)``.
    """
    words, outputs = e.shape
    first, last = channels
    width = last - first + ones
    high = (width + HIGH - 1) // HIGH * HIGH
    wide = (outputs + LANES - 1) // LANES * LANES
    step = (max(1, min(words, SCRATCH // high)) + LANES - 1) // LANES * LANES
    a, right = np.zeros((high, step), dtype=np.uint64), np.zeros((step, wide), dtype=np.uint64)
    total, single = np.zeros((high, wide)), np.zeros(high)
    weight, factors = np.zeros(1), np.zeros(step)
    for low in range(0, words, step):
        count = min(step, words - low)
        for word in range(count):
            for n in range(outputs):
                right[word, n] = e[low + word, n] ^ negative[low + word]
        for plane in range(len(planes)):
            weight[0] = np.float64(1 << plane)
            for word in range(count):
                mask = planes[plane, low + word]
                a[: last - first, word] = x[low + word, first:last] & mask
                if ones:
                    a[width - 1, word] = mask
            count_ones(a, width, weight, count, factors, single)
            and_count(a, right, weight, total, 0, 1, count)
    return total, single
