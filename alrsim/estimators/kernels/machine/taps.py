"""im2col in the operand's own format, a block of rows at a time: numbers are moved as bits, whatever they are."""

from typing import Any

import numpy as np
import numpy.typing as npt

from alrsim.compiled import machine_code

Bits = npt.NDArray[Any]
Indices = npt.NDArray[np.int64]


@machine_code
def _masked(read: Bits, mask: Bits, out: Bits) -> None:
    for p in range(len(out)):
        out[p] = read[p] & mask[p]


@machine_code
def _picked(plane: Bits, source: Indices, out: Bits) -> None:
    for p in range(len(out)):
        out[p] = plane[source[p]] if source[p] >= 0 else 0


@machine_code
def expand(x: Bits, low: int, count: int, first: int, source: Indices, shifts: Indices, masks: Bits, out: Bits) -> None:
    """Write ``out[c, tap, row * positions + p] = x[low + row, first + c, source[tap, p]]``, 0 in the padding.

    Args:
        x: ``(rows, channels, positions of the input)``, contiguous.
        masks: ``(taps, positions)``: all bits where a tap reads, else 0; of x's type.
        out: ``(channels to expand, taps, at least count * positions)``.
    """
    channels, inner = x.shape[1], x.shape[2]
    positions = source.shape[1]
    flat = x.reshape(-1)
    for c in range(out.shape[0]):
        for tap in range(len(source)):
            for row in range(count):
                start = ((low + row) * channels + first + c) * inner
                to = row * positions
                if len(shifts):
                    # What lies outside the plane is masked; only the ends of the whole array must not be crossed.
                    base = start + shifts[tap]
                    begin = min(positions, max(0, -base))
                    end = max(begin, min(positions, len(flat) - base))
                    out[c, tap, to : to + begin] = 0
                    out[c, tap, to + end : to + positions] = 0
                    read = flat[base + begin : base + end]
                    _masked(read, masks[tap, begin:end], out[c, tap, to + begin : to + end])
                else:
                    _picked(flat[start : start + inner], source[tap], out[c, tap, to : to + positions])
