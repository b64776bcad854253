"""The product of bit matrices: ``C[m, n] += sum_b w_b sum_l popcount(A[b, l, m] & E[b, l, n])``.

Both operands have the channel as their fastest axis. A tile of C stays in vector registers while blocks and words go
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

from alrsim.estimators.kernels.machine.compile import machine_code

LANES = 8
"""64-bit words of a vector."""

Words = npt.NDArray[np.uint64]
Reals = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

cgutils: Any = _cgutils
_WORD, _REAL = ir.IntType(64), ir.DoubleType()


def _tile(high: int, wide: int) -> Any:
    """An intrinsic for a tile of ``high`` channels of A by ``wide`` vectors of E."""

    def generate(_typing: Any, *arguments: Any) -> Any:
        return types.void(*arguments), _body(high, wide)

    def tile(typing: Any, a: Any, at: Any, ab: Any, al: Any, e: Any, c: Any, w: Any, b: Any, d: Any, n: Any) -> Any:
        return generate(typing, a, at, ab, al, e, c, w, b, d, n)

    return intrinsic(tile)


def _body(high: int, wide: int) -> Any:
    row, reals = ir.VectorType(_WORD, LANES), ir.VectorType(_REAL, LANES)

    def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        a, at, a_block, a_word, e, c, w, blocks, words, width = arguments

        def load(base: Any, index: Any, kind: Any) -> Any:
            address = builder.add(base, builder.mul(index, ir.Constant(_WORD, 8)))
            return builder.load(builder.inttoptr(address, kind.as_pointer()), align=8)

        def place(base: Any, index: Any) -> Any:
            address = builder.add(base, builder.mul(index, ir.Constant(_WORD, 8)))
            return builder.inttoptr(address, reals.as_pointer())

        def spread(value: Any, kind: Any) -> Any:
            first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
            return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))

        def corner(i: int, t: int) -> Any:
            return builder.add(builder.mul(ir.Constant(_WORD, i), width), ir.Constant(_WORD, LANES * t))

        cells = [(i, t) for i in range(high) for t in range(wide)]
        count = cgutils.get_or_insert_function(builder.module, ir.FunctionType(row, [row]), f"llvm.ctpop.v{LANES}i64")
        totals = {cell: cgutils.alloca_once(builder, reals) for cell in cells}
        sums = {cell: cgutils.alloca_once(builder, row) for cell in cells}
        offsets = [load(at, ir.Constant(_WORD, i), _WORD) for i in range(high)]
        for i, t in cells:
            builder.store(builder.load(place(c, corner(i, t)), align=8), totals[i, t])
        with cgutils.for_range(builder, blocks) as outer:
            for cell in cells:
                builder.store(ir.Constant(row, [0] * LANES), sums[cell])
            with cgutils.for_range(builder, words) as inner:
                word = builder.add(builder.mul(outer.index, words), inner.index)
                left = builder.add(builder.mul(outer.index, a_block), builder.mul(inner.index, a_word))
                right = builder.mul(word, width)
                columns = [load(e, builder.add(right, ir.Constant(_WORD, LANES * t)), row) for t in range(wide)]
                for i in range(high):
                    one = spread(load(a, builder.add(left, offsets[i]), _WORD), row)
                    for t in range(wide):
                        found = builder.call(count, [builder.and_(one, columns[t])])
                        builder.store(builder.add(builder.load(sums[i, t]), found), sums[i, t])
            weight = spread(load(w, outer.index, _REAL), reals)
            for cell in cells:
                added = builder.fmul(weight, builder.sitofp(builder.load(sums[cell]), reals))
                builder.store(builder.fadd(builder.load(totals[cell]), added), totals[cell])
        for i, t in cells:
            builder.store(builder.load(totals[i, t]), place(c, corner(i, t)), align=8)

    return build


_tile_4x2: Any = _tile(4, 2)
_tile_8x1: Any = _tile(8, 1)

HIGH = 8
"""The number of channels of A is a multiple of this."""


@machine_code
def and_count(
    a: Words, offsets: Indices, strides: tuple[int, int], e: Words, weights: Reals, c: Reals, blocks: int, words: int
) -> None:
    """Add the weighted counts of ``a & e`` to ``c``, blocks in ascending order.

    Args:
        a: Any layout, contiguous: ``A[b, l, m]`` is word ``b * strides[0] + l * strides[1] + offsets[m]``.
        offsets: ``(M,)``, M a multiple of :data:`HIGH`.
        e: ``(blocks, words, N)``, contiguous, N a multiple of :data:`LANES`.
        weights: ``(blocks,)``.
        c: ``(M, N)``, contiguous.
    """
    m, n = c.shape
    low_a, low_e, low_c, low_w = a.ctypes.data, e.ctypes.data, c.ctypes.data, weights.ctypes.data
    low_o = offsets.ctypes.data
    block, word = strides
    column = 0
    while column + 16 <= n:
        for i in range(0, m, 4):
            to, right = low_c + 8 * (i * n + column), low_e + 8 * column
            _tile_4x2(low_a, low_o + 8 * i, block, word, right, to, low_w, blocks, words, n)
        column += 16
    if column < n:
        for i in range(0, m, 8):
            to, right = low_c + 8 * (i * n + column), low_e + 8 * column
            _tile_8x1(low_a, low_o + 8 * i, block, word, right, to, low_w, blocks, words, n)
