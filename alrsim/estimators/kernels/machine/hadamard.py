"""Randomised Hadamard signs in words of 32 bits: an element's sign is a parity of its row and column.

``H[row, column] = (-1)^popcount(row & column)``. Within a word of 32 columns the low five bits of the row choose one of
32 patterns, and the other bits turn the whole word or leave it.
"""

import numpy as np
import numpy.typing as npt

from alrsim.compiled import machine_code

Words = npt.NDArray[np.uint32]


def _patterns() -> Words:
    columns, rows = np.arange(32), np.arange(32)[:, None]
    parity = np.array([bin(value).count("1") & 1 for value in range(32)])[rows & columns]
    found: Words = (parity.astype(np.uint64) << columns.astype(np.uint64)).sum(1).astype(np.uint32)
    return found


PATTERNS: Words = _patterns()
"""Bit ``t`` of ``PATTERNS[r]`` is the parity of ``r & t``."""


@machine_code
def mixed_row(copy: int, order_bits: int, words: Words) -> int:
    """Row of a copy: a permutation of ``0 .. 2^order_bits - 1``, drawn by three random words.

    Odd multipliers, sums modulo a power of two and shifts to the right that are added by XOR can all be undone, hence
    no row comes twice.
    """
    mask = np.uint64((1 << order_bits) - 1)
    half = np.uint64(max(1, order_bits // 2))
    row = np.uint64(copy) & mask
    row = (row + np.uint64(words[0])) & mask
    row = (row * (np.uint64(words[1]) | np.uint64(1))) & mask
    row ^= row >> half
    row = (row * (np.uint64(words[2]) | np.uint64(1))) & mask
    row ^= row >> half
    return int(row)


@machine_code
def _parity(value: int) -> int:
    v = np.uint64(value)
    for shift in (16, 8, 4, 2, 1):
        v ^= v >> np.uint64(shift)
    return int(v & np.uint64(1))


@machine_code
def turn(signs: Words, row: int, first: int, count: int, out: Words) -> None:
    """``out = signs`` times row ``row`` of the Hadamard matrix.

    Args:
        signs: ``(4, >= count)``, signs of the columns: word ``i`` of block ``first + b`` is ``signs[i, b]``.
        out: Of the same layout.
    """
    pattern, high = PATTERNS[row & 31], row >> 5
    for word in range(4):
        for block in range(count):
            flip = np.uint32(0) - np.uint32(_parity(high & (4 * (first + block) + word)))
            out[word, block] = signs[word, block] ^ pattern ^ flip
