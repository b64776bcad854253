"""Numbers as they are: the weights are folded into the noise, then one matrix product per block of rows.

bf16 operands are rounded to 8 bits, and so are the weights and partial results; sums are taken in fp32. ``paper`` is
the baseline, what the papers' public code does: copy by copy in fp32 the noise is weighted by its losses, then torch's
own weight gradient is taken and added.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import grad

from alrsim.estimators.kernels import gemm
from alrsim.estimators.kernels.shapes import LinearShape, Shape
from alrsim.estimators.kernels.state import (
    ANY_INPUT,
    ANY_NOISE,
    Product,
    State,
    keep_in,
    line_weights,
    lines,
    weighted_bias,
)

LONGEST = 1 << 62


def real_product(name: str, dtype: torch.dtype, bound: str, tolerance: float) -> Product:
    """The product on operands of one float format."""

    def multiply(x: State, e: State, weights: Tensor, shape: Shape, threads: int) -> Tensor:
        if isinstance(shape, LinearShape):
            with gemm.intra_op(threads):
                weighted = lines(e.data) * line_weights(weights, shape).to(dtype)[:, None]
                return (weighted.T @ lines(x.data)).to(torch.float32)
        folded = fold(e.data, weights, dtype)
        return gemm.convolution(x.data, folded, shape, _matmul, torch.float32, LONGEST, threads)

    keep = keep_in(dtype)
    return Product(name, keep, keep, multiply, weighted_bias, ANY_INPUT, ANY_NOISE, bound, tolerance)


def fold(e: Tensor, weights: Tensor, dtype: torch.dtype) -> Tensor:
    """Noise times weights as ``(outputs, rows, positions)``."""
    planes = e.flatten(2)
    out = torch.empty(planes.shape[1], len(planes), planes.shape[2], dtype=dtype)
    return torch.mul(planes.transpose(0, 1), weights.reshape(1, -1, 1).to(dtype), out=out)


def _matmul(left: Tensor, right: Tensor) -> Tensor:
    return left @ right.T


FP32 = real_product("fp32", torch.float32, "fp32 rounding", 2.0**-17)
BF16 = real_product("bf16", torch.bfloat16, "bf16 rounding", 2.0**-5)

_GRADIENTS: dict[int, Callable[..., Tensor]] = {
    1: grad.conv1d_weight,
    2: grad.conv2d_weight,
    3: grad.conv3d_weight,
}


def multiply_by_copy(x: State, e: State, weights: Tensor, shape: Shape, threads: int) -> Tensor:
    """The weight gradient as the papers' code takes it; see :class:`Product`."""
    copies = len(weights)
    total = torch.zeros(shape.weight)
    with gemm.intra_op(threads):
        for value, noise, weight in zip(x.data.chunk(copies), e.data.chunk(copies), weights, strict=True):
            factors = weight.reshape(-1, *(1,) * (noise.dim() - 1)).to(torch.float32)
            total += _one(value, noise * factors, shape)
    return total


def _one(x: Tensor, weighted: Tensor, shape: Shape) -> Tensor:
    if isinstance(shape, LinearShape):
        return lines(weighted).T @ lines(x)
    weight_gradient = _GRADIENTS[len(shape.size)]
    return weight_gradient(x, shape.weight, weighted, shape.stride, shape.padding, shape.dilation, shape.groups)


PAPER = replace(FP32, name="paper", multiply=multiply_by_copy)
