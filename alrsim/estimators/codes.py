"""Codes: how a stage's input and its noise are kept from the forward pass to the gradient.

============  ===========================================================================================
plain         the number in the format; int8: ``round(x / scale)``, scale = max|x| / 127 of each copy; sign1: as sign
sign          ``sign(x)``, 0 stays 0. As packed bits: x > 0 where x has no sign (a ReLU mask), else x >= 0 for +-1
sign-scaled   the same, with a scale for each sample and channel (for each sample, where there are no channels)
threshold     ``sign(x)`` where |x| > 0.7 mean|x|, the mean over non-zero elements of the copy, else 0: one bit where x
              has no sign, else two
============  ===========================================================================================

The scale of a sign or threshold code is the mean of |x| over the elements that it keeps, which is the least-squares
scale: the code's error is orthogonal to the code. Signs of noise are multiplied by 1 / E|eps|: that keeps LR's scale.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from alrsim.allocation import beside
from alrsim.errors import ExecutionError
from alrsim.estimators.kernels.state import InputKind
from alrsim.estimators.noise import sign_scale
from alrsim.estimators.policy import InputCode, NoiseKind
from alrsim.hardware.precision import Precision

FLOATS = {Precision.FP32: torch.float32, Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}
CODES = (*FLOATS, Precision.INT8, Precision.SIGN1)
"""Formats that can be stored; noise may also be ``regenerated``, which stores nothing."""

THRESHOLD = 0.7
"""Of the mean magnitude: measured best for half-Gaussian values."""


@dataclass(frozen=True, slots=True)
class Coded:
    """A value as code times scale, before it is stored.

    Attributes:
        codes: int8 (real values: the value itself), same shape as the value.
        scale: fp32, of each copy ``(copies,)``, of each sample ``(rows,)`` or of each sample and channel ``(rows,
            channels)``; ``None`` is 1.
    """

    codes: Tensor
    scale: Tensor | None
    levels: InputKind


@dataclass(frozen=True, slots=True)
class Code:
    """A stored code.

    Attributes:
        data: The elements: same shape in a float format or int8, or a flat uint8 tensor of packed bits.
        scale: As in :class:`Coded`.
        shape: Shape of the decoded tensor; its first dimension is ``copies * samples``.
        packed: What packed bits stand for; ``None``: not packed.
    """

    data: Tensor
    scale: Tensor | None
    shape: tuple[int, ...]
    packed: InputKind | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of storage, scales included."""
        scales = 0 if self.scale is None else self.scale.nbytes
        return self.data.untyped_storage().nbytes() + scales


def quantised(
    value: Tensor, precision: Precision, code: InputCode = "plain", *, copies: int = 1, unsigned: bool | None = None
) -> Coded:
    """A stage's input, ``(copies * samples, ...)``, as code and scale.

    Args:
        unsigned: Whether the value cannot be negative; ``None``: look.
    """
    bits = precision is Precision.SIGN1
    if code == "plain" and not bits:
        if precision is not Precision.INT8:
            return Coded(value.detach(), None, "real")
        scale = _rows(value, copies).abs().amax(1).clamp_(min=1e-30) / 127
        return Coded(_scaled(value, 1 / scale).round_().to(torch.int8), scale, "int8")
    if unsigned is None:
        unsigned = not bool((value < 0).any())
    if code == "threshold":
        codes = _above(value, copies)
        return Coded(codes, _mean_over(value, codes, copies), "binary" if unsigned else "ternary")
    codes = value.sign().to(torch.int8)
    levels: InputKind = "binary" if unsigned else "ternary"
    if bits and not unsigned:
        codes, levels = (value >= 0).to(torch.int8).mul_(2).sub_(1), "bipolar"
    if code == "sign-scaled":
        return Coded(codes, _channel_means(value, codes), levels)
    return Coded(codes, _mean_over(value, codes, copies), levels)


def encode(
    value: Tensor, precision: Precision, code: InputCode = "plain", *, copies: int = 1, unsigned: bool | None = None
) -> Code:
    """Code a stage's input, ``(copies * samples, ...)``, for storage.

    Raises:
        ExecutionError: if the format has no code.
    """
    found = quantised(value, precision, code, copies=copies, unsigned=unsigned)
    shape = tuple(value.shape)
    if precision is Precision.SIGN1:
        return Code(_pack(found.codes, found.levels), found.scale, shape, found.levels)
    kind = torch.int8 if precision is Precision.INT8 else _float_type(precision)
    return Code(found.codes.to(kind), found.scale, shape)


def encode_noise(value: Tensor, precision: Precision, kind: NoiseKind, *, signs: bool = False, copies: int = 1) -> Code:
    """Code noise; signs of it keep the scale of the full estimator."""
    if not signs and precision is not Precision.SIGN1:
        return encode(value, precision, copies=copies)
    factor, shape = torch.full((copies,), sign_scale(kind), device=value.device), tuple(value.shape)
    if precision is Precision.SIGN1:
        return Code(_pack((value >= 0).to(torch.int8), "bipolar"), factor, shape, "bipolar")
    return Code(value.sign().to(torch.int8 if precision is Precision.INT8 else _float_type(precision)), factor, shape)


def decode(code: Code) -> Tensor:
    """The fp32 tensor that a code stands for."""
    value = code.data.to(torch.float32) if code.packed is None else _unpack(code.data, code.shape, code.packed)
    return value if code.scale is None else _scaled(value, code.scale)


def _above(value: Tensor, copies: int) -> Tensor:
    """Signs of what exceeds the threshold of its copy, int8."""
    magnitude = _rows(value, copies).abs()
    level = THRESHOLD * magnitude.sum(1) / (magnitude > 0).sum(1).clamp_(min=1)
    kept = magnitude > level[:, None]
    return (value.detach().sign() * kept.view(value.shape)).to(torch.int8)


def _mean_over(value: Tensor, codes: Tensor, copies: int) -> Tensor:
    """Mean magnitude over the elements that a code keeps, ``(copies,)``."""
    kept = _rows(codes, copies).abs()
    return (_rows(value, copies).abs() * kept).sum(1) / kept.sum(1).clamp_(min=1)


def _channel_means(value: Tensor, codes: Tensor) -> Tensor:
    """The same for each sample, or sample and channel: ``(rows,)`` or ``(rows, channels)``."""
    start = 1 if value.dim() < 3 else 2
    kept, magnitude = codes.abs().to(torch.float32).flatten(start), value.detach().abs().flatten(start)
    return (magnitude * kept).sum(-1) / kept.sum(-1).clamp_(min=1)


def _rows(value: Tensor, copies: int) -> Tensor:
    return value.detach().reshape(copies, -1).to(torch.float32)


def _scaled(value: Tensor, factor: Tensor) -> Tensor:
    return (value.reshape(*factor.shape, -1).to(torch.float32) * factor[..., None]).view(value.shape)


def _pack(codes: Tensor, levels: InputKind) -> Tensor:
    if codes.device.type != "cpu":
        return _pack_on_device(codes.reshape(-1), levels)
    flat = codes.contiguous().numpy().reshape(-1)
    bits = np.concatenate([flat > 0, flat < 0]) if levels == "ternary" else flat > 0
    packed = np.packbits(bits)
    beside(2 * bits.nbytes if levels == "ternary" else bits.nbytes + packed.nbytes)
    return torch.from_numpy(packed)


def _unpack(data: Tensor, shape: tuple[int, ...], levels: InputKind) -> Tensor:
    count = int(np.prod(shape))
    size = 2 * count if levels == "ternary" else count
    if data.device.type == "cpu":
        value = torch.from_numpy(np.unpackbits(data.numpy(), count=size)).to(torch.float32)
    else:
        value = (data[:, None] >> _places(data) & 1).flatten()[:size].to(torch.float32)
    if levels == "ternary":
        value = value[:count] - value[count:]
    if levels == "bipolar":
        value = value.mul_(2).sub_(1)
    return value.view(shape)


def _pack_on_device(flat: Tensor, levels: InputKind) -> Tensor:
    """numpy's packing in torch's operators, for memory that numpy cannot reach."""
    bits = torch.cat([flat > 0, flat < 0]) if levels == "ternary" else flat > 0
    padded = functional.pad(bits.to(torch.uint8), (0, -len(bits) % 8)).view(-1, 8)
    return (padded << _places(padded)).sum(1, dtype=torch.uint8)


def _places(like: Tensor) -> Tensor:
    """Where numpy puts eight bits in a byte: the first one is the highest."""
    return torch.arange(7, -1, -1, dtype=torch.uint8, device=like.device)


def _float_type(precision: Precision) -> torch.dtype:
    if precision not in FLOATS:
        raise ExecutionError(
            f"state cannot be stored as {precision} when it is executed",
            field="precision",
            fix=f"use one of {', '.join(CODES)}; other formats can be simulated",
        )
    return FLOATS[precision]
