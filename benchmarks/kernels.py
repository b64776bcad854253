"""The gradient's kernels: products of codes and noise, noise itself, and its accumulation; on one core and on two.

Every product is compared with the fp32 one before its time is printed. Times are wall time, because two threads share
the work, and all kernels of a table run in turn within each repeat, so that other programs disturb all of them alike:
read the ratios.
"""

import gc
import os
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional

from alrsim.estimators.cotangent import cotangent
from alrsim.estimators.kernels.gemm import intra_op
from alrsim.estimators.kernels.noise_key import PhiloxKey
from alrsim.estimators.kernels.philox import accumulate_noise, philox_noise
from alrsim.estimators.kernels.product import PRODUCTS
from alrsim.estimators.kernels.shapes import ConvShape
from alrsim.estimators.policy import NoiseKind
from benchmarks.measure import Row, Sample, say

COPIES, SAMPLES = 10, 50
"""Of ResNet-5; ResNet-9 has fewer samples, so that the run takes no longer."""

KEPT = {
    "as int8": ("int8", "int8-bits"),
    "as packed bits": ("packed",),
    "anyhow": tuple(name for name in PRODUCTS if name != "paper"),
}
"""Kernels among which the choice by measured cost is free, by how signs are kept until the gradient."""


def _same(channels: int, outputs: int, size: int) -> ConvShape:
    return ConvShape(channels, outputs, (size, size), (3, 3), (1, 1), (1, 1), (1, 1))


RESNET5 = (_same(3, 8, 32), _same(8, 16, 32), _same(16, 32, 16), _same(32, 32, 16))
RESNET9 = (
    _same(3, 64, 32),
    _same(64, 128, 32),
    _same(128, 128, 16),
    _same(128, 256, 16),
    _same(256, 512, 8),
    _same(512, 512, 4),
)


def kernels(_sizes: Sequence[int], repeats: int) -> list[Row]:
    """All tables; "tasks" are copies times samples, or elements of noise."""
    rows: list[Row] = []
    for threads in sorted({1, min(2, os.cpu_count() or 1)}):
        with intra_op(threads), torch.no_grad():
            rows += _products("ResNet-5", RESNET5, COPIES, SAMPLES, repeats, threads)
            rows += _products("ResNet-9", RESNET9, COPIES, 20, repeats, threads)
            rows += _generation(repeats, threads) + _accumulation(repeats, threads) + _parameters(repeats, threads)
    return rows


def _cores(threads: int) -> str:
    return f"{threads} core{'s' * (threads > 1)}, wall time"


def _products(
    name: str, shapes: Sequence[ConvShape], copies: int, samples: int, repeats: int, threads: int
) -> list[Row]:
    """One gradient task per shape and kernel, {0, 1} input and signs of noise; then the sum over the shapes."""
    rows: list[Row] = []
    times: list[dict[str, list[float]]] = []
    section = f"gradient task, {name}, {copies} copies of {samples} samples, {_cores(threads)}"
    for shape in shapes:
        say(f"kernels: {name} {shape.inputs}-{shape.outputs} at {shape.size[0]}, {_cores(threads)}")
        times.append(_in_turn(_tasks(shape, copies, samples, threads), repeats))
        label = f"{shape.inputs}-{shape.outputs} at {shape.size[0]}x{shape.size[1]}"
        rows += _compared(section, label, copies * samples, times[-1])
    for label, among in KEPT.items():
        best = [min((found[kernel] for kernel in among), key=median) for found in times]
        for found, one in zip(times, best, strict=True):
            found[f"fastest, signs kept {label}"] = one
    sums = {
        kernel: [sum(parts) for parts in zip(*(found[kernel] for found in times), strict=True)] for kernel in times[0]
    }
    return rows + _compared(section, "all convolutions", copies * samples, sums)


def _compared(section: str, label: str, size: int, times: Mapping[str, Sequence[float]]) -> list[Row]:
    """Ratios are taken within each repeat; their median and their range are printed."""

    def against(kernel: str, other: str) -> str:
        ratios = sorted(theirs / ours for theirs, ours in zip(times[other], times[kernel], strict=True))
        return f"{median(ratios):.2f}x ({ratios[0]:.1f} to {ratios[-1]:.1f})"

    return [
        Row(
            section,
            f"{label}: {kernel}",
            size,
            _sample(seconds),
            f"{against(kernel, 'paper')} paper-style fp32, {against(kernel, 'fp32')} fp32 im2col product",
        )
        for kernel, seconds in times.items()
    ]


def _tasks(shape: ConvShape, copies: int, samples: int, threads: int) -> dict[str, Callable[[], Tensor]]:
    """Every kernel's product of the same codes, checked against the first one's."""
    generator = torch.Generator().manual_seed(0)
    count = copies * samples
    x = torch.randint(0, 2, (count, shape.inputs, *shape.size), generator=generator).float()
    e = torch.randint(0, 2, (count, shape.outputs, *shape.out_size), generator=generator).float().mul_(2).sub_(1)
    weights = torch.randn(copies, samples, generator=generator)
    tasks: dict[str, Callable[[], Tensor]] = {}
    expected: Tensor | None = None
    for name, kernel in PRODUCTS.items():
        kept = kernel.keep_input(x, shape, "binary"), kernel.keep_noise(e, shape, "sign")

        def run(kernel=kernel, kept=kept) -> Tensor:
            return kernel.multiply(*kept, weights, shape, threads)

        result = run()
        expected = result if expected is None else expected
        error = float((result - expected).norm() / expected.norm())
        if error > 0.07:
            raise SystemExit(f"{name} differs from fp32 by {error:.3f} on {shape}; no ratio is printed")
        tasks[name] = run
    return tasks


def _in_turn(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Wall time of each call in each repeat, once more before that to warm up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(repeats + 1):
        gc.collect()
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if repeat:
                times[name].append(time.perf_counter() - start)
    return times


def _sample(seconds: Sequence[float]) -> Sample:
    return Sample(median(seconds), min(seconds), max(seconds), len(seconds))


def _generation(repeats: int, threads: int) -> list[Row]:
    """Noise of the second convolution's output: what it costs to have it at all, beside making that output."""
    shape, key = (16, 32, 32), PhiloxKey(1)
    elements, copies, samples = 16 * 32 * 32, range(COPIES), range(SAMPLES)
    x, weight = torch.randn(COPIES * SAMPLES, 8, 32, 32), torch.randn(16, 8, 3, 3)
    calls: dict[str, Callable[[], object]] = {
        "torch.randn": lambda: torch.randn(COPIES, SAMPLES, *shape),
        "torch signs: random_, mul_, sub_": lambda: torch.empty(COPIES, SAMPLES, *shape).random_(0, 2).mul_(2).sub_(1),
    }
    kinds: tuple[NoiseKind, ...] = ("gauss", "laplace", "rademacher", "hadamard")
    for kind in kinds:
        calls[f"Philox {kind}, fp32"] = lambda kind=kind: philox_noise(
            key, copies, samples, shape, kind, threads=threads
        )
    calls["the convolution that makes these elements (8-16, fp32)"] = lambda: functional.conv2d(x, weight, padding=1)
    return _ratios(f"noise, {_cores(threads)}", calls, COPIES * SAMPLES * elements, repeats)


def _accumulation(repeats: int, threads: int) -> list[Row]:
    """The cotangent of the second convolution from noise and losses: regenerated and added, or drawn and stacked."""
    shape, key = (16, 32, 32), PhiloxKey(1)
    weights, total = torch.randn(COPIES, SAMPLES), torch.zeros(SAMPLES, *shape)
    copies, samples = range(COPIES), range(SAMPLES)

    def summed(noise: Tensor) -> Tensor:
        return cotangent(weights, noise, 1.0, COPIES, SAMPLES)

    calls: dict[str, Callable[[], object]] = {
        "torch.randn, then weighted sum": lambda: summed(torch.randn(COPIES, SAMPLES, *shape))
    }
    kinds: tuple[NoiseKind, ...] = ("gauss", "rademacher", "hadamard")
    for kind in kinds:
        calls[f"Philox {kind}, then weighted sum"] = lambda kind=kind: summed(
            philox_noise(key, copies, samples, shape, kind, threads=threads)
        )
        calls[f"Philox {kind}, fused"] = lambda kind=kind: accumulate_noise(
            total, weights, key, copies, samples, kind, threads=threads
        )
    return _ratios(f"accumulation, {_cores(threads)}", calls, COPIES * total.numel(), repeats)


def _parameters(repeats: int, threads: int) -> list[Row]:
    """Noise on a million parameters, which all samples share: its weighted sum over the copies."""
    key, weights, total = PhiloxKey(1), torch.randn(COPIES, 1), torch.zeros(1, 1 << 20)
    calls: dict[str, Callable[[], object]] = {
        "torch.randn, then weighted sum": lambda: weights.T @ torch.randn(COPIES, total.numel())
    }
    kinds: tuple[NoiseKind, ...] = ("gauss", "rademacher", "hadamard")
    for kind in kinds:
        calls[f"Philox {kind}, fused"] = lambda kind=kind: accumulate_noise(
            total, weights, key, range(COPIES), range(1), kind, threads=threads
        )
    return _ratios(f"noise on parameters, {_cores(threads)}", calls, COPIES * total.numel(), repeats)


def _ratios(section: str, calls: Mapping[str, Callable[[], object]], count: int, repeats: int) -> list[Row]:
    """The first call is the yardstick."""
    say(f"kernels: {section}")
    times = _in_turn(calls, repeats)
    first = next(iter(times))
    rows = []
    for name, seconds in times.items():
        rate = median(base / own for base, own in zip(times[first], seconds, strict=True))
        rows.append(Row(section, name, count, _sample(seconds), f"{rate:.2f}x the rate of {first}"))
    return rows
