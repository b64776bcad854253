"""fp32: the weights are folded into the noise, then one matrix product per block of rows."""

import torch
from torch import Tensor

from alrsim.estimators.kernels import gemm
from alrsim.estimators.kernels.shapes import LinearShape, Shape
from alrsim.estimators.kernels.state import (
    ANY_INPUT,
    ANY_NOISE,
    InputKind,
    NoiseKind,
    Product,
    State,
    line_weights,
    lines,
    weighted_bias,
)

LONGEST = 1 << 62


def keep_input(x: Tensor, _shape: Shape, kind: InputKind) -> State:
    """The numbers themselves."""
    return State(x.detach().to(torch.float32), kind, len(x))


def keep_noise(e: Tensor, _shape: Shape, kind: NoiseKind) -> State:
    """The numbers themselves."""
    return State(e.detach().to(torch.float32), kind, len(e))


def multiply(x: State, e: State, weights: Tensor, shape: Shape, threads: int) -> Tensor:
    """The weight gradient; see :class:`Product`."""
    if isinstance(shape, LinearShape):
        with gemm.intra_op(threads):
            weighted = lines(e.data) * line_weights(weights, shape).to(torch.float32)[:, None]
            return weighted.T @ lines(x.data)
    return gemm.convolution(
        x.data, fold(e.data, weights, torch.float32), shape, _matmul, torch.float32, LONGEST, threads
    )


def fold(e: Tensor, weights: Tensor, dtype: torch.dtype) -> Tensor:
    """Noise times weights as ``(outputs, rows, positions)``."""
    planes = e.flatten(2)
    out = torch.empty(planes.shape[1], len(planes), planes.shape[2], dtype=dtype)
    return torch.mul(planes.transpose(0, 1), weights.reshape(1, -1, 1).to(dtype), out=out)


def bias(e: State, weights: Tensor, shape: Shape) -> Tensor:
    """The bias gradient; see :class:`Product`."""
    return weighted_bias(e.data, weights, shape)


def _matmul(left: Tensor, right: Tensor) -> Tensor:
    return left @ right.T


FP32 = Product("fp32", keep_input, keep_noise, multiply, bias, ANY_INPUT, ANY_NOISE, "fp32 rounding", 2.0**-17)
