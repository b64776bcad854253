"""The product of bit matrices: ``C[m, n] += sum_b w_b sum_l popcount(A[m, b, l] & E[b, l, n])``.

A tile of C stays in vector registers while blocks and words go
by: each word of A is broadcast against eight words of E, so that no sum across lanes is ever needed and one fp64
multiply and add per block applies a real weight. The tile is written in LLVM's vector types: ``ctpop`` on eight 64-bit
lanes is one instruction with AVX-512 VPOPCNTDQ and a short sequence of shuffles elsewhere.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils as _cgutils
from numba.extending import intrinsic

from alrsim.compiled import machine_code

LANES = 8
"""64-bit words of a vector."""

Words = npt.NDArray[np.uint64]
Reals = npt.NDArray[np.float64]

cgutils: Any = _cgutils
_WORD, _REAL = ir.IntType(64), ir.DoubleType()


def _tile(high: int, wide: int) -> Any:
    """An intrinsic for a tile of ``high`` channels of A by ``wide`` vectors of E."""

    def tile(_typing: Any, a: Any, ap: Any, e: Any, ep: Any, c: Any, cp: Any, w: Any, b: Any, d: Any) -> Any:
        return types.void(a, ap, e, ep, c, cp, w, b, d), _body(high, wide)

    return intrinsic(tile)


def _body(high: int, wide: int) -> Any:
    row, reals = ir.VectorType(_WORD, LANES), ir.VectorType(_REAL, LANES)

    def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        a, a_pitch, e, e_pitch, c, c_pitch, w, blocks, words = arguments

        def place(base: Any, index: Any, kind: Any) -> Any:
            address = builder.add(base, builder.mul(index, ir.Constant(_WORD, 8)))
            return builder.inttoptr(address, kind.as_pointer())

        def load(base: Any, index: Any, kind: Any) -> Any:
            return builder.load(place(base, index, kind), align=8)

        def spread(value: Any, kind: Any) -> Any:
            first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
            return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))

        def corner(i: int, t: int) -> Any:
            return builder.add(builder.mul(ir.Constant(_WORD, i), c_pitch), ir.Constant(_WORD, LANES * t))

        cells = [(i, t) for i in range(high) for t in range(wide)]
        count = cgutils.get_or_insert_function(builder.module, ir.FunctionType(row, [row]), f"llvm.ctpop.v{LANES}i64")
        totals = {cell: cgutils.alloca_once(builder, reals) for cell in cells}
        sums = {cell: cgutils.alloca_once(builder, row) for cell in cells}
        lines = [builder.mul(ir.Constant(_WORD, i), a_pitch) for i in range(high)]
        for i, t in cells:
            builder.store(load(c, corner(i, t), reals), totals[i, t])
        with cgutils.for_range(builder, blocks) as outer:
            for cell in cells:
                builder.store(ir.Constant(row, [0] * LANES), sums[cell])
            with cgutils.for_range(builder, words) as inner:
                word = builder.add(builder.mul(outer.index, words), inner.index)
                right = builder.mul(word, e_pitch)
                columns = [load(e, builder.add(right, ir.Constant(_WORD, LANES * t)), row) for t in range(wide)]
                for i in range(high):
                    one = spread(load(a, builder.add(word, lines[i]), _WORD), row)
                    for t in range(wide):
                        found = builder.call(count, [builder.and_(one, columns[t])])
                        builder.store(builder.add(builder.load(sums[i, t]), found), sums[i, t])
            weight = spread(load(w, outer.index, _REAL), reals)
            for cell in cells:
                added = builder.fmul(weight, builder.sitofp(builder.load(sums[cell]), reals))
                builder.store(builder.fadd(builder.load(totals[cell]), added), totals[cell])
        for i, t in cells:
            builder.store(builder.load(totals[i, t]), place(c, corner(i, t), reals), align=8)

    return build


_tile_4x2: Any = _tile(4, 2)
_tile_8x1: Any = _tile(8, 1)

HIGH = 8
"""The number of lines of A is a multiple of this."""


@machine_code
def and_count(a: Words, e: Words, weights: Reals, c: Reals, column: int, blocks: int, words: int) -> None:
    """Add the weighted counts of ``a & e`` to ``c[:, column : column + lanes]``, blocks in ascending order.

    Args:
        a: ``(M, at least blocks * words)``, contiguous, M a multiple of :data:`HIGH`.
        e: ``(blocks * words, lanes)``, contiguous, lanes a multiple of :data:`LANES`.
        weights: ``(blocks,)``.
        c: ``(M, N)``, contiguous.
    """
    m, n = c.shape
    pitch, lanes = a.shape[1], e.shape[1]
    low_a, low_e, low_c, low_w = a.ctypes.data, e.ctypes.data, c.ctypes.data, weights.ctypes.data
    at = 0
    while at + 16 <= lanes:
        for i in range(0, m, 4):
            to = low_c + 8 * (i * n + column + at)
            _tile_4x2(low_a + 8 * i * pitch, pitch, low_e + 8 * at, lanes, to, n, low_w, blocks, words)
        at += 16
    if at < lanes:
        for i in range(0, m, 8):
            to = low_c + 8 * (i * n + column + at)
            _tile_8x1(low_a + 8 * i * pitch, pitch, low_e + 8 * at, lanes, to, n, low_w, blocks, words)


def _weighted_ones(_typing: Any, _a: Any, _weights: Any, _count: Any) -> Any:
    """``sum_t weights[t] * popcount(a[t])`` over a multiple of :data:`LANES` words; arguments are addresses."""
    row, reals = ir.VectorType(_WORD, LANES), ir.VectorType(_REAL, LANES)

    def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        a, weights, steps = arguments
        count = cgutils.get_or_insert_function(builder.module, ir.FunctionType(row, [row]), f"llvm.ctpop.v{LANES}i64")
        total = cgutils.alloca_once(builder, reals)
        builder.store(ir.Constant(reals, [0.0] * LANES), total)
        with cgutils.for_range(builder, steps) as loop:
            at = builder.mul(loop.index, ir.Constant(_WORD, 8 * LANES))
            bits = builder.load(builder.inttoptr(builder.add(a, at), row.as_pointer()), align=8)
            factors = builder.load(builder.inttoptr(builder.add(weights, at), reals.as_pointer()), align=8)
            ones = builder.sitofp(builder.call(count, [bits]), reals)
            builder.store(builder.fadd(builder.load(total), builder.fmul(ones, factors)), total)
        found, result = builder.load(total), ir.Constant(_REAL, 0.0)
        for lane in range(LANES):
            result = builder.fadd(result, builder.extract_element(found, ir.Constant(ir.IntType(32), lane)))
        return result

    return types.float64(types.int64, types.int64, types.int64), build


_ones: Any = intrinsic(_weighted_ones)


@machine_code
def count_ones(a: Words, lines: int, weights: Reals, words: int, each: Reals, single: Reals) -> None:
    """``single[m] += sum_b weights[b] * popcount of block b of a[m]``.

    Args:
        a: ``(M, pitch)``, the pitch a multiple of :data:`LANES`; words behind the last block may hold anything.
        each: ``(pitch,)``, that is written.
    """
    each[:] = 0.0
    for block in range(len(weights)):
        each[block * words : (block + 1) * words] = weights[block]
    low, factors, pitch = a.ctypes.data, each.ctypes.data, a.shape[1]
    steps = (len(weights) * words + LANES - 1) // LANES
    for m in range(lines):
        single[m] += _ones(low + 8 * m * pitch, factors, steps)
