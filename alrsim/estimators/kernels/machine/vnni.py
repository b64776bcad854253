"""The product of bytes: ``C[m, n] += sum_k A[m, k] (E[n, k] - 128)`` with AVX-512 VNNI, 64 products an instruction.

Both operands are contiguous along k, as taps and noise are: nothing is transposed. A tile of 4 by 4 sums stays in
vector registers, each a vector of 16 partial sums that are added up at the end of a chunk. The instruction multiplies
unsigned by signed bytes; the noise is the unsigned one, moved up by 128, and what that adds is subtracted.
"""

from typing import Any

import llvmlite.binding as llvm  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from alrsim.compiled import machine_code
from alrsim.estimators.kernels.machine.popcount import cgutils
from alrsim.estimators.kernels.machine.taps import expand

Codes = npt.NDArray[np.int8]
Bytes = npt.NDArray[np.uint8]
Totals = npt.NDArray[np.int64]
Indices = npt.NDArray[np.int64]

TILE, STEP = 4, 64
"""Lines of either operand in a tile; bytes of a vector."""

LONGEST = 1 << 16
"""Bytes that 32-bit sums hold with certainty: 16 partial sums of 255 * 127 each could take sixteen times more."""

_WORD, _SUM = ir.IntType(64), ir.IntType(32)


def available() -> bool:
    """Whether this processor has the instruction."""
    return bool(llvm.get_host_cpu_features().get("avx512vnni", False))


def _tile(_typing: Any, a: Any, ap: Any, e: Any, ep: Any, c: Any, cp: Any, steps: Any) -> Any:
    """``c[i, j] += sum_k a[i, k] e[j, k]``; addresses, pitches in bytes (c: in sums), and the number of vectors."""
    sums, codes = ir.VectorType(_SUM, 16), ir.VectorType(_SUM, 16)
    cells = [(i, j) for i in range(TILE) for j in range(TILE)]

    def build(_context: Any, builder: Any, _signature: Any, given: Any) -> Any:
        a, a_pitch, e, e_pitch, c, c_pitch, steps = given
        kind = ir.FunctionType(sums, [sums, codes, codes])
        dot = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.vpdpbusd.512")

        def line(base: Any, pitch: Any, index: int, at: Any) -> Any:
            address = builder.add(builder.add(base, builder.mul(pitch, ir.Constant(_WORD, index))), at)
            return builder.load(builder.inttoptr(address, codes.as_pointer()), align=1)

        found = {cell: cgutils.alloca_once(builder, sums) for cell in cells}
        for cell in cells:
            builder.store(ir.Constant(sums, [0] * 16), found[cell])
        with cgutils.for_range(builder, steps) as loop:
            at = builder.mul(loop.index, ir.Constant(_WORD, STEP))
            right = [line(e, e_pitch, j, at) for j in range(TILE)]
            for i in range(TILE):
                left = line(a, a_pitch, i, at)
                for j in range(TILE):
                    builder.store(builder.call(dot, [builder.load(found[i, j]), right[j], left]), found[i, j])
        reduce = ir.FunctionType(_SUM, [sums])
        add = cgutils.get_or_insert_function(builder.module, reduce, "llvm.vector.reduce.add.v16i32")
        for i, j in cells:
            index = builder.add(builder.mul(c_pitch, ir.Constant(_WORD, i)), ir.Constant(_WORD, j))
            address = builder.add(c, builder.mul(index, ir.Constant(_WORD, 8)))
            place = builder.inttoptr(address, _WORD.as_pointer())
            value = builder.sext(builder.call(add, [builder.load(found[i, j])]), _WORD)
            builder.store(builder.add(builder.load(place), value), place)

    return types.void(a, ap, e, ep, c, cp, steps), build


_multiply_tile: Any = intrinsic(_tile)


@machine_code
def fold(e: Codes, weights: Indices, rows: int, low: int, high: int, out: Bytes) -> None:
    """``out[chunk, n, row * positions + p] = weight * e + 128``; what is behind the last row is left as it is.

    Args:
        e: ``(rows, outputs, positions)``.
        weights: ``(rows,)``, -127..127.
        rows: Of a chunk.
        low: First chunk to write. ``high``: behind the last.
        out: ``(chunks, outputs, length of a chunk)``.
    """
    outputs, positions = e.shape[1], e.shape[2]
    for row in range(low * rows, min(high * rows, len(e))):
        weight, at = np.int16(weights[row]), row % rows * positions
        for n in range(outputs):
            read, to = e[row, n], out[row // rows, n, at : at + positions]
            for p in range(positions):
                to[p] = np.uint8(np.int16(read[p]) * weight + np.int16(128))


@machine_code
def _sum(line: Codes) -> int:
    total = np.int32(0)
    for value in line:
        total += np.int32(value)
    return int(total)


@machine_code
def channel_sums(
    x: Codes, e: Bytes, rows: int, channels: tuple[int, int], source: Indices, shifts: Indices, masks: Codes
) -> Totals:
    """``(channels * taps, outputs)``, possibly longer by padding: the sums of some channels with some outputs.

    Args:
        x: ``(rows, channels, positions)``.
        e: ``(chunks, outputs, length)``: outputs a multiple of :data:`TILE`; see :func:`fold`.
        rows: Of a chunk.
        source, shifts, masks: See :func:`expand`.
    """
    taps, width = len(source), channels[1] - channels[0]
    m = width * taps
    length, outputs = e.shape[2], e.shape[1]
    padded = (m + TILE - 1) // TILE * TILE
    # Taps behind the last row of a chunk are 0, so that it does not matter what the noise holds there.
    held = np.zeros(padded * length + STEP, dtype=np.int8)
    skip = -held.ctypes.data % STEP
    flat = held[skip : skip + padded * length].reshape(padded, length)
    a = flat[:m].reshape(width, taps, length)
    total = np.zeros((padded, outputs), dtype=np.int64)
    low_a, low_c, steps = flat.ctypes.data, total.ctypes.data, length // STEP
    for chunk in range(len(e)):
        low = chunk * rows
        if len(x) - low < rows:
            flat[:] = 0
        expand(x, low, min(rows, len(x) - low), channels[0], source, shifts, masks, a)
        low_e = e[chunk].ctypes.data
        for n in range(0, outputs, TILE):
            for i in range(0, padded, TILE):
                to = low_c + 8 * (i * outputs + n)
                _multiply_tile(low_a + i * length, length, low_e + n * length, length, to, outputs, steps)
        for i in range(m):
            total[i] -= 128 * _sum(flat[i])
    return total
