"""Estimated against true gradients: curves over the number of copies, per layer, with what they say of a layer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Literal

import numpy as np

from alrsim.errors import ExecutionError
from alrsim.estimators.variance_law import Array
from alrsim.execution.job import Settings
from alrsim.hardware.precision import Precision
from alrsim.quality.metrics import (
    Interval,
    Law,
    accuracy,
    cosine,
    each_draw,
    fit_law,
    mean_interval,
    noise_factor,
    stability,
)
from alrsim.quality.sampler import Sampler, Subject
from alrsim.rules.options import RuleOptions
from alrsim.rules.segmentation import Segmentation, segmentation_of

OVERALL, LAYER_MEAN = "whole gradient", "mean over layers"

CurveKind = Literal["layer", "whole", "mean"]


@dataclass(frozen=True)
class Curve:
    """One layer's quality over the number of copies, or that of all layers.

    Attributes:
        kind: ``layer``; ``whole``: all parameters as one vector; ``mean``: the plain mean of the layers' cosines.
        index: Stage index of a layer, else -1.
        cosines: Of every draw, ``(K, N)``.
        variance: Variance of the estimate over draws, summed over parameters, over the true gradient's squared norm,
            ``(N,)``. ``None`` for one draw, and for the mean over layers.
        noise: Variance of one copy's estimate over the true gradient's squared norm, from the runs inside each draw;
            for an unbiased method this is rho, also where cosines are too small to fit. ``None`` for one run per draw.
        law: The variance law fitted to the cosines; ``None`` for the mean over layers.
        expected: k * rho by theory, where there is one: noise on parameters (see :func:`expected_noise`).
    """

    kind: CurveKind
    name: str
    index: int
    parameters: int
    cosines: Array
    variance: Array | None
    acc: Interval
    sta: Interval
    noise: Interval | None
    law: Law | None
    expected: float | None = None

    @property
    def label(self) -> str:
        """What tables and pictures call it: a layer's stage and last module, ``1: linear1``."""
        return self.name if self.index < 0 else f"{self.index}: {self.name.split('..')[-1].removeprefix('layers.')}"

    def band(self) -> list[Interval]:
        """Mean cosine over draws at every number of copies, with Student's t interval."""
        return [mean_interval(column) for column in self.cosines.T]


@dataclass(frozen=True)
class Quality:
    """One method's curves: the layers, then the whole gradient, then the mean over layers."""

    method: str
    copies: tuple[int, ...]
    options: RuleOptions
    settings: Settings
    curves: tuple[Curve, ...]
    seconds: float

    def curve(self, name: str) -> Curve:
        """By name of a layer, :data:`OVERALL` or :data:`LAYER_MEAN`."""
        return next(curve for curve in self.curves if curve.name == name)

    @property
    def layers(self) -> tuple[Curve, ...]:
        return tuple(curve for curve in self.curves if curve.kind == "layer")


def gradcheck(
    subject: Subject,
    truth: Array,
    methods: Mapping[str, RuleOptions],
    settings: Settings | Mapping[str, Settings],
    copies: Sequence[int],
    draws: int,
    *,
    fresh: bool = False,
    progress: Callable[[str], None] | None = None,
) -> list[Quality]:
    """Measure every method on the same batch, parameters and noise streams.

    Args:
        truth: The true gradient in the order of ``subject.names``.
        methods: Options by name; their number of copies is ignored.
        settings: Of all methods, or by name of each.
        copies: Ascending, all positive.
        draws: Independent repetitions K.
        progress: Called before every draw with its name.

    Raises:
        ExecutionError: a layer whose true gradient is zero (no cosine), or what the executor refuses.
    """
    for index, (start, end) in subject.spans.items():
        if not np.any(truth[start:end]):
            raise ExecutionError(
                "its true gradient is exactly zero, so that there is no direction to compare with",
                where=f"stage {index} ({subject.stages.stages[index].name})",
                fix="use other data (`data`), another `seed` or `train_steps`; behind a step function (a spike) "
                "autograd finds zero and there is nothing to compare with",
            )
    results = []
    for name, options in methods.items():
        begun = perf_counter()
        numbers = settings if isinstance(settings, Settings) else settings[name]
        sampler = Sampler(subject, options, numbers)
        sampled = _sample(sampler, truth, copies, draws, fresh, partial(_tell, progress, name))
        curves = _curves(subject, truth, tuple(copies), sampled, options, numbers)
        results.append(Quality(name, tuple(copies), options, numbers, curves, perf_counter() - begun))
    return results


@dataclass
class _Sampled:
    """Per part of the gradient: cosines ``(parts, K, N)``, sums of squared norms ``(parts, N)`` and one copy's
    variance ``(parts, K)``, where known; and sums of estimates ``(N, parameters)``."""

    cosines: Array
    squares: Array
    sums: Array
    noise: Array | None


def _tell(progress: Callable[[str], None] | None, name: str, draw: int) -> None:
    if progress is not None:
        progress(f"{name}, draw {draw + 1}")


def _sample(
    sampler: Sampler, truth: Array, copies: Sequence[int], draws: int, fresh: bool, tell: Callable[[int], None]
) -> _Sampled:
    parts = sampler.subject.parts
    noise: list[Array] = []
    found = _Sampled(
        np.zeros((len(parts), draws, len(copies))),
        np.zeros((len(parts), len(copies))),
        np.zeros((len(copies), len(truth))),
        None,
    )
    for draw in range(draws):
        tell(draw)
        for at, estimate in enumerate(sampler.curve(copies, draw, fresh=fresh)):
            found.sums[at] += estimate.gradient
            for part, (start, end) in enumerate(parts):
                piece = estimate.gradient[start:end]
                found.cosines[part, draw, at] = cosine(piece, truth[start:end])
                found.squares[part, at] += float(piece @ piece)
        one = estimate.noise(parts)
        if one is not None:
            noise.append(one)
    if noise:
        found.noise = np.stack(noise, axis=1)
    return found


def _curves(
    subject: Subject,
    truth: Array,
    copies: tuple[int, ...],
    sampled: _Sampled,
    options: RuleOptions,
    settings: Settings,
) -> tuple[Curve, ...]:
    k = noise_factor(options.noise, signs=codes_noise(options))
    segmentation = segmentation_of("lr", subject.stages, options)
    expected = expected_noise(subject, truth, options, settings, k)
    draws = sampled.cosines.shape[1]
    curves = []
    for part, ((start, end), index) in enumerate(zip(subject.parts, [*subject.spans, -1], strict=True)):
        cosines, signal = sampled.cosines[part], float((truth[start:end] ** 2).sum())
        variance = None
        if draws > 1:
            mean_square = (sampled.sums[:, start:end] ** 2).sum(1) / draws
            variance = np.maximum(sampled.squares[part] - mean_square, 0.0) / (draws - 1) / signal
        noise = None if sampled.noise is None else mean_interval(sampled.noise[part] / signal)
        free = codes_inputs(options) and not (index >= 0 and segmentation.on_weights(index))
        order = orthogonal_order(segmentation, options, index, subject.program.batch)
        fitted = fit_law(copies, cosines, k=k, free_ceiling=free, order=order, seed=settings.seed)
        kind: CurveKind = "layer" if index >= 0 else "whole"
        name = subject.stages.stages[index].name if index >= 0 else OVERALL
        numbers = _paper(copies, cosines)
        curve = Curve(kind, name, index, end - start, cosines, variance, *numbers, noise, fitted, expected.get(index))
        curves.append(curve)
    mean = sampled.cosines[:-1].mean(0)
    whole = curves[-1].parameters
    return (*curves, Curve("mean", LAYER_MEAN, -1, whole, mean, None, *_paper(copies, mean), None, None))


def codes_noise(options: RuleOptions) -> bool:
    """Whether gradients see the signs of the noise."""
    return options.noise_code == "sign" or options.precision.noise is Precision.SIGN1


def codes_inputs(options: RuleOptions) -> bool:
    """Whether gradients see codes of the inputs that cap their cosine."""
    return options.input_code != "plain" or options.precision.saved in (Precision.SIGN1, Precision.INT4)


def orthogonal_order(segmentation: Segmentation, options: RuleOptions, stage: int, batch: int) -> int | None:
    """Copies that make a stage's estimate exact: Hadamard rows of its one noised value, one stage at a time.

    ``stage`` -1 is the whole gradient, whose stages have orders of their own.
    """
    if options.noise != "hadamard" or options.scope != "layerwise" or stage < 0:
        return None
    elements = [count // batch for _, count in segmentation.noised[stage]]
    return 1 << (elements[0] - 1).bit_length() if len(elements) == 1 else None


def expected_noise(
    subject: Subject, truth: Array, options: RuleOptions, settings: Settings, k: float
) -> dict[int, float]:
    """``k * rho`` of noise on parameters by theory, by stage (-1: the whole gradient).

    A copy's estimate is ``(sum_j s_j g_j.e_j) e_l / s_l`` over the stages j that the copy perturbs, s their sigma. Its
    variance over ``|g_l|^2`` is ``D_l sum_j (s_j |g_j| / s_l |g_l|)^2 + 1``; alone, ``D_l + 1``. The 1 is that of
    Gaussian noise and is left out: with signs and +-1 noise it differs, and D is large. Joint with noise on values, or
    on stages without a true gradient, there is no such formula.
    """
    squares = {stage: float((truth[start:end] ** 2).sum()) for stage, (start, end) in subject.spans.items()}
    sizes = {stage: end - start for stage, (start, end) in subject.spans.items()}
    chosen = [stage for stage in subject.spans if stage in options.weight_noise]
    if options.scope == "layerwise":
        found = {stage: k * sizes[stage] for stage in chosen}
    elif set(chosen) == set(subject.spans) == set(options.weight_noise):
        loss = sum(settings.sigma_of(stage) ** 2 * square for stage, square in squares.items())
        found = {stage: k * sizes[stage] * loss / (settings.sigma_of(stage) ** 2 * squares[stage]) for stage in chosen}
    else:
        return {}
    if len(chosen) == len(subject.spans):
        found[-1] = sum(found[stage] * squares[stage] for stage in chosen) / sum(squares.values())
    return found


def _paper(copies: Sequence[int], cosines: Array) -> tuple[Interval, Interval]:
    return each_draw(accuracy, copies, cosines), each_draw(stability, copies, cosines)
