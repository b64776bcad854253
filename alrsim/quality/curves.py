"""Estimated against true gradients: curves over the number of copies, per layer, with what they say of a layer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Literal

import numpy as np

from alrsim.documents import Live
from alrsim.errors import ExecutionError
from alrsim.estimators.variance_law import Array
from alrsim.execution.job import Settings
from alrsim.hardware.precision import Precision
from alrsim.progress import stretch
from alrsim.quality.metrics import (
    Interval,
    Law,
    accuracy,
    cosine,
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
        stage: Index of a layer; ``None``: all layers.
        cosine: Mean over draws at every number of copies, with Student's t interval.
        cosine_std: Over draws, at every number of copies; ``None`` for one draw.
        relative_variance: Variance of the estimate over draws, summed over parameters, over the true gradient's squared
            norm, at every number of copies. ``None`` for one draw, and for the mean over layers.
        acc: The ALR paper's accuracy, ``sta`` its stability.
        noise_of_one_copy: Variance of one copy's estimate over the true gradient's squared norm, from the runs inside
            each draw; for an unbiased method this is rho, also where cosines are too small to fit. ``None`` for one run
            per draw.
        law: The variance law fitted to the cosines; ``None`` for the mean over layers.
        expected_noise: k * rho by theory, where there is one: noise on parameters (see :func:`expected_noise`).
        cosines: Live: of every draw, ``(K, N)``.
    """

    kind: CurveKind
    name: str
    stage: int | None
    parameters: int
    cosine: tuple[Interval, ...]
    cosine_std: tuple[float, ...] | None
    relative_variance: tuple[float, ...] | None
    acc: Interval
    sta: Interval
    noise_of_one_copy: Interval | None
    law: Law | None
    expected_noise: float | None = None
    cosines: Live = field(default=None, repr=False, compare=False)

    @property
    def label(self) -> str:
        """What tables and pictures call it: a layer's stage and last module, ``1: linear1``."""
        return self.name if self.stage is None else f"{self.stage}: {short_name(self.name)}"


def short_name(stage: str) -> str:
    """A stage's last module: ``linear1`` of ``layers.conv0..layers.linear1``."""
    return stage.split("..")[-1].removeprefix("layers.")


def curve_of(
    kind: CurveKind, name: str, stage: int | None, parameters: int, copies: Sequence[int], cosines: Array, **more: Any
) -> Curve:
    """The curve of cosines ``(K, N)``.

    Args:
        more: Fields that are not made from the cosines.
    """
    return Curve(
        kind,
        name,
        stage,
        parameters,
        tuple(mean_interval(column) for column in cosines.T),
        None if len(cosines) < 2 else tuple(cosines.std(0, ddof=1).tolist()),
        acc=mean_interval(accuracy(copies, cosines)),
        sta=mean_interval(stability(copies, cosines)),
        cosines=cosines,
        **{"relative_variance": None, "noise_of_one_copy": None, "law": None, **more},
    )


@dataclass(frozen=True)
class Formats:
    """Number formats of the state that is kept for the gradient."""

    saved: str
    noise: str


@dataclass(frozen=True)
class Quality:
    """One method's curves: the layers, then the whole gradient, then the mean over layers.

    Attributes:
        weight_noise: Stages with noise on their parameters.
        sigmas: Of every stage.
        seconds: That it took.
    """

    method: str
    copies: tuple[int, ...]
    noise: str
    baseline: str
    scope: str
    reduction: str
    input_code: str
    noise_code: str
    weight_noise: tuple[int, ...]
    weight_code: str
    mask: str
    sigmas: tuple[float, ...]
    formats: Formats
    seconds: float
    curves: tuple[Curve, ...]

    def curve(self, name: str) -> Curve:
        """By name of a layer, :data:`OVERALL` or :data:`LAYER_MEAN`."""
        return next(curve for curve in self.curves if curve.name == name)

    @property
    def layers(self) -> tuple[Curve, ...]:
        """Those of the layers alone."""
        return tuple(curve for curve in self.curves if curve.kind == "layer")


_OF_OPTIONS = ("noise", "baseline", "scope", "reduction", "input_code", "noise_code", "weight_noise")


def quality_of(
    method: str,
    copies: Sequence[int],
    options: RuleOptions,
    settings: Settings,
    curves: Sequence[Curve],
    stages: int,
    seconds: float = 0.0,
) -> Quality:
    """A method's curves with what decides them.

    Args:
        method: Its name.
        copies: Where the curves were measured.
        options: Of the rule.
        settings: Numbers of the noise.
        curves: As :class:`Quality` holds them.
        stages: Of the model.
        seconds: That it took.
    """
    return Quality(
        method,
        tuple(copies),
        **{name: getattr(options, name) for name in _OF_OPTIONS},
        weight_code=settings.weight_code,
        mask=settings.mask,
        sigmas=tuple(settings.sigma_of(stage) for stage in range(stages)),
        formats=Formats(options.precision.saved.value, options.precision.noise.value),
        seconds=round(seconds, 3),
        curves=tuple(curves),
    )


def measure_quality(
    subject: Subject,
    truth: Array,
    methods: Mapping[str, RuleOptions],
    settings: Settings | Mapping[str, Settings],
    copies: Sequence[int],
    draws: int,
    *,
    fresh: bool = False,
) -> list[Quality]:
    """Measure every method on the same batch, parameters and noise streams.

    Args:
        subject: What is sampled.
        truth: The true gradient in the order of ``subject.names``.
        methods: Options by name; their number of copies is ignored.
        settings: Of all methods, or by name of each.
        copies: Ascending, all positive.
        draws: Independent repetitions K.
        fresh: New noise for every number of copies.

    Raises:
        ExecutionError: a layer whose true gradient is zero (no cosine), or what the executor refuses.
    """
    for index, (start, end) in subject.spans.items():
        if not np.any(truth[start:end]):
            raise ExecutionError(
                "its true gradient is exactly zero, so that there is no direction to compare with",
                where=f"stage {index} ({subject.stages.stages[index].name})",
                fix="use other data, another `seed` or `train_steps`; behind a step function (a spike) autograd finds "
                "zero and there is nothing to compare with",
            )
    results = []
    with stretch(len(methods) * draws, "gradcheck") as step:
        for name, options in methods.items():
            begun = perf_counter()
            numbers = settings if isinstance(settings, Settings) else settings[name]
            sampled = _sample(
                Sampler(subject, options, numbers),
                truth,
                copies,
                draws,
                fresh,
                lambda draw, of=name: step(f"{of}, draw {draw + 1}"),  # type: ignore[misc]
            )
            curves = _curves(subject, truth, tuple(copies), sampled, options, numbers)
            seconds = perf_counter() - begun
            results.append(quality_of(name, copies, options, numbers, curves, len(subject.stages.stages), seconds))
    return results


@dataclass
class _Sampled:
    """Per part of the gradient: cosines ``(parts, K, N)``, sums of squared norms ``(parts, N)`` and one copy's
    variance ``(parts, K)``, where known; and sums of estimates ``(N, parameters)``."""

    cosines: Array
    squares: Array
    sums: Array
    noise: Array | None


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
            found = np.maximum(sampled.squares[part] - mean_square, 0.0) / (draws - 1) / signal
            variance = tuple(found.tolist())
        noise = None if sampled.noise is None else mean_interval(sampled.noise[part] / signal)
        free = codes_inputs(options) and not (index >= 0 and segmentation.on_weights(index))
        order = orthogonal_order(segmentation, options, index, subject.program.batch)
        fitted = fit_law(copies, cosines, k=k, free_ceiling=free, order=order, seed=settings.seed)
        curves.append(
            curve_of(
                "layer" if index >= 0 else "whole",
                subject.stages.stages[index].name if index >= 0 else OVERALL,
                index if index >= 0 else None,
                end - start,
                copies,
                cosines,
                relative_variance=variance,
                noise_of_one_copy=noise,
                law=fitted,
                expected_noise=expected.get(index),
            )
        )
    mean = sampled.cosines[:-1].mean(0)
    return (*curves, curve_of("mean", LAYER_MEAN, None, curves[-1].parameters, copies, mean))


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
