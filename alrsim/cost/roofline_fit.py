"""From kernels that were timed over sizes to the figures of a roofline, and how far that roofline then is from them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp, log
from statistics import median

from alrsim.cost.curve_fit import monotone
from alrsim.cost.roofline import efficiency
from alrsim.hardware.calibration import KernelSection
from alrsim.hardware.machine import Unit
from alrsim.hardware.precision import Precision

_LEAST_SHARE = 0.1
"""At least so much of a kernel's time is work, whatever the launch overhead says."""


@dataclass(frozen=True)
class HostFit:
    """Figures of one unit.

    Attributes:
        peaks: FLOP/s by format: the best rate of any product.
        efficiency: By format, ``(macs, share of the peak)``, ascending in both.
        elementwise_flops: Best rate inside caches.
        memory_bandwidth: Bytes/s, read and written.
        launch_ns: Per operator.
    """

    peaks: dict[Precision, float] = field(default_factory=dict)
    efficiency: dict[Precision, tuple[tuple[int, float], ...]] = field(default_factory=dict)
    elementwise_flops: float = 0.0
    memory_bandwidth: float = 0.0
    launch_ns: int = 0

    @property
    def unit(self) -> Unit:
        """The unit that these figures describe."""
        return Unit(
            "u0",
            peak_flops=self.peaks,
            elementwise_flops=self.elementwise_flops,
            efficiency=self.efficiency,
            memory_bandwidth=self.memory_bandwidth,
            launch_overhead_ns=self.launch_ns,
        )


def fit_host(kernels: Sequence[KernelSection]) -> HostFit:
    """Fit every figure; an efficiency curve is the closest one that never falls with the size (products of a size that
    occurs twice are averaged)."""
    launch = _launch(kernels)
    rates: dict[Precision, dict[int, list[float]]] = {}
    for one in kernels:
        if one.kernel in ("matmul", "conv"):
            for size, alone, *_ in one.points:
                rates.setdefault(one.precision, {}).setdefault(size, []).append(2e9 * size / _work(alone, launch))
    peaks = {precision: max(map(max, found.values())) for precision, found in rates.items()}
    return HostFit(
        peaks,
        {precision: _shares(found, peaks[precision]) for precision, found in rates.items()},
        max(
            (1e9 * p[0] / _work(p[1], launch) for one in kernels if one.kernel == "elementwise" for p in one.points),
            default=0.0,
        ),
        max((1e9 * p[0] / p[1] for one in kernels if one.kernel == "copy" for p in one.points), default=0.0),
        round(launch),
    )


def predicted_ns(fit: HostFit, kernel: str, precision: Precision, size: int) -> float:
    """What the roofline with these figures says of a timed kernel."""
    if kernel == "launch":
        return float(size * fit.launch_ns)
    if kernel == "copy":
        return 1e9 * size / fit.memory_bandwidth
    if kernel == "elementwise":
        moved = 12 * size / fit.memory_bandwidth  # two operands in, one result out, 4 bytes each
        return 1e9 * max(size / fit.elementwise_flops, moved) + fit.launch_ns
    share = efficiency(fit.unit, precision, float(size))
    return 2e9 * size / (fit.peaks[precision] * share) + fit.launch_ns


def with_error(fit: HostFit, section: KernelSection) -> KernelSection:
    """The section with the median of |predicted / measured - 1| over its points."""
    errors = [
        abs(predicted_ns(fit, section.kernel, section.precision, size) / alone - 1)
        for size, alone, *_ in section.points
    ]
    return section.model_copy(update={"error": round(median(errors), 4)})


def _launch(kernels: Sequence[KernelSection]) -> float:
    """ns per operator; no kernel of one operator can take less."""
    probes = [point[1] / point[0] for one in kernels if one.kernel == "launch" for point in one.points]
    singles = [point[1] for one in kernels if one.kernel not in ("launch", "copy") for point in one.points]
    return min(probes + singles) if probes else 0.0


def _work(alone: float, launch: float) -> float:
    return max(alone - launch, _LEAST_SHARE * alone)


def _shares(rates: dict[int, list[float]], peak: float) -> tuple[tuple[int, float], ...]:
    sizes = sorted(rates)
    # In logarithms, as errors of a prediction count: half as fast is as wrong as twice as fast.
    logs = [sum(log(rate / peak) for rate in rates[size]) / len(rates[size]) for size in sizes]
    means = monotone(logs, [len(rates[size]) for size in sizes])
    return tuple((size, float(f"{min(1.0, exp(share)):.4g}")) for size, share in zip(sizes, means, strict=True))
