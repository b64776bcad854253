"""What noise costs beside the convolution that it is added to, and what it costs again in the gradient."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any, get_args

import torch
from torch.nn import functional

from alrsim.estimators.cotangent import cotangent
from alrsim.estimators.kernels.gemm import intra_op
from alrsim.estimators.kernels.noise_key import PhiloxKey
from alrsim.estimators.kernels.philox import accumulate_noise, philox_noise
from alrsim.estimators.policy import NoiseKind

COPIES, SAMPLES, SHAPE = 5, 50, (16, 32, 32)
"""The second convolution of ResNet-5, in blocks that the allocator keeps."""

YARDSTICK = "the convolution that makes these elements"


def noise_calls() -> dict[str, Callable[[], object]]:
    """By name; all on one core."""
    key, copies, samples = PhiloxKey(1), range(COPIES), range(SAMPLES)
    x, weight = torch.randn(COPIES * SAMPLES, 8, *SHAPE[1:]), torch.randn(SHAPE[0], 8, 3, 3)
    value = torch.randn(COPIES, SAMPLES, *SHAPE)
    step = torch.full((1, SAMPLES), 0.02)
    weights, total = torch.randn(COPIES, SAMPLES), torch.zeros(SAMPLES, *SHAPE)
    kinds: tuple[NoiseKind, ...] = tuple(kind for kind in get_args(NoiseKind) if kind != "sobol")

    def drawn(kind: NoiseKind) -> torch.Tensor:
        return philox_noise(key, copies, samples, SHAPE, kind)

    calls: dict[str, Callable[[], object]] = {
        YARDSTICK: lambda: functional.conv2d(x, weight, padding=1),
        "forward: torch.randn, add": lambda: torch.add(value, torch.randn(value.shape), alpha=0.02),
    }
    for kind in kinds:
        calls[f"forward: Philox {kind}, add"] = lambda kind=kind: torch.add(value, drawn(kind), alpha=0.02)
    for kind in kinds:
        calls[f"forward: Philox {kind}, drawn while added"] = lambda kind=kind: [
            accumulate_noise(value[copy], step, key, range(copy, copy + 1), samples, kind) for copy in copies
        ]
    calls["gradient: torch.randn kept, weighted sum"] = lambda: cotangent(weights, value, 1.0, COPIES, SAMPLES)
    for kind in kinds:
        calls[f"gradient: Philox {kind} drawn again while summed"] = lambda kind=kind: accumulate_noise(
            total, weights, key, copies, samples, kind
        )
    return calls


def noise_table(repeats: int) -> tuple[list[str], Any]:
    """Lines, and seconds by name: CPU time of one thread, which other programs disturb least."""
    calls = noise_calls()
    times: dict[str, list[float]] = {name: [] for name in calls}
    with intra_op(1), torch.no_grad():
        for repeat in range(repeats + 1):
            for name, call in calls.items():
                start = time.thread_time()
                call()
                if repeat:
                    times[name].append(time.thread_time() - start)
    base = median(times[YARDSTICK])
    elements = COPIES * value_elements()
    lines = ["", "## Noise beside the convolution 8-16, 32x32, 1 core, CPU time of the thread", ""]
    lines += ["| what | ms per copy (range) | ns per element | of the convolution |", "|---|--:|--:|--:|"]
    for name, found in times.items():
        each = [1e3 * value / COPIES for value in sorted(found)]
        cells = f"{median(each):.2f} ({each[0]:.2f} to {each[-1]:.2f}) | {1e9 * median(found) / elements:.2f}"
        lines.append(f"| {name} | {cells} | {100 * median(found) / base:.0f} % |")
    return lines, times


def value_elements() -> int:
    """Elements of one copy."""
    return SAMPLES * SHAPE[0] * SHAPE[1] * SHAPE[2]
