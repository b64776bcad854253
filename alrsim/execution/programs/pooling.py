"""Max pooling where nobody asks for its gradient, as in every noisy forward.

torch's kernel for channels-first planes looks for the index of each maximum, too: one element at a time. Where windows
tile the plane, the maximum alone is a few vectorised comparisons: the same numbers, about ten times as fast.
"""

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor


def max_pool2d(
    value: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] | int = 0,
    dilation: Sequence[int] | int = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """As ``torch.ops.aten.max_pool2d``; ``(..., height, width)``."""
    high, wide = _pair(kernel)
    tiled = (
        value.shape[-2] % high == 0
        and value.shape[-1] % wide == 0
        and (not stride or _pair(stride) == (high, wide))
        and _pair(padding) == (0, 0)
        and _pair(dilation) == (1, 1)
    )
    if not tiled or not value.is_contiguous() or (torch.is_grad_enabled() and value.requires_grad):
        pooled: Tensor = torch.ops.aten.max_pool2d.default(value, kernel, stride, padding, dilation, ceil_mode)
        return pooled
    *front, rows, _ = value.shape
    lines = value.view(*front, rows // high, high, -1)
    highest = reduce(torch.maximum, [lines[..., at, :] for at in range(high)])
    return reduce(torch.maximum, [highest[..., at::wide] for at in range(wide)])


def _pair(sizes: Sequence[int] | int) -> tuple[int, int]:
    if isinstance(sizes, int):
        return sizes, sizes
    return (sizes[0], sizes[-1])
