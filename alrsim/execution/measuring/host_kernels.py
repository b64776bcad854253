"""Generic kernels over sizes: what a roofline of this host is fitted to, for models that were never run here.

Every kernel is timed alone on one core, and beside the same kernel on all other units' cores.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from alrsim.errors import OptionError
from alrsim.execution.measuring.calibrate import spread
from alrsim.execution.measuring.empty import empty_lane
from alrsim.execution.measuring.timelines import device_name
from alrsim.execution.workers.thread_workers import core_count, one_thread, run_lanes
from alrsim.hardware.calibration import Kernel
from alrsim.hardware.precision import Precision

BATCH_NS = 4_000_000
"""A kernel is repeated within one timing until it takes about so long."""

MATRICES = (32, 64, 128, 256, 512, 1024)
CHANNELS = (8, 16, 32, 64)
ELEMENTS = (1 << 10, 1 << 13, 1 << 16, 1 << 19)
COPIES = (1 << 22, 1 << 25)
"""Bytes copied: beyond caches."""

_LAUNCHES = 64

Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Probe:
    """One kernel at one size.

    Attributes:
        size: MACs; elements; bytes read and written; operators.
        make: Makes the call, with operands of its own.
    """

    kernel: Kernel
    precision: Precision
    size: int
    make: Callable[[], Call]


@dataclass(frozen=True, slots=True)
class Timing:
    """ns of one probe: medians alone and beside busy neighbours, and the spread alone."""

    probe: Probe
    alone: float
    busy: float
    spread: float


def probes(device: torch.device, *, small: bool = False) -> list[Probe]:
    """Every kernel that the device has, over sizes.

    Args:
        small: The smallest sizes only, for a quick look.
    """
    found = [Probe("launch", Precision.FP32, _LAUNCHES, lambda: _launches(device))]
    for n in MATRICES[: 3 if small else None]:
        for precision, make in _PRODUCTS.items():
            if (call := _try(make, n, device)) is not None:
                found.append(Probe("matmul", precision, n**3, call))
    found += [_convolution(channels, device) for channels in CHANNELS[: 2 if small else None]]
    found += [_elementwise(size, device) for size in ELEMENTS[: 2 if small else None]]
    return found + [_copy(size, device) for size in COPIES[: 1 if small else None]]


def measure(
    found: Sequence[Probe],
    units: int,
    repeats: int,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> list[Timing]:
    """Time every probe alone and beside busy neighbours, all probes in turn.

    Args:
        units: Workers that run a kernel of their own at the same time; at most as many as there are cores.
    """
    workers = 1 if device.type == "cuda" else max(1, min(units, core_count()))
    calls = [[probe.make() for _ in range(workers)] for probe in found]
    alone: list[list[float]] = [[] for _ in found]
    busy: list[list[float]] = [[] for _ in found]
    with one_thread():
        counts = [_count(mine[0], device) for mine in calls]
        for turn in range(repeats):
            for index, mine in enumerate(calls):
                alone[index].append(_beside(mine[:1], counts[index], device))
                if workers > 1:
                    busy[index].append(_beside(mine, counts[index], device))
                if progress is not None:
                    progress(turn * len(found) + index + 1, repeats * len(found))
    return [
        Timing(probe, median(one), max(median(one), median(two)) if two else median(one), spread(one))
        for probe, one, two in zip(found, alone, busy, strict=True)
    ]


def device_of(name: str) -> torch.device:
    """``cpu`` or ``cuda``.

    Raises:
        OptionError: another name, or no such device here.
    """
    if name not in ("cpu", "cuda"):
        raise OptionError(f"{name!r} is no device", field="device", fix="choose cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise OptionError("there is no CUDA device here", field="device", fix="`device=cpu`")
    return torch.device(name)


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What is calibrated.

    Attributes:
        memory: Bytes of a device that has memory of its own.
    """

    name: str
    torch: str
    memory: int | None = None


def describe_device(name: str) -> DeviceFacts:
    """Name, torch version and memory of ``cpu`` or ``cuda``."""
    if name == "cuda":
        facts = torch.cuda.get_device_properties(0)
        return DeviceFacts(facts.name, str(torch.__version__), facts.total_memory)
    return DeviceFacts(device_name(), str(torch.__version__))


def _beside(calls: Sequence[Call], count: int, device: torch.device) -> float:
    """ns per call where every worker calls its own kernel ``count`` times; the slowest worker decides."""

    def body(index: int) -> None:
        call = calls[index]
        for _ in range(count):
            call()
        _wait(device)

    times = run_lanes(empty_lane(len(calls)), [[(index,)] for index in range(len(calls))], body)
    return max(end - start for start, end in zip(times.start, times.end, strict=True)) / count


def _count(call: Call, device: torch.device) -> int:
    """How often to call within one timing."""
    call()
    _wait(device)
    start = time.perf_counter_ns()
    call()
    _wait(device)
    return max(1, min(10_000, BATCH_NS // max(1, time.perf_counter_ns() - start)))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _matmul(n: int, dtype: torch.dtype, device: torch.device) -> Call:
    a, b = (torch.ones(n, n, dtype=dtype, device=device) for _ in range(2))
    out = torch.empty(n, n, dtype=dtype, device=device)
    return lambda: torch.mm(a, b, out=out)


def _int8(n: int, device: torch.device) -> Call:
    a, b = (torch.ones(n, n, dtype=torch.int8, device=device) for _ in range(2))
    product: Callable[[Tensor, Tensor], Tensor] = torch._int_mm
    return lambda: product(a, b)


_PRODUCTS: Mapping[Precision, Callable[[int, torch.device], Call]] = {
    Precision.FP32: lambda n, device: _matmul(n, torch.float32, device),
    Precision.BF16: lambda n, device: _matmul(n, torch.bfloat16, device),
    Precision.INT8: _int8,
}


def _try(make: Callable[[int, torch.device], Call], n: int, device: torch.device) -> Callable[[], Call] | None:
    """Not every device multiplies every format at every size."""
    try:
        make(n, device)()
    except (RuntimeError, NotImplementedError):
        return None
    return lambda: make(n, device)


def _convolution(channels: int, device: torch.device) -> Probe:
    """A 3 x 3 convolution of 8 images of 16 x 16."""

    def make() -> Call:
        x = torch.ones(8, channels, 16, 16, device=device)
        w = torch.ones(channels, channels, 3, 3, device=device)
        return lambda: torch.nn.functional.conv2d(x, w, padding=1)

    return Probe("conv", Precision.FP32, 8 * 16 * 16 * 9 * channels**2, make)


def _elementwise(size: int, device: torch.device) -> Probe:
    def make() -> Call:
        x, y = torch.ones(size, device=device), torch.zeros(size, device=device)
        return lambda: x.add_(y)

    return Probe("elementwise", Precision.FP32, size, make)


def _copy(size: int, device: torch.device) -> Probe:
    def make() -> Call:
        source, target = (torch.ones(size // 4, device=device) for _ in range(2))
        return lambda: target.copy_(source)

    return Probe("copy", Precision.FP32, 2 * size, make)


def _launches(device: torch.device) -> Call:
    x, y = torch.ones(1, device=device), torch.zeros(1, device=device)

    def call() -> None:
        for _ in range(_LAUNCHES):
            x.add_(y)

    return call


def by_kernel(timings: Sequence[Timing]) -> Iterator[tuple[Kernel, Precision, list[Timing]]]:
    """Timings of one kernel and format together, in order of first appearance."""
    groups: dict[tuple[Kernel, Precision], list[Timing]] = {}
    for one in timings:
        groups.setdefault((one.probe.kernel, one.probe.precision), []).append(one)
    for (kernel, precision), found in groups.items():
        yield kernel, precision, found
