"""bf16 operands and fp32 sums: numbers, weights and partial results are rounded to 8 bits."""

import torch
from torch import Tensor

from alrsim.estimators.kernels import gemm
from alrsim.estimators.kernels.fp32 import LONGEST, fold
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


def keep_input(x: Tensor, _shape: Shape, kind: InputKind) -> State:
    """Rounded to bf16."""
    return State(x.detach().to(torch.bfloat16), kind, len(x))


def keep_noise(e: Tensor, _shape: Shape, kind: NoiseKind) -> State:
    """Rounded to bf16."""
    return State(e.detach().to(torch.bfloat16), kind, len(e))


def multiply(x: State, e: State, weights: Tensor, shape: Shape, threads: int) -> Tensor:
    """The weight gradient; see :class:`Product`."""
    if isinstance(shape, LinearShape):
        with gemm.intra_op(threads):
            weighted = lines(e.data) * line_weights(weights, shape).to(torch.bfloat16)[:, None]
            return (weighted.T @ lines(x.data)).to(torch.float32)
    return gemm.convolution(
        x.data, fold(e.data, weights, torch.bfloat16), shape, _matmul, torch.float32, LONGEST, threads
    )


def bias(e: State, weights: Tensor, shape: Shape) -> Tensor:
    """The bias gradient; see :class:`Product`."""
    return weighted_bias(e.data, weights, shape)


def _matmul(left: Tensor, right: Tensor) -> Tensor:
    return left @ right.T


BF16 = Product("bf16", keep_input, keep_noise, multiply, bias, ANY_INPUT, ANY_NOISE, "bf16 rounding", 2.0**-5)
