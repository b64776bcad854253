"""Codes: how a stage's input and its noise are kept from the forward pass to the gradient.

=========  ==============================================================================================
fp32...    the number in that format
int8       ``round(x / scale)``, scale = max|x| / 127 of each copy
sign       ``sign(x)`` in int8, 0 stays 0; scale = mean of |x| over the non-zero elements of each copy, which is
           the least-squares scale
sign1      one packed bit. Nonnegative values: bit = x > 0, so that 0 stays 0 (a ReLU mask). Signed values: bit =
           x >= 0 decodes to +-scale. Scale as for sign.
=========  ==============================================================================================

Signs of Gaussian noise are multiplied by sqrt(pi/2), because E|eps| = sqrt(2/pi): that keeps the LR scale.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from alrsim.errors import ExecutionError
from alrsim.estimators.noise import sign_scale
from alrsim.estimators.policy import NoiseKind
from alrsim.hardware.precision import Precision

FLOATS = {Precision.FP32: torch.float32, Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}
CODES = (*FLOATS, Precision.INT8, Precision.SIGN1)
"""Formats that can be stored; noise may also be ``regenerated``, which stores nothing."""


@dataclass(frozen=True, slots=True)
class Code:
    """A coded tensor.

    Attributes:
        data: The stored elements: same shape in a float format or int8, or a flat uint8 tensor of packed bits.
        scale: fp32 factors of each copy, shape ``(copies,)``; ``None`` is 1.
        shape: Shape of the decoded tensor; its first dimension is ``copies * samples``.
        signed_bits: For packed bits: 0 decodes to -scale rather than to 0.
    """

    data: Tensor
    scale: Tensor | None
    shape: tuple[int, ...]
    packed: bool = False
    signed_bits: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of storage, scales included."""
        scales = 0 if self.scale is None else self.scale.nbytes
        return self.data.untyped_storage().nbytes() + scales


def encode(value: Tensor, precision: Precision, *, signs: bool = False, copies: int = 1) -> Code:
    """Code a stage's input, ``(copies * samples, ...)``.

    Raises:
        ExecutionError: if the format has no code.
    """
    shape = tuple(value.shape)
    if precision is Precision.SIGN1:
        return _encode_bits(value, copies)
    if signs:
        magnitude = _rows(value, copies).abs()
        support = (magnitude > 0).sum(1).clamp_(min=1)
        return Code(value.sign().to(_sign_type(precision)), magnitude.sum(1) / support, shape)
    if precision is Precision.INT8:
        scale = _rows(value, copies).abs().amax(1).clamp_(min=1e-30) / 127
        return Code(_scaled(value, 1 / scale).round_().to(torch.int8), scale, shape)
    return Code(value.detach().to(_float_type(precision)), None, shape)


def encode_noise(value: Tensor, precision: Precision, kind: NoiseKind, *, signs: bool = False, copies: int = 1) -> Code:
    """Code noise; signs of it keep the scale of the full estimator."""
    if not signs and precision is not Precision.SIGN1:
        return encode(value, precision, copies=copies)
    factor = torch.full((copies,), sign_scale(kind))
    if precision is Precision.SIGN1:
        return Code(_pack(value >= 0), factor, tuple(value.shape), packed=True, signed_bits=True)
    return Code(value.sign().to(_sign_type(precision)), factor, tuple(value.shape))


def decode(code: Code) -> Tensor:
    """The fp32 tensor that a code stands for."""
    if code.packed:
        value = _unpack(code.data, code.shape)
        if code.signed_bits:
            value = value.mul_(2).sub_(1)
    else:
        value = code.data.to(torch.float32)
    return value if code.scale is None else _scaled(value, code.scale)


def _encode_bits(value: Tensor, copies: int) -> Code:
    rows = _rows(value, copies)
    magnitude = rows.abs().sum(1)
    if bool((value < 0).any()):
        return Code(_pack(value >= 0), magnitude / rows.shape[1], tuple(value.shape), packed=True, signed_bits=True)
    scale = magnitude / (rows > 0).sum(1).clamp_(min=1)
    return Code(_pack(value > 0), scale, tuple(value.shape), packed=True)


def _rows(value: Tensor, copies: int) -> Tensor:
    return value.detach().reshape(copies, -1).to(torch.float32)


def _scaled(value: Tensor, factor: Tensor) -> Tensor:
    return (value.reshape(len(factor), -1).to(torch.float32) * factor[:, None]).view(value.shape)


def _pack(bits: Tensor) -> Tensor:
    return torch.from_numpy(np.packbits(bits.contiguous().numpy().reshape(-1)))


def _unpack(data: Tensor, shape: tuple[int, ...]) -> Tensor:
    count = int(np.prod(shape))
    return torch.from_numpy(np.unpackbits(data.numpy(), count=count)).to(torch.float32).view(shape)


def _float_type(precision: Precision) -> torch.dtype:
    if precision not in FLOATS:
        raise ExecutionError(
            f"state cannot be stored as {precision} when it is executed",
            where="--precision",
            fix=f"use one of {', '.join(CODES)}; other formats can be simulated",
        )
    return FLOATS[precision]


def _sign_type(precision: Precision) -> torch.dtype:
    return torch.int8 if precision is Precision.INT8 else _float_type(precision)
