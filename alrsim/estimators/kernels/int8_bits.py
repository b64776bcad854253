"""int8 storage, 1-bit arithmetic: signs that were kept as int8 are packed when the gradient is taken.

The paper's storage format at the packed kernel's accuracy. Packing reads every byte once, which costs less than an int8
matrix product of few channels.
"""

from typing import cast

from torch import Tensor

from alrsim.estimators.kernels import int8, packed
from alrsim.estimators.kernels.shapes import Shape
from alrsim.estimators.kernels.state import InputKind, Product, State


def multiply(x: State, e: State, weights: Tensor, shape: Shape, threads: int) -> Tensor:
    """The weight gradient; see :class:`Product`."""
    bits = packed.keep_input(x.data, shape, cast(InputKind, x.kind), threads)
    noise = packed.keep_noise(e.data, shape, "sign", threads)
    return packed.multiply(bits, noise, weights, shape, threads)


INT8_BITS = Product(
    "int8-bits",
    int8.keep_input,
    int8.keep_noise,
    multiply,
    int8.bias,
    packed.PACKED.inputs,
    packed.PACKED.noises,
    packed.PACKED.accuracy,
    packed.PACKED.bound,
)
