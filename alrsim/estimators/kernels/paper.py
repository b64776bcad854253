"""The baseline: what the papers' public code does, copy by copy in fp32.

Each copy's noise is weighted by its losses, then torch's own weight gradient is taken and added.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import grad

from alrsim.estimators.kernels.gemm import intra_op
from alrsim.estimators.kernels.real import FP32
from alrsim.estimators.kernels.shapes import ConvShape, LinearShape, Shape
from alrsim.estimators.kernels.state import State, lines, row_weights

_GRADIENTS: dict[int, Callable[..., Tensor]] = {
    1: grad.conv1d_weight,
    2: grad.conv2d_weight,
    3: grad.conv3d_weight,
}


def multiply(x: State, e: State, weights: Tensor, shape: Shape, threads: int) -> Tensor:
    """The weight gradient; see :class:`Product`."""
    copies = len(weights)
    total = torch.zeros(shape.weight)
    with intra_op(threads):
        for value, noise, weight in zip(x.data.chunk(copies), e.data.chunk(copies), weights, strict=True):
            total += _one(value, noise * row_weights(weight, noise).to(torch.float32), shape)
    return total


def _one(x: Tensor, weighted: Tensor, shape: Shape) -> Tensor:
    if isinstance(shape, LinearShape):
        return lines(weighted).T @ lines(x)
    return _convolution(x, weighted, shape)


def _convolution(x: Tensor, weighted: Tensor, shape: ConvShape) -> Tensor:
    weight_gradient = _GRADIENTS[len(shape.size)]
    return weight_gradient(x, shape.weight, weighted, shape.stride, shape.padding, shape.dilation, shape.groups)


PAPER = replace(FP32, name="paper", multiply=multiply)
