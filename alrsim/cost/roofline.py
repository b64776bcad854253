"""The roofline: a task takes as long as its arithmetic or its memory traffic, whichever is longer, plus launches.

S. Williams, A. Waterman, D. Patterson: Roofline, Communications of the ACM 52(4), 2009. The launch overhead is added,
because short kernels are dominated by it. Without calibration, trust ratios and rankings more than absolute times.
"""

from bisect import bisect_right
from math import ceil, log

from alrsim.errors import ProfileError
from alrsim.graph.work import NO_WORK, Work
from alrsim.hardware.machine import Unit
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.tasks.taskgraph import Task
from alrsim.units import Bytes, Ns


def roofline(task: Task, unit: Unit, plan: PrecisionPlan) -> Ns:
    """Nanoseconds of a task: its plain work, then its product of codes.

    Codes (LR's saved input and noise) are multiplied at the unit's 1-bit peak if both are signs and it has one, else
    at its int8 peak; a unit without one decodes them and multiplies in the activation format.

    Raises:
        ProfileError: the unit has no peak for the activation format, or no peaks at all.
    """
    seconds = _seconds(task.work, unit, plan.activations, bytes_moved(task.work, plan))
    if task.encoded != NO_WORK:
        code = _code_format(plan)
        seconds += _seconds(task.encoded, unit, _code_peak(unit, code, plan), _code_bytes(task.encoded, code, plan))
    return ceil(round(seconds * 1e9, 6))


def efficiency(unit: Unit, precision: Precision, macs: float) -> float:
    """Share of the peak that a product of this size reaches: interpolated in log(macs), held at both ends."""
    points = unit.efficiency.get(precision, ())
    if not points:
        return 1.0
    index = bisect_right([size for size, _ in points], macs)
    if index in (0, len(points)):
        return points[min(index, len(points) - 1)][1]
    (low, share), (high, next_share) = points[index - 1], points[index]
    return share + (next_share - share) * (log(macs) - log(low)) / (log(high) - log(low))


def _seconds(work: Work, unit: Unit, precision: Precision, traffic: int) -> float:
    compute = 0.0
    if work.macs:
        peak = _peak(unit, precision) * efficiency(unit, precision, work.macs / max(1, work.products))
        compute += 2 * work.macs / peak
    if work.elementwise and unit.elementwise_flops is not None:
        compute += work.elementwise / unit.elementwise_flops
    memory = traffic / unit.memory_bandwidth if unit.memory_bandwidth else 0.0
    return max(compute, memory) + work.launches * unit.launch_overhead_ns * 1e-9


def _peak(unit: Unit, precision: Precision) -> float:
    if precision in unit.peak_flops:
        return unit.peak_flops[precision]
    has = ", ".join(unit.peak_flops) or "none: it is an abstract unit"
    raise ProfileError(
        f"unit {unit.name} ({unit.device}) has no peak for {precision}; it has {has}",
        where="roofline",
        fix=f"`precision=activations={next(iter(unit.peak_flops))}`" if unit.peak_flops else "use the unit cost model",
    )


def _code_format(plan: PrecisionPlan) -> Precision:
    """Both codes in the wider of the two formats; regenerated noise takes that of the saved input."""
    return max(plan.saved, plan.noise, key=lambda precision: precision.bits)


def _code_peak(unit: Unit, code: Precision, plan: PrecisionPlan) -> Precision:
    if code in unit.peak_flops:
        return code
    if code.bits <= Precision.INT8.bits and Precision.INT8 in unit.peak_flops:
        return Precision.INT8
    return plan.activations


def _code_bytes(work: Work, code: Precision, plan: PrecisionPlan) -> int:
    """Codes are read in their format; results are written in the format of parameters and activations."""
    return (
        code.bytes_for(work.activation_reads)
        + plan.activations.bytes_for(work.activation_writes)
        + plan.parameters.bytes_for(work.param_reads + work.param_writes)
    )


def bytes_moved(work: Work, plan: PrecisionPlan) -> Bytes:
    """Bytes that the work reads and writes, parameters and activations each in their own format."""
    parameters = work.param_reads + work.param_writes
    activations = work.activation_reads + work.activation_writes
    return plan.parameters.bytes_for(parameters) + plan.activations.bytes_for(activations)
