"""The linear maps whose gradient is a weighted product, and where a convolution's taps read."""

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class LinearShape:
    """``y = x W'``: x ``(rows, [positions,] inputs)``, y ``(rows, [positions,] outputs)``, W ``(outputs, inputs)``."""

    inputs: int
    outputs: int
    positions: int = 1

    @property
    def weight(self) -> tuple[int, ...]:
        return self.outputs, self.inputs


@dataclass(frozen=True, slots=True)
class ConvShape:
    """A convolution over 1, 2 or 3 axes: x is ``(rows, inputs, *size)``, W ``(outputs, inputs / groups, *kernel)``.

    Attributes:
        size: Height and width (or length; depth, height, width) of the input.
    """

    inputs: int
    outputs: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    @property
    def weight(self) -> tuple[int, ...]:
        return self.outputs, self.inputs // self.groups, *self.kernel

    @property
    def out_size(self) -> tuple[int, ...]:
        axes = zip(self.size, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        return tuple((n + 2 * pad - gap * (k - 1) - 1) // step + 1 for n, k, step, pad, gap in axes)

    @property
    def positions(self) -> int:
        return prod(self.out_size)

    @property
    def taps(self) -> int:
        return prod(self.kernel)


Shape = LinearShape | ConvShape


@dataclass(frozen=True)
class Taps:
    """Which input position each tap reads for each output position.

    Attributes:
        source: int64 ``(taps, positions)``; -1 in the padding.
        shifts: int64 ``(taps,)``, if every tap reads ``position + shift`` wherever it reads at all; else empty. Then a
            whole plane is moved at once and ``source >= 0`` masks what wraps around its edges.
    """

    source: npt.NDArray[np.int64]
    shifts: npt.NDArray[np.int64]


@lru_cache(maxsize=256)
def taps_of(shape: ConvShape) -> Taps:
    """The table of a convolution; the same for all its rows and channels."""
    outs, source = shape.out_size, np.zeros((1, 1), dtype=np.int64)
    valid = np.ones((1, 1), dtype=bool)
    for axis, size in enumerate(shape.size):
        tap = np.arange(shape.kernel[axis])[:, None] * shape.dilation[axis]
        at = np.arange(outs[axis])[None] * shape.stride[axis] + tap - shape.padding[axis]
        inside = (at >= 0) & (at < size)
        source = (source[:, None, :, None] * size + at[None, :, None, :]).reshape(len(source) * len(at), -1)
        valid = (valid[:, None, :, None] & inside[None, :, None, :]).reshape(source.shape)
    moved = source - np.arange(source.shape[1])
    shifts = np.array([row[ok][0] if ok.any() else 0 for row, ok in zip(moved, valid, strict=True)], dtype=np.int64)
    regular = bool((np.where(valid, moved, shifts[:, None]) == shifts[:, None]).all())
    return Taps(np.where(valid, source, -1), shifts if regular else shifts[:0])
