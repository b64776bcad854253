"""Numbers as they are: the weights are folded into the noise, then one matrix product per block of rows.

bf16 operands are rounded to 8 bits, and so are the weights and partial results; sums are taken in fp32.
"""

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


def real_product(name: str, dtype: torch.dtype, bound: str, tolerance: float) -> Product:
    """The product on operands of one float format."""

    def keep_input(x: Tensor, _shape: Shape, kind: InputKind) -> State:
        return State(x.detach().to(dtype), kind, len(x))

    def keep_noise(e: Tensor, _shape: Shape, kind: NoiseKind) -> State:
        return State(e.detach().to(dtype), kind, len(e))

    def multiply(x: State, e: State, weights: Tensor, shape: Shape, threads: int) -> Tensor:
        if isinstance(shape, LinearShape):
            with gemm.intra_op(threads):
                weighted = lines(e.data) * line_weights(weights, shape).to(dtype)[:, None]
                return (weighted.T @ lines(x.data)).to(torch.float32)
        folded = fold(e.data, weights, dtype)
        return gemm.convolution(x.data, folded, shape, _matmul, torch.float32, LONGEST, threads)

    return Product(name, keep_input, keep_noise, multiply, bias, ANY_INPUT, ANY_NOISE, bound, tolerance)


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


FP32 = real_product("fp32", torch.float32, "fp32 rounding", 2.0**-17)
BF16 = real_product("bf16", torch.bfloat16, "bf16 rounding", 2.0**-5)
