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

from alrsim.estimators.kernels.machine.compile import machine_code
from alrsim.estimators.kernels.machine.popcount import HIGH, LANES, Reals, Words, and_count

Indices = npt.NDArray[np.int64]

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
def pack_planes(x: npt.NDArray[Any], sign: int) -> Words:
    """``(rows, channels, positions)`` to ``(rows, words, channels)``: bit = ``sign * x > 0``.

    Args:
        x: fp32 or int8, contiguous.
    """
    rows, channels, positions = x.shape
    words = (positions + 63) // 64
    packed = np.zeros((rows, words, channels), dtype=np.uint64)
    flat = x.reshape(-1)
    for row in range(rows):
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
    return packed


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
def _funnel(low: Words, high: Words, shift: int, mask: Words, out: Words) -> None:
    """Bits ``shift`` to ``shift + 63`` of each pair of words."""
    right, left = np.uint64(shift), np.uint64(63 - shift)
    for j in range(len(out)):
        out[j] = ((low[j] >> right) | (high[j] << np.uint64(1) << left)) & mask[j]


@machine_code
def _gather(x: Words, source: Indices, width: int, out: Words) -> None:
    """One tap of any stride, bit by bit; ``x`` and ``out`` are ``(words * width,)``."""
    out[:] = np.uint64(0)
    for position in range(len(source)):
        if source[position] >= 0:
            at = (source[position] >> 6) * width
            to = (position >> 6) * width
            r, bit = np.uint64(source[position] & 63), np.uint64(position & 63)
            here, there = x[at : at + width], out[to : to + width]
            for c in range(width):
                there[c] |= ((here[c] >> r) & np.uint64(1)) << bit


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
def convolution_counts(
    x: Words,
    e: Words,
    weights: Reals,
    channels: tuple[int, int],
    outputs: tuple[int, int],
    source: Indices,
    shifts: Indices,
    masks: Words,
    ones: int,
) -> tuple[Reals, Reals]:
    """Weighted counts of ``tap(x) & e`` and of ``tap(x)``, rows in ascending order.

    Args:
        x: ``(rows, words of the input, channels)``.
        e: ``(rows, words of the output, outputs)``.
        weights: ``(rows,)``.
        channels: Which channels of x, from and to; likewise ``outputs``.
        masks: ``(taps, words of the output)``: where a tap reads inside the input.
        ones: 1 adds a channel of ones, whose taps are the masks.

    Returns:
        ``(taps * channels, outputs)``, possibly longer by padding, and ``(taps * channels,)``.
    """
    rows, inner, words, taps = len(x), x.shape[1], e.shape[1], len(source)
    first, last = channels
    width = last - first + ones
    span = words * width
    wide = (outputs[1] - outputs[0] + LANES - 1) // LANES * LANES
    whole = outputs[0] == 0 and wide == e.shape[2]
    step = max(1, min(rows, SCRATCH // (taps * span)))
    high = (taps * width + HIGH - 1) // HIGH * HIGH
    offsets = np.zeros(high, dtype=np.int64)
    for m in range(taps * width):
        offsets[m] = m // width * span + m % width
    mask = np.zeros((taps, words, width), dtype=np.uint64)
    for c in range(width):
        mask[:, :, c] = masks
    flat = mask.reshape(taps, span)
    # Words before and behind the plane are 0, so that a shift never has to ask where it is.
    guard = max(words, inner) + 1
    plane = np.zeros((guard + inner + guard, width), dtype=np.uint64)
    if ones:
        plane[:, width - 1] = ~np.uint64(0)
    line = plane.reshape(-1)
    a = np.zeros((step, taps, span), dtype=np.uint64)
    right = np.zeros((step, words, wide), dtype=np.uint64)
    total, single = np.zeros((high, wide)), np.zeros(taps * span)
    for low in range(0, rows, step):
        count = min(step, rows - low)
        for row in range(count):
            plane[guard : guard + inner, : last - first] = x[low + row, :, first:last]
            for tap in range(taps):
                if len(shifts):
                    at = (guard + (shifts[tap] >> 6)) * width
                    if at < 0 or at + span + width > len(line):
                        a[row, tap] = np.uint64(0)  # a tap that never reads
                        continue
                    here, there = line[at : at + span], line[at + width : at + width + span]
                    _funnel(here, there, shifts[tap] & 63, flat[tap], a[row, tap])
                else:
                    _gather(line[guard * width : (guard + inner) * width], source[tap], width, a[row, tap])
            _add_counts(a[row].reshape(-1), weights[low + row], single)
        part = weights[low : low + count]
        if whole:
            right = e[low : low + count]
        else:
            right[:count, :, : outputs[1] - outputs[0]] = e[low : low + count, :, outputs[0] : outputs[1]]
        and_count(a, offsets, (taps * span, width), right, part, total, count, words)
    sums = single.reshape(taps, words, width)
    folded = np.zeros((taps, width))
    for word in range(words):
        folded += sums[:, word]
    return total, folded.reshape(-1)


@machine_code
def combine(total: Reals, single: Reals, ones: int, start: int, out: npt.NDArray[np.float64]) -> None:
    """Counts of :func:`convolution_counts` to sums of signs: ``2 total - single``, for a +-1 code once more.

    Args:
        start: First channel of ``out`` that is written.
        out: ``(outputs, channels, taps)``.
    """
    outputs, taps = out.shape[0], out.shape[2]
    width = len(single) // taps
    for low in range(0, outputs, LANES):
        for c in range(width - ones):
            for tap in range(taps):
                m, v = tap * width + c, tap * width + width - 1
                for n in range(low, min(low + LANES, outputs)):
                    value = 2 * total[m, n] - single[m]
                    if ones:
                        value = 2 * value - (2 * total[v, n] - single[v])
                    out[n, start + c, tap] = value


@machine_code
def linear_counts(
    x: Words, e: Words, negative: Words, planes: Words, channels: tuple[int, int], ones: int
) -> tuple[Reals, Reals]:
    """The same for integer weights of single bits: ``planes[q]`` holds bit ``q`` of each position's weight.

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
    step = max(1, min(words, SCRATCH // high))
    a, right = np.zeros((step, high), dtype=np.uint64), np.zeros((1, step, wide), dtype=np.uint64)
    total, single = np.zeros((high, wide)), np.zeros(high)
    offsets, weight = np.arange(high), np.zeros(1)
    for low in range(0, words, step):
        count = min(step, words - low)
        for word in range(count):
            for n in range(outputs):
                right[0, word, n] = e[low + word, n] ^ negative[low + word]
        for plane in range(len(planes)):
            weight[0] = np.float64(1 << plane)
            for word in range(count):
                mask = planes[plane, low + word]
                a[word, : last - first] = x[low + word, first:last] & mask
                if ones:
                    a[word, width - 1] = mask
                _add_counts(a[word], weight[0], single)
            and_count(a, offsets, (0, high), right, weight, total, 1, count)
    return total, single
