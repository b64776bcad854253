"""What a piece of computation does, counted in elements so that any precision can price it."""

from dataclasses import astuple, dataclass


@dataclass(frozen=True, slots=True)
class Work:
    """Counts for one execution of an operator, or of several.

    Attributes:
        macs: Multiply-accumulates in matrix products and convolutions (1 MAC = 2 FLOP).
        elementwise: FLOPs of everything else; reported apart from MACs.
        param_reads: Parameter elements read.
        param_writes: Parameter (or parameter-gradient) elements written.
        activation_reads: Activation (or activation-gradient) elements read.
        activation_writes: Activation (or activation-gradient) elements written.
        launches: Kernels launched, for launch overhead.
        products: How many of them are matrix products or convolutions; ``macs / products`` is the typical size that
            decides how efficient they are.
    """

    macs: int = 0
    elementwise: int = 0
    param_reads: int = 0
    param_writes: int = 0
    activation_reads: int = 0
    activation_writes: int = 0
    launches: int = 0
    products: int = 0

    def __add__(self, other: "Work") -> "Work":
        return Work(
            self.macs + other.macs,
            self.elementwise + other.elementwise,
            self.param_reads + other.param_reads,
            self.param_writes + other.param_writes,
            self.activation_reads + other.activation_reads,
            self.activation_writes + other.activation_writes,
            self.launches + other.launches,
            self.products + other.products,
        )

    def stacked(self, copies: int) -> "Work":
        """The same work on ``copies`` stacked replicas: parameters are touched and kernels launched once."""
        return Work(
            self.macs * copies,
            self.elementwise * copies,
            self.param_reads,
            self.param_writes,
            self.activation_reads * copies,
            self.activation_writes * copies,
            self.launches,
            self.products,
        )

    def repeated(self, times: int) -> "Work":
        """The same work done ``times`` times, one after the other: nothing is shared, not even parameters."""
        return Work(*(count * times for count in astuple(self)))

    @property
    def flops(self) -> int:
        """``2 * macs + elementwise``."""
        return 2 * self.macs + self.elementwise


NO_WORK = Work()
