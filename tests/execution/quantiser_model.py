"""A user's model file: a quantiser in numpy between its layers, and the same with a derivative of its own."""

import numpy as np
import torch
from torch import Tensor, nn


@torch.library.custom_op("quantiser::ternary", mutates_args=())
def ternary(value: Tensor, level: float) -> Tensor:
    array = value.detach().numpy()
    return torch.from_numpy(np.where(array > level, 1.0, np.where(array < -level, -1.0, 0.0)).astype(array.dtype))


@torch.library.custom_op("quantiser::straight", mutates_args=())
def straight(value: Tensor, level: float) -> Tensor:
    return torch.ops.quantiser.ternary(value, level)


def _same_shape(value: Tensor, level: float) -> Tensor:
    return torch.empty_like(value)


ternary.register_fake(_same_shape)
straight.register_fake(_same_shape)
straight.register_autograd(lambda _context, gradient: (gradient, None))


class Quantised(nn.Module):
    input_shape = (6,)

    def __init__(self, quantise) -> None:
        super().__init__()
        self.quantise = quantise
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 8)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.second(torch.relu(self.first(x))))
        return self.head(self.norm(self.quantise(hidden, 0.3)))


def black_box() -> nn.Module:
    return Quantised(ternary)


def straight_through() -> nn.Module:
    return Quantised(straight)
