"""The gradient's kernels on one core: products of codes and noise, noise itself, and its accumulation.

Every product is compared with the fp32 one before its time is printed. One core and CPU time: what an executor's worker
has, and other programs disturb it least.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from alrsim.estimators.cotangent import cotangent
from alrsim.estimators.kernels.gemm import intra_op
from alrsim.estimators.kernels.philox import PhiloxKey, PhiloxKind, accumulate_noise, philox_bits, philox_noise
from alrsim.estimators.kernels.product import PRODUCTS
from alrsim.estimators.kernels.shapes import ConvShape
from benchmarks.measure import Row, Sample, measure, say

COPIES, SAMPLES = 10, 50
"""Of ResNet-5; ResNet-9 has fewer, so that the run takes no longer."""


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
    with intra_op(1), torch.no_grad():
        rows = [
            *_products("ResNet-5", RESNET5, COPIES, SAMPLES, repeats),
            *_products("ResNet-9", RESNET9, 4, 20, repeats),
        ]
        return rows + _generation(repeats) + _accumulation(repeats)


def _products(name: str, shapes: Sequence[ConvShape], copies: int, samples: int, repeats: int) -> list[Row]:
    """One gradient task per shape and kernel, {0, 1} input and signs of noise; then the sum over the shapes."""
    rows, sums = [], dict.fromkeys(PRODUCTS, 0.0)
    section = f"gradient task, {name}, {copies} copies of {samples} samples"
    for shape in shapes:
        say(f"kernels: {name} {shape.inputs}-{shape.outputs} at {shape.size[0]}")
        found = dict(_timed(shape, copies, samples, repeats))
        for kernel, sample in found.items():
            sums[kernel] += sample.median
            label = f"{shape.inputs}-{shape.outputs} at {shape.size[0]}x{shape.size[1]}: {kernel}"
            note = _against(sample.median, found["paper"].median, found["fp32"].median)
            rows.append(Row(section, label, copies * samples, sample, note))
    for kernel, seconds in sums.items():
        sample = Sample(seconds, seconds, seconds, repeats)
        note = _against(seconds, sums["paper"], sums["fp32"])
        rows.append(Row(section, f"all convolutions: {kernel}", copies * samples, sample, note))
    return rows


def _timed(shape: ConvShape, copies: int, samples: int, repeats: int) -> Iterator[tuple[str, Sample]]:
    generator = torch.Generator().manual_seed(0)
    count = copies * samples
    x = torch.randint(0, 2, (count, shape.inputs, *shape.size), generator=generator).float()
    e = torch.randint(0, 2, (count, shape.outputs, *shape.out_size), generator=generator).float().mul_(2).sub_(1)
    weights = torch.randn(copies, samples, generator=generator)
    expected: Tensor | None = None
    for name, kernel in PRODUCTS.items():
        kept = kernel.keep_input(x, shape, "binary"), kernel.keep_noise(e, shape, "sign")

        def run(kernel=kernel, kept=kept) -> Tensor:
            return kernel.multiply(*kept, weights, shape, 1)

        result = run()
        expected = result if expected is None else expected
        error = float((result - expected).norm() / expected.norm())
        if error > 0.05:
            raise SystemExit(f"{name} differs from fp32 by {error:.3f} on {shape}; no ratio is printed")
        yield name, measure(run, repeats)


def _against(seconds: float, paper: float, fp32: float) -> str:
    return f"{paper / seconds:.2f}x paper-style fp32, {fp32 / seconds:.2f}x fp32 im2col product"


def _generation(repeats: int) -> list[Row]:
    """Noise of the first convolution's output: what it costs to have it at all."""
    shape, key = (8, 32, 32), PhiloxKey(1)
    count = COPIES * SAMPLES * 8 * 32 * 32

    def bits() -> list[Tensor]:
        return [philox_bits(key, copy, range(SAMPLES), 8 * 32 * 32) for copy in range(COPIES)]

    calls: dict[str, Callable[[], object]] = {
        "torch.randn": lambda: torch.randn(COPIES, SAMPLES, *shape),
        "torch signs: random_, mul_, sub_": lambda: torch.empty(count).random_(0, 2).mul_(2).sub_(1),
    }
    kinds: tuple[PhiloxKind, ...] = ("gauss", "laplace", "rademacher")
    for kind in kinds:
        calls[f"Philox {kind}, fp32"] = lambda kind=kind: philox_noise(key, range(COPIES), range(SAMPLES), shape, kind)
    calls["Philox rademacher, packed bits"] = bits
    return _ratios("noise", calls, count, repeats)


def _accumulation(repeats: int) -> list[Row]:
    """The cotangent of the first convolution from noise and losses: regenerated and added, or drawn and stacked."""
    shape, key = (8, 32, 32), PhiloxKey(1)
    weights = torch.randn(COPIES, SAMPLES)
    total = torch.zeros(SAMPLES, *shape)
    kinds: tuple[PhiloxKind, ...] = ("gauss", "rademacher")

    def stacked(kind: PhiloxKind) -> Tensor:
        return cotangent(weights, philox_noise(key, range(COPIES), range(SAMPLES), shape, kind), 1.0, COPIES, SAMPLES)

    calls: dict[str, Callable[[], object]] = {
        "torch.randn, then weighted sum": lambda: cotangent(
            weights, torch.randn(COPIES, SAMPLES, *shape), 1.0, COPIES, SAMPLES
        )
    }
    for kind in kinds:
        calls[f"Philox {kind}, then weighted sum"] = lambda kind=kind: stacked(kind)
        calls[f"Philox {kind}, fused"] = lambda kind=kind: accumulate_noise(
            total, weights, key, range(COPIES), range(SAMPLES), kind
        )
    return _ratios("accumulation", calls, COPIES * total.numel(), repeats)


def _ratios(section: str, calls: dict[str, Callable[[], object]], count: int, repeats: int) -> list[Row]:
    """The first call is the yardstick."""
    say(f"kernels: {section}")
    samples = {name: measure(call, repeats) for name, call in calls.items()}
    first, base = next(iter(samples.items()))
    return [
        Row(section, name, count, sample, f"{base.median / sample.median:.2f}x the rate of {first}")
        for name, sample in samples.items()
    ]
