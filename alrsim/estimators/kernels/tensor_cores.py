"""The ``stack`` reduction's product on a GPU: int8 tensor cores through ``torch._int_mm``.

The same integers as the int8 kernel of a CPU: weights are rounded to 127 levels and folded into the signs of the noise.
The function takes tensors of any device, which is how it is checked: on a CPU. It has not been run on a GPU and never
been timed.
"""

from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

from alrsim.estimators.kernels.int8 import LEVELS, int_mm, longest_sum
from alrsim.estimators.kernels.shapes import ConvShape, LinearShape, Shape
from alrsim.estimators.kernels.state import InputKind, group_ranges, line_weights, lines, quantise

UNIT, LEAST = 8, 32
"""Dimensions that tensor cores take: multiples of 8, more than 16; smaller ones are filled with zeros."""

BLOCK = 1 << 28
"""Bytes of expanded taps at a time."""


def weight_gradient(x: Tensor, e: Tensor, weights: Tensor, shape: Shape, kind: InputKind) -> Tensor:
    """``sum_kb w_kb J(x_kb)' e_kb`` in fp32, of ``shape.weight``; exact for the rounded weights before rescaling.

    Args:
        x: Codes of the input, int8 ``(copies * samples, ...)``.
        e: Signs of the noise, int8 ``(copies * samples, ...)``.
        weights: ``(copies, samples)``.
        kind: Of the codes: int8 codes have shorter sums.
    """
    whole, scale = quantise(weights, LEVELS)
    total = _linear(x, e, whole, shape, kind) if isinstance(shape, LinearShape) else _conv(x, e, whole, shape, kind)
    return (total.to(torch.float64) * scale).to(torch.float32).view(shape.weight)


def _linear(x: Tensor, e: Tensor, weights: Tensor, shape: LinearShape, kind: InputKind) -> Tensor:
    folded = lines(e) * line_weights(weights, shape).to(torch.int8)[:, None]
    return _sums(folded.T, lines(x), kind)


def _conv(x: Tensor, e: Tensor, weights: Tensor, shape: ConvShape, kind: InputKind) -> Tensor:
    folded = e.flatten(2) * weights.reshape(-1, 1, 1).to(torch.int8)
    step = max(1, BLOCK // (shape.inputs * shape.taps * shape.positions))
    total = x.new_zeros((shape.outputs, shape.inputs // shape.groups * shape.taps), dtype=torch.int64)
    for low in range(0, len(x), step):
        taps = _taps(x[low : low + step], shape)
        noise = folded[low : low + step]
        for channels, outputs in group_ranges(shape):
            left = noise[:, outputs[0] : outputs[1]].transpose(0, 1).flatten(1)
            right = taps[:, channels[0] : channels[1]].permute(0, 3, 1, 2).flatten(0, 1).flatten(1)
            total[outputs[0] : outputs[1]] += _sums(left, right, kind)
    return total


def _taps(x: Tensor, shape: ConvShape) -> Tensor:
    """``(rows, inputs, taps, positions)``."""
    edges = [width for pad in reversed(shape.padding) for width in (pad, pad)]
    padded = functional.pad(x, edges)
    found = []
    for tap in product(*map(range, shape.kernel)):
        axes = zip(tap, shape.dilation, shape.stride, shape.out_size, strict=True)
        at = [slice(t * gap, t * gap + (count - 1) * step + 1, step) for t, gap, step, count in axes]
        found.append(padded[(slice(None), slice(None), *at)].flatten(2))
    return torch.stack(found, 2)


def _sums(left: Tensor, right: Tensor, kind: InputKind) -> Tensor:
    """``left @ right`` in int64 from int32 sums that cannot overflow."""
    most = longest_sum(kind) // UNIT * UNIT
    total = torch.zeros(len(left), right.shape[1], dtype=torch.int64, device=left.device)
    for low in range(0, len(right), most):
        a, b = left[:, low : low + most], right[low : low + most]
        a = functional.pad(a, (0, _missing(a.shape[1]), 0, _missing(len(left))))
        b = functional.pad(b, (0, _missing(b.shape[1]), 0, _missing(len(b))))
        total += int_mm(a, b)[: len(left), : right.shape[1]]
    return total


def _missing(size: int) -> int:
    return max(LEAST, -(-size // UNIT) * UNIT) - size
