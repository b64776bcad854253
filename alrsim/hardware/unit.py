"""An atomic compute unit."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from alrsim.hardware.precision import Precision


@dataclass(frozen=True, slots=True)
class Unit:
    """One atomic compute unit: one task at a time. ``None`` means unbounded or unknown.

    Attributes:
        name: Unique in its machine: ``u0``, ``u1``...
        device: What it is, for reports: ``H100 SXM5``.
        peak_flops: Dense FLOP/s (2 per MAC) of matrix work per precision. Empty: an abstract unit.
        elementwise_flops: FLOP/s of element-wise work; ``None`` means it is hidden behind memory traffic.
        efficiency: Per precision, ``(macs, share of peak reached)`` points in ascending ``macs``; interpolated in
            log(macs), held at both ends. Empty: 1.
        memory_bytes: Capacity.
        memory_bandwidth: Bytes/s.
        launch_overhead_ns: Time per kernel that no computation hides.
        power_watts: Board power, for energy estimates.
    """

    name: str
    device: str = "abstract"
    peak_flops: Mapping[Precision, float] = field(default_factory=dict)
    elementwise_flops: float | None = None
    efficiency: Mapping[Precision, tuple[tuple[int, float], ...]] = field(default_factory=dict)
    memory_bytes: int | None = None
    memory_bandwidth: float | None = None
    launch_overhead_ns: int = 0
    power_watts: float | None = None
