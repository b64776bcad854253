"""One matrix product per block of rows, over im2col in the operands' own format."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from alrsim.estimators.kernels.shapes import ConvShape, taps_of
from alrsim.estimators.kernels.state import group_ranges
from alrsim.estimators.kernels.threads import spread

Matmul = Callable[[Tensor, Tensor], Tensor]
"""``(M, K) @ (N, K)'``; both are contiguous along K."""

BLOCK_BYTES = 2 << 20
"""Of im2col at a time."""

_MOVED = {1: torch.int8, 2: torch.int16, 4: torch.int32}


def convolution(
    x: Tensor, weighted: Tensor, shape: ConvShape, matmul: Matmul, total: torch.dtype, longest: int, threads: int
) -> Tensor:
    """``sum over rows and positions of tap(x) * weighted``, of ``shape.weight``, in format ``total``.

    Every thread has rows of its own and torch computes on that thread alone: waiting threads of torch's pool spin, and
    would take the cores from threads that expand.

    Args:
        x: ``(rows, inputs, *size)``.
        weighted: ``(outputs, rows, positions)``, contiguous; the weights are in it.
        longest: Most elements that one product may sum.
    """
    parts: dict[int, Tensor] = {}

    def part(low: int, high: int) -> None:
        torch.set_num_threads(1)
        operands = x, weighted, shape, matmul, total, longest
        parts[low] = torch.cat([_group(*operands, *ranges, low, high) for ranges in group_ranges(shape)])

    with intra_op(1):
        spread(part, len(x), threads)
    result = torch.zeros(shape.outputs, shape.inputs // shape.groups * shape.taps, dtype=total)
    for low in sorted(parts):
        result += parts[low]
    return result.view(shape.weight)


def _group(
    x: Tensor,
    weighted: Tensor,
    shape: ConvShape,
    matmul: Matmul,
    total: torch.dtype,
    longest: int,
    channels: tuple[int, int],
    outputs: tuple[int, int],
    first: int,
    last: int,
) -> Tensor:
    """One group's ``(outputs, channels * taps)`` over rows ``first`` to ``last - 1``, a block of rows at a time."""
    from alrsim.estimators.kernels.machine.taps import expand

    table, positions, width = taps_of(shape), shape.positions, channels[1] - channels[0]
    planes = x.detach().contiguous().flatten(2).view(_MOVED[x.element_size()]).numpy()
    masks = (table.source >= 0).astype(planes.dtype) * planes.dtype.type(-1)
    weighted = weighted[outputs[0] : outputs[1]]
    step = max(1, BLOCK_BYTES // (width * shape.taps * positions * x.element_size()))
    result = torch.zeros(len(weighted), width * shape.taps, dtype=total)
    columns = np.empty((width, shape.taps, min(step, last - first) * positions), dtype=planes.dtype)
    for low in range(first, last, step):
        count = min(step, last - low)
        if count * positions < columns.shape[2]:
            columns = np.empty((width, shape.taps, count * positions), dtype=planes.dtype)
        expand(planes, low, count, channels[0], table.source, table.shifts, masks, columns)
        left = torch.from_numpy(columns).view(x.dtype).view(width * shape.taps, -1)
        right = weighted[:, low : low + count].reshape(len(weighted), -1)
        for one, two in zip(torch.split(left, longest, 1), torch.split(right, longest, 1), strict=True):
            result += matmul(one, two).T
    return result


@contextmanager
def intra_op(threads: int) -> Iterator[None]:
    """Let torch use this many threads in this thread, and put its setting back."""
    before = torch.get_num_threads()
    if before == threads:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
