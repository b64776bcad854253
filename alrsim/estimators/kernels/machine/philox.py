"""Philox4x32-10 in loops that a compiler turns into vectors, and what is made of its bits.

Everything here is +, *, /, square root and integer arithmetic, all of them exact or correctly rounded, so that the
numbers are the same on every processor: no library's logarithm or cosine is called.

Source: J. Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from alrsim.compiled import machine_code
from alrsim.estimators.kernels.machine.hadamard import mixed_row, turn

Words = npt.NDArray[np.uint32]
Singles = npt.NDArray[np.float32]

TILE = 64
"""Counters that are worked on at a time: 8192 bits, which stay in the first cache."""

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)


def _define_bitcast(given: Any, made: Any, word: Any) -> Any:
    """The same 32 bits read as a value of another type."""

    def bitcast(_typing: Any, _value: Any) -> Any:
        def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return builder.bitcast(arguments[0], word)

        return made(given), build

    return intrinsic(bitcast)


_as_float: Any = _define_bitcast(types.uint32, types.float32, ir.FloatType())
_as_bits: Any = _define_bitcast(types.float32, types.uint32, ir.IntType(32))


@machine_code
def draw(key: tuple[int, int], counter: tuple[int, int, int], first: int, count: int, out: Words) -> None:
    """Words of blocks ``first`` to ``first + count - 1``: ``out[i, block - first]`` is word ``i`` of a block.

    Args:
        key: Two words.
        counter: Words 1 to 3 of the counter; word 0 is the block.
        out: ``(4, at least count)``.
    """
    a, b, c, d = out[0], out[1], out[2], out[3]
    k0, k1 = np.uint32(key[0]), np.uint32(key[1])
    c1, c2, c3 = np.uint32(counter[0]), np.uint32(counter[1]), np.uint32(counter[2])
    for i in range(count):
        x0, x1, x2, x3 = np.uint32(first + i), c1, c2, c3
        r0, r1 = k0, k1
        for _ in range(10):
            p0, p1 = _M0 * np.uint64(x0), _M1 * np.uint64(x2)
            x0, x2 = np.uint32(p1 >> np.uint64(32)) ^ x1 ^ r0, np.uint32(p0 >> np.uint64(32)) ^ x3 ^ r1
            x1, x3 = np.uint32(p1 & _LOW), np.uint32(p0 & _LOW)
            r0, r1 = np.uint32(r0 + _W0), np.uint32(r1 + _W1)
        a[i], b[i], c[i], d[i] = x0, x1, x2, x3


@machine_code
def add_signs(words: Words, weight: float, out: Singles) -> None:
    """``out[i] += weight * e_i`` with ``e_i = 1 - 2 * bit``; words are ``(4, blocks)``, 128 elements per block."""
    plain = _as_bits(np.float32(weight))
    for at in range(0, len(out), 32):
        word = words[at >> 5 & 3, at >> 7]
        part = out[at : at + 32]
        for bit in range(len(part)):
            turned = (word >> np.uint32(bit)) << np.uint32(31)
            part[bit] += _as_float(np.uint32(plain ^ turned))


@machine_code
def _log(word: int) -> float:
    """``-log((word + 1/2) / 2^32)`` of a random word: the exponent, and a series in ``(m - 1) / (m + 1)``."""
    number = np.float32(word) + np.float32(0.5)
    bits = _as_bits(number)
    # Mantissas above sqrt(2) count half, so that the series stays short.
    high = np.uint32((bits & np.uint32(0x7FFFFF)) > np.uint32(0x3504F3))
    exponent = np.float32(np.int32(bits >> np.uint32(23)) - np.int32(127) + np.int32(high))
    m = _as_float(np.uint32((bits & np.uint32(0x7FFFFF)) | ((np.uint32(127) - high) << np.uint32(23))))
    s = (m - np.float32(1)) / (m + np.float32(1))
    z = s * s
    series = np.float32(1 / 9) * z + np.float32(1 / 7)
    series = series * z + np.float32(1 / 5)
    series = series * z + np.float32(1 / 3)
    tail = np.float32(2) * s + np.float32(2) * s * z * series
    result: float = (np.float32(32) - exponent) * np.float32(0.6931471805599453) - tail
    return result


@machine_code
def gaussians(words: Words, count: int, out: Singles) -> None:
    """Box-Muller: ``out[4 block + i]`` from word ``i``; pairs (0, 1) and (2, 3) give the radius and the angle.

    Args:
        out: ``(4 * count,)``.
    """
    for pair in range(2):
        radius, angle = words[2 * pair], words[2 * pair + 1]
        for i in range(count):
            # At the largest words the logarithm may round below 0.
            square = max(np.float32(2) * _log(radius[i]), np.float32(0))
            r = np.sqrt(square)
            # The angle's upper two bits are the quadrant, the others x in [-1/2, 1/2) quarter turns.
            word = angle[i]
            quadrant = word >> np.uint32(30)
            x = np.float32(np.int32(word << np.uint32(2))) * np.float32(2.0**-32)
            t = x * np.float32(1.5707963267948966)
            z = t * t
            sine = np.float32(-1 / 5040) * z + np.float32(1 / 120)
            sine = sine * z + np.float32(-1 / 6)
            sine = t + t * z * sine
            cosine = np.float32(1 / 40320) * z + np.float32(-1 / 720)
            cosine = cosine * z + np.float32(1 / 24)
            cosine = cosine * z + np.float32(-1 / 2)
            cosine = np.float32(1) + z * cosine
            swap = (quadrant & np.uint32(1)) != 0
            first, second = (sine, cosine) if swap else (cosine, sine)
            turn = (quadrant << np.uint32(30)) & np.uint32(0x80000000)
            # Quarter turns: (c, s), (-s, c), (-c, -s), (s, -c).
            odd = (quadrant & np.uint32(1)) << np.uint32(31)
            out[4 * i + 2 * pair] = r * _as_float(np.uint32(_as_bits(first) ^ turn ^ odd))
            out[4 * i + 2 * pair + 1] = r * _as_float(np.uint32(_as_bits(second) ^ turn))


@machine_code
def laplacians(words: Words, count: int, out: Singles) -> None:
    """Unit variance: ``out[4 block + i]`` from word ``i``; its lowest bit is the sign, the others the size."""
    for lane in range(4):
        row = words[lane]
        for i in range(count):
            size = _log(row[i] | np.uint32(1)) * np.float32(0.7071067811865476)
            out[4 * i + lane] = _as_float(np.uint32(_as_bits(size) ^ (row[i] << np.uint32(31))))


@machine_code
def _make(kind: int, words: Words, count: int, out: Singles) -> None:
    if kind == 0 or kind == 3:
        out[:] = np.float32(0)
        add_signs(words, 1.0, out)
    elif kind == 1:
        gaussians(words, count, out)
    else:
        laplacians(words, count, out)


_NEVER, _SHUFFLE, _EPOCHS = -1, 0xFFFFFFFF, 1 << 31


@machine_code
def _order_bits(elements: int) -> int:
    bits = 0
    while 1 << bits < elements:
        bits += 1
    return bits


@machine_code
def _words_of(
    kind: int,
    key: tuple[int, int],
    counter: tuple[int, int, int],
    span: tuple[int, int],
    bits: int,
    signs: Words,
    drawn: int,
    out: Words,
) -> int:
    """Random words of blocks ``span[0]``, ``span[1]`` of them; Hadamard signs take their columns' signs from ``signs``.

    Args:
        bits: The Hadamard matrix has order ``2^bits``; later copies begin another one, with signs of its own.
        drawn: Whose signs those are: the number of the matrix. It is returned as it is now.
    """
    if kind != 3:
        draw(key, counter, span[0], span[1], out)
        return drawn
    sample, copy, lane = counter
    epoch = copy >> bits
    # Copies count up to 2^31, so that these counters are nobody else's.
    drawer = (sample, _EPOCHS + epoch, lane)
    if epoch != drawn:
        draw(key, drawer, span[0], span[1], signs)
    shuffle = np.empty((4, 1), dtype=np.uint32)
    draw(key, drawer, _SHUFFLE, 1, shuffle)
    turn(signs, mixed_row(copy, bits, shuffle[:, 0]), span[0], span[1], out)
    return epoch


@machine_code
def fill(kind: int, key: tuple[int, int], lane: int, copy: int, sample: int, low: int, high: int, out: Singles) -> None:
    """Noise of one copy, ``out[i]`` being the elements of sample ``sample + i``.

    Args:
        kind: 0 signs, 1 Gaussian, 2 Laplace, 3 Hadamard.
        low: First piece of work; a piece is :data:`TILE` blocks of one sample. ``high``: behind the last.
        out: ``(samples, elements)``.
    """
    per = 128 if kind == 0 or kind == 3 else 4
    elements = out.shape[1]
    pieces, bits = (elements + per * TILE - 1) // (per * TILE), _order_bits(elements)
    words, buffer = np.empty((4, TILE), dtype=np.uint32), np.empty(per * TILE, dtype=np.float32)
    signs = np.empty((4, TILE), dtype=np.uint32)
    for piece in range(low, high):
        row, first = piece // pieces, piece % pieces * TILE
        start = first * per
        size = min(per * TILE, elements - start)
        count = (size + per - 1) // per
        _words_of(kind, key, (sample + row, copy, lane), (first, count), bits, signs, _NEVER, words)
        _make(kind, words, count, buffer[: count * per])
        out[row, start : start + size] = buffer[:size]


@machine_code
def _add(values: Singles, weight: float, out: Singles) -> None:
    factor = np.float32(weight)
    for i in range(len(out)):
        out[i] += factor * values[i]


@machine_code
def accumulate(
    kind: int,
    key: tuple[int, int],
    lane: int,
    copy: int,
    sample: int,
    low: int,
    high: int,
    weights: Singles,
    out: Singles,
) -> None:
    """``out[i] += weights[k, i] * noise of copy + k, sample + i``, copies in ascending order; arguments as for fill."""
    per = 128 if kind == 0 or kind == 3 else 4
    elements = out.shape[1]
    pieces, bits = (elements + per * TILE - 1) // (per * TILE), _order_bits(elements)
    words, buffer = np.empty((4, TILE), dtype=np.uint32), np.empty(per * TILE, dtype=np.float32)
    signs = np.empty((4, TILE), dtype=np.uint32)
    for piece in range(low, high):
        row, first = piece // pieces, piece % pieces * TILE
        start = first * per
        size = min(per * TILE, elements - start)
        count = (size + per - 1) // per
        part, drawn = out[row, start : start + size], _NEVER
        for k in range(len(weights)):
            drawn = _words_of(kind, key, (sample + row, copy + k, lane), (first, count), bits, signs, drawn, words)
            if kind == 0 or kind == 3:
                add_signs(words, weights[k, row], part)
            else:
                _make(kind, words, count, buffer[: count * per])
                _add(buffer, weights[k, row], part)
