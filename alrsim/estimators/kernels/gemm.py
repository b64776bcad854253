"""One matrix product per block of rows, over im2col in the operands' own format."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from alrsim.estimators.kernels.shapes import ConvShape, taps_of
from alrsim.estimators.kernels.state import group_ranges

Matmul = Callable[[Tensor, Tensor], Tensor]
"""``(M, K) @ (N, K)'``; both are contiguous along K."""

BLOCK_BYTES = 2 << 20
"""Of im2col at a time."""

_MOVED = {1: np.int8, 2: np.int16, 4: np.int32}


def convolution(
    x: Tensor, weighted: Tensor, shape: ConvShape, matmul: Matmul, total: torch.dtype, longest: int, threads: int
) -> Tensor:
    """``sum over rows and positions of tap(x) * weighted``, of ``shape.weight``, in format ``total``.

    Args:
        x: ``(rows, inputs, *size)``.
        weighted: ``(outputs, rows, positions)``, contiguous; the weights are in it.
        longest: Most elements that one product may sum.
    """
    blocks = [
        _group(x, weighted[outputs[0] : outputs[1]], channels, shape, matmul, total, longest, threads)
        for channels, outputs in group_ranges(shape)
    ]
    return torch.cat(blocks).view(shape.weight)


def _group(
    x: Tensor,
    weighted: Tensor,
    channels: tuple[int, int],
    shape: ConvShape,
    matmul: Matmul,
    total: torch.dtype,
    longest: int,
    threads: int,
) -> Tensor:
    from alrsim.estimators.kernels.machine.compile import spread
    from alrsim.estimators.kernels.machine.taps import expand

    table, positions, width = taps_of(shape), shape.positions, channels[1] - channels[0]
    moved = _MOVED[x.element_size()]
    masks = (table.source >= 0).astype(moved) * moved(-1)
    planes = x.detach().contiguous().flatten(2).view(_integer(x)).numpy()
    rows = len(x)
    step = min(rows, max(1, BLOCK_BYTES // (width * shape.taps * positions * x.element_size())))
    columns = np.empty((width, shape.taps, step * positions), dtype=moved)
    result = torch.zeros(len(weighted), width * shape.taps, dtype=total)
    with intra_op(threads):
        for low in range(0, rows, step):
            count = min(step, rows - low)
            out = columns if count == step else np.empty((width, shape.taps, count * positions), dtype=moved)

            def part(begin: int, end: int, at: int = low, many: int = count, to: np.ndarray = out) -> None:
                expand(planes, at, many, channels[0] + begin, table.source, table.shifts, masks, to[begin:end])

            spread(part, width, threads)
            left = torch.from_numpy(out).view(x.dtype).view(width * shape.taps, -1)
            right = weighted[:, low : low + count].reshape(len(weighted), -1)
            for one, two in zip(torch.split(left, longest, 1), torch.split(right, longest, 1), strict=True):
                result += matmul(one, two).T
    return result


def _integer(x: Tensor) -> torch.dtype:
    return {1: torch.int8, 2: torch.int16, 4: torch.int32}[x.element_size()]


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
