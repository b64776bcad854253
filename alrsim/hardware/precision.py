"""Number formats, and which of them each kind of state uses."""

from dataclasses import dataclass
from enum import StrEnum


class Precision(StrEnum):
    """A storage format. ``SIGN1`` is one packed bit; ``REGENERATED`` is noise that is never stored (0 bytes)."""

    FP32 = "fp32"
    TF32 = "tf32"
    BF16 = "bf16"
    FP16 = "fp16"
    FP8 = "fp8"
    INT8 = "int8"
    INT4 = "int4"
    SIGN1 = "sign1"
    REGENERATED = "regenerated"

    @property
    def bits(self) -> int:
        """Bits of storage for one element."""
        return _BITS[self]

    def bytes_for(self, elements: int) -> int:
        """Whole bytes for packed elements."""
        return -(-elements * self.bits // 8)


_BITS = {
    Precision.FP32: 32,
    Precision.TF32: 32,
    Precision.BF16: 16,
    Precision.FP16: 16,
    Precision.FP8: 8,
    Precision.INT8: 8,
    Precision.INT4: 4,
    Precision.SIGN1: 1,
    Precision.REGENERATED: 0,
}


@dataclass(frozen=True, slots=True)
class PrecisionPlan:
    """The format of each kind of state.

    Attributes:
        parameters: Parameters, their gradients and optimizer state. fp32, bf16, fp16 or int8.
        activations: Values that flow between operators and stages, gradients of them included; also the format in
            which forward and BP gradient tasks compute.
        saved: The stage input that an LR gradient keeps (fp32, bf16, fp16, int8 or sign1). BP keeps activations.
        noise: Noise kept from forward to gradient: fp32, bf16, fp16, int8, sign1, or regenerated from its counter.
    """

    parameters: Precision = Precision.FP32
    activations: Precision = Precision.FP32
    saved: Precision = Precision.FP32
    noise: Precision = Precision.FP32
