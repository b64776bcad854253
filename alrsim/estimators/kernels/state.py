"""What the kernels of the weighted product have in common: the contract, and helpers on rows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from alrsim.errors import ExecutionError
from alrsim.estimators.kernels.shapes import ConvShape, LinearShape, Shape

InputKind = Literal["real", "int8", "ternary", "bipolar", "binary"]
"""Values of the input's code: real numbers, integers -127..127, {-1, 0, 1}, {-1, 1} or {0, 1}. Scales are not part of
it: a scale per copy belongs into the weights, a scale of the whole into the result."""

NoiseKind = Literal["real", "sign"]
"""Values of the noise's code: real numbers, or {-1, 1}."""


@dataclass(frozen=True, slots=True)
class State:
    """What one kernel keeps of one operand from the forward to the gradient.

    Attributes:
        data: Codes, or packed bits as int64 words.
        kind: Values that they stand for.
        rows: Copies times samples.
    """

    data: Tensor
    kind: InputKind | NoiseKind
    rows: int

    @property
    def nbytes(self) -> int:
        return self.data.nbytes


@dataclass(frozen=True, slots=True)
class Product:
    """A kernel of ``dW = sum_kb w_kb J(x_kb)' e_kb``: the weight gradient of a linear map at weighted noise.

    Attributes:
        keep_input: ``(codes of x, shape, kind) -> State``; x is ``(copies * samples, ...)`` as the map reads it.
        keep_noise: ``(codes of e, shape, kind) -> State``; e is ``(copies * samples, ...)`` as the map writes it.
        multiply: ``(input, noise, weights (copies, samples), shape, threads) -> dW`` in fp32, of ``shape.weight``. An
            integer kernel's result does not depend on ``threads``; the others sum in torch's order.
        bias: ``(noise, weights, shape) -> sum_kb w_kb sum_positions e_kb``, fp32 ``(outputs,)``.
        inputs: Kinds of input that it takes.
        noises: Kinds of noise that it takes.
        accuracy: What its result is, against exact arithmetic.
        bound: Relative error against the sum of magnitudes ``|x|' |w| |e|``, for inputs that are exact in its format;
            rounding to fp32 included.
    """

    name: str
    keep_input: Callable[[Tensor, Shape, InputKind], State]
    keep_noise: Callable[[Tensor, Shape, NoiseKind], State]
    multiply: Callable[[State, State, Tensor, Shape, int], Tensor]
    bias: Callable[[State, Tensor, Shape], Tensor]
    inputs: frozenset[InputKind]
    noises: frozenset[NoiseKind]
    accuracy: str
    bound: float

    def takes(self, x: InputKind, e: NoiseKind) -> bool:
        """Whether the kernel can multiply these codes."""
        return x in self.inputs and e in self.noises


ANY_INPUT: frozenset[InputKind] = frozenset({"real", "int8", "ternary", "bipolar", "binary"})
INTEGER_INPUT: frozenset[InputKind] = ANY_INPUT - {"real"}
ANY_NOISE: frozenset[NoiseKind] = frozenset({"real", "sign"})
SIGNS: frozenset[NoiseKind] = frozenset({"sign"})


def quantise(weights: Tensor, levels: int) -> tuple[Tensor, float]:
    """Weights as integers -levels..levels and the factor that undoes it; all zero weights give factor 0.

    Raises:
        ExecutionError: a weight is not finite, so that its copies' losses are not.
    """
    largest = float(weights.abs().max()) if weights.numel() else 0.0
    if largest == 0.0:
        return torch.zeros_like(weights, dtype=torch.int64), 0.0
    if not largest < float("inf"):
        raise not_finite()
    return (weights.to(torch.float64) * (levels / largest)).round().to(torch.int64), largest / levels


def not_finite() -> ExecutionError:
    """What to raise where a loss weight is not a number."""
    return ExecutionError(
        "a loss weight is not finite", where="gradient kernel", fix="lower sigma or the learning rate"
    )


def lines(value: Tensor) -> Tensor:
    """``(rows * positions, features)`` of a linear map's operand."""
    return value.reshape(-1, value.shape[-1])


def line_weights(weights: Tensor, shape: LinearShape) -> Tensor:
    """The weight of every line."""
    return weights.reshape(-1).repeat_interleave(shape.positions)


def keep_in(dtype: torch.dtype) -> Callable[[Tensor, Shape, Any], State]:
    """Keeps an operand's numbers, or codes, one by one in a format."""
    return lambda value, _shape, kind: State(value.detach().to(dtype), kind, len(value))


def weighted_bias(e: State, weights: Tensor, shape: Shape) -> Tensor:
    """The bias gradient from noise as numbers, summed in fp64; see :class:`Product`. The weights are not rounded."""
    if isinstance(shape, LinearShape):
        factors = line_weights(weights, shape).to(torch.float64)
        return (lines(e.data).T.to(torch.float64) @ factors).to(torch.float32)
    sums = e.data.flatten(2).to(torch.float64).sum(2)
    return (weights.reshape(-1).to(torch.float64) @ sums).to(torch.float32)


def group_ranges(shape: ConvShape) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Channels and outputs of each group, from and to."""
    ins, outs = shape.inputs // shape.groups, shape.outputs // shape.groups
    return [((g * ins, (g + 1) * ins), (g * outs, (g + 1) * outs)) for g in range(shape.groups)]
