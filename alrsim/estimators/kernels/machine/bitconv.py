"""A convolution's weighted sums of bits, a few channels at a time: no im2col in memory, only shifted words in cache.

The planes of all rows are one long string of bits per channel. A tap of stride 1 is that string moved by some bits;
what it then reads from a neighbouring line, plane or row is masked. Rows come in blocks whose weight is one number: a
block is a row, or a group of rows whose planes share words.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from alrsim.compiled import machine_code
from alrsim.estimators.kernels.machine.popcount import HIGH, LANES, Reals, Words, and_count, cgutils, count_ones

Indices = npt.NDArray[np.int64]

CHUNK = 128
"""Words of a channel's string that are worked on at a time: a tile of both operands stays in the first cache."""


@machine_code
def merged(
    words: Words,
    order: Indices,
    flips: Words,
    fields: tuple[int, int, int],
    columns: tuple[int, int],
    at: int,
    out: Words,
) -> None:
    """Columns of rows in a new order, possibly several rows in one word: ``out[w, c]``.

    Args:
        words: ``(rows, words, columns)``.
        order: Row of each place; places behind its end are 0.
        flips: ``(len(order),)``: all ones where a row's bits are turned.
        fields: Rows per word, bits of each, and words of a row (or of the rows that share one).
        columns: From and to.
        at: First word, counted over all rows.
        out: ``(words, at least columns)``.
    """
    per, bits, inner = fields
    width = columns[1] - columns[0]
    mask = ~np.uint64(0) if bits == 64 else (np.uint64(1) << np.uint64(bits)) - np.uint64(1)
    place, word = at // inner * per, at % inner - 1
    for w in range(len(out)):
        out[w, :width] = np.uint64(0)
        word += 1
        if word == inner:
            word, place = 0, place + per
        if word >= words.shape[1]:
            continue
        for field in range(min(per, len(order) - place)):
            row, flip, up = order[place + field], flips[place + field], np.uint64(field * bits)
            read = words[row, word, columns[0] : columns[1]]
            if per == 1:
                for c in range(width):
                    out[w, c] = read[c] ^ flip
            else:
                for c in range(width):
                    out[w, c] |= ((read[c] ^ flip) & mask) << up


@machine_code
def panels(
    e: Words, order: Indices, flips: Words, fields: tuple[int, int, int], columns: tuple[int, int], out: Words
) -> None:
    """Noise in panels: ``out[q, w, j]`` is output ``columns[0] + q * lanes + j``; see :func:`merged`."""
    lanes = out.shape[2]
    for q in range(len(out)):
        begin = columns[0] + q * lanes
        end = min(begin + lanes, columns[1])
        if end < begin + lanes:
            out[q] = np.uint64(0)
        merged(e, order, flips, fields, (begin, end), 0, out[q])


def _define_funnel(_typing: Any, _low: Any, _high: Any, _shift: Any) -> Any:
    """64 bits from a place in two words: one instruction where the processor has it (AVX-512 VBMI2)."""

    def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        low, high, shift = arguments
        word = ir.IntType(64)
        kind = ir.FunctionType(word, [word, word, word])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.fshr.i64"), [high, low, shift])

    return types.uint64(types.uint64, types.uint64, types.uint64), build


_funnel: Any = intrinsic(_define_funnel)


@machine_code
def _gather(x: Words, source: Indices, width: int, out: Words) -> None:
    """One tap of any stride of one row, bit by bit; ``(words, width)`` to ``(words, width)``."""
    out[:] = np.uint64(0)
    for position in range(len(source)):
        at = source[position]
        if at >= 0:
            r, bit = np.uint64(at & 63), np.uint64(position & 63)
            here, there = x[at >> 6], out[position >> 6]
            for c in range(width):
                there[c] |= ((here[c] >> r) & np.uint64(1)) << bit


@machine_code
def _moved(
    x: Words,
    order: Indices,
    fields: tuple[int, int, int],
    channels: tuple[int, int],
    at: int,
    count: int,
    shifts: Indices,
    mask: Words,
    a: Words,
) -> None:
    """``a[c * taps + tap, :count]`` from words ``at ...`` of the string, for taps that shift."""
    taps, width = len(shifts), channels[1] - channels[0]
    reach = 1
    for tap in range(taps):
        reach = max(reach, abs(shifts[tap] >> 6) + 2)
    around = np.zeros((count, width), dtype=np.uint64)
    # What lies outside the chunk is masked, unless a row is cut; rows never are.
    line = np.zeros(reach + count + reach, dtype=np.uint64)
    flips = np.zeros(len(order), dtype=np.uint64)
    merged(x, order, flips, fields, channels, at, around)
    for c in range(width):
        line[reach : reach + count] = around[:, c]
        for tap in range(taps):
            begin, right = reach + (shifts[tap] >> 6), np.uint64(shifts[tap] & 63)
            low, high = line[begin : begin + count], line[begin + 1 : begin + 1 + count]
            inside, out = mask[tap, :count], a[c * taps + tap, :count]
            for t in range(count):
                out[t] = _funnel(low[t], high[t], right) & inside[t]


@machine_code
def _picked(
    x: Words, order: Indices, channels: tuple[int, int], at: int, count: int, words: int, source: Indices, a: Words
) -> None:
    """The same for taps of any stride; a word holds one row."""
    taps, width = len(source), channels[1] - channels[0]
    found = np.zeros((words, width), dtype=np.uint64)
    for row in range(at // words, (at + count) // words):
        to = row * words - at
        if row >= len(order):
            a[: width * taps, to : to + words] = np.uint64(0)
            continue
        read = x[order[row], :, channels[0] : channels[1]]
        for tap in range(taps):
            _gather(read, source[tap], width, found)
            for c in range(width):
                for w in range(words):
                    a[c * taps + tap, to + w] = found[w, c]


@machine_code
def block_counts(
    x: Words,
    e: Words,
    weights: Reals,
    order: Indices,
    fields: tuple[int, int, int],
    channels: tuple[int, int],
    each: int,
    source: Indices,
    shifts: Indices,
    mask: Words,
) -> tuple[Reals, Reals]:
    """Weighted counts of ``tap(x) & e`` and of ``tap(x)``, blocks in ascending order.

    Args:
        x: ``(rows, words of an input's plane, channels)``.
        e: ``(panels, words of all blocks, lanes)``; see :func:`panels`.
        weights: ``(blocks,)``.
        order: Row of each place.
        fields: As :func:`merged` has them.
        channels: From and to.
        each: Words of a block.
        source, shifts: Of :func:`taps_of`.
        mask: ``(taps, at least a chunk's words)``: where a tap reads inside the input, over and over.

    Returns:
        ``(channels * taps, outputs)``, both possibly longer by padding, and ``(channels * taps,)``.
    """
    taps, width = len(source), channels[1] - channels[0]
    m = width * taps
    high, lanes = (m + HIGH - 1) // HIGH * HIGH, e.shape[2]
    step = max(1, CHUNK // each)
    # A pitch of whole vectors, and not a multiple of a page: lines of a tile would push each other out of the cache.
    pitch = (step * each + LANES - 1) // LANES * LANES + LANES
    held = np.zeros(high * pitch + LANES, dtype=np.uint64)
    skip = -held.ctypes.data % (8 * LANES) // 8
    a = held[skip : skip + high * pitch].reshape(high, pitch)
    total, single, factors = np.zeros((high, len(e) * lanes)), np.zeros(high), np.zeros(pitch)
    for low in range(0, len(weights), step):
        blocks = min(step, len(weights) - low)
        at, count = low * each, blocks * each
        part = weights[low : low + blocks]
        if len(shifts):
            _moved(x, order, fields, channels, at, count, shifts, mask, a)
        else:
            _picked(x, order, channels, at, count, fields[2], source, a)
        count_ones(a, m, part, each, factors, single)
        for q in range(len(e)):
            and_count(a, e[q, at : at + count], part, total, q * lanes, blocks, each)
    return total, single


@machine_code
def combine(total: Reals, single: Reals, valid: Reals, ones: Reals, bipolar: int, sign: float, out: Any) -> None:
    """Counts to sums of signs, added to ``out[n, m]``: ``2 total - single``; for a +-1 code once more.

    Args:
        valid, ones: The counts of a channel of ones, for a +-1 code.
        sign: That the sums are multiplied by.
    """
    taps = len(ones)
    for low in range(0, len(out), LANES):
        for m in range(out.shape[1]):
            for n in range(low, min(low + LANES, len(out))):
                value = 2 * total[m, n] - single[m]
                if bipolar:
                    value = 2 * value - (2 * valid[m % taps, n] - ones[m % taps])
                out[n, m] += sign * value
