"""Choices by measurement (``auto``): which layers take noise on their parameters, and how many copies each needs.

The variance law (:mod:`alrsim.estimators.variance_law`) says what to measure: per layer, the noise ``r`` of one copy
and the ceiling of a coded method. Noise on the layer's D parameters has ``r = k D`` whatever the layer: the hybrid
method is the smaller of the two, layer by layer, instead of a fixed number of first layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path

import numpy as np

from alrsim.errors import OptionError
from alrsim.estimators.noise import mix
from alrsim.estimators.policy import Estimator, NoiseKind, Plan, hybrid_plan
from alrsim.estimators.variance_law import Array, copies_for
from alrsim.execution.job import Settings
from alrsim.files import save_value
from alrsim.quality.curves import codes_inputs, codes_noise
from alrsim.quality.metrics import noise_factor
from alrsim.quality.sampler import TOGETHER, Sampler, Subject
from alrsim.rules.options import RuleOptions
from alrsim.rules.policy import default_precision, plan_options

_PLAIN_STREAM = 1_000_003
"""Noise of the plain runs that a coded method is compared with is independent of its own."""


@dataclass(frozen=True)
class LayerChoice:
    """What was found about one layer.

    Attributes:
        noise_on_output: ``r`` of one copy with noise on the layer's output; ``None``: the signal drowns in the noise.
        noise_on_parameters: ``r`` with noise on its parameters.
        ceiling: Cosine that infinitely many copies with noise on the output reach.
        copies: What the chosen kind needs for the target in the plan; ``None`` if it cannot reach it.
    """

    stage: int
    name: str
    parameters: int
    noise_on_output: float | None
    noise_on_parameters: float
    ceiling: float
    kind: str
    copies: int | None


@dataclass(frozen=True)
class Suggestion:
    """A plan with its reasons.

    Attributes:
        plan: One estimator per stage, as :func:`alrsim.estimators.policy.hybrid_plan` makes it. Layer-wise noise has
            copies of each stage's own, joint noise the largest number of all; never more than was allowed.
        copies: The most copies that a layer takes.
    """

    target: float
    copies: int
    layers: tuple[LayerChoice, ...]
    plan: Plan

    def write(self, path: str | Path) -> None:
        """Write the plan to a file, as option ``estimators`` reads it.

        Raises:
            FileError: it cannot be written.
        """
        save_value("plan", self.plan, Path(path))


def suggest_plan(
    subject: Subject,
    estimator: Estimator,
    settings: Settings,
    *,
    target: float = 0.7,
    copies: int = 64,
    most: int = 2000,
    truth: Array | None = None,
) -> Suggestion:
    """Measure one copy's noise in every layer, and choose kind and copies per layer.

    Kinds are chosen by the noise of each layer alone. With joint noise every layer pays for the noise of all, so that
    the copies are those of a second measurement: of the chosen plan itself.

    Args:
        estimator: What the layers with noise on their output get; the others get its ``es`` form.
        settings: Sigma and seed.
        target: The cosine that every layer shall reach.
        copies: Draws to measure with; split in runs, so that their spread tells the variance.
        most: Copies that the plan may ask of a layer.
        truth: The true gradient in the order of ``subject.names``, where it is known. Without it (in training nobody
            knows it) the mean of the draws, less its own variance, stands for it.

    Raises:
        OptionError: a target that is no cosine, or fewer than 4 copies.
        ExecutionError: what the executor refuses.
    """
    if not 0 < target < 1:
        raise OptionError(f"is {target}, must be between 0 and 1", field="target_cosine", fix="for example 0.7")
    if copies < 4:
        raise OptionError(f"{copies} copies tell no variance", where="copies to measure with", fix="use 64")
    if estimator.kind != "lr":
        raise OptionError("only noise on values is measured", where=f"kind {estimator.kind}", fix="give kind lr")
    alone = replace(estimator, scope="layerwise", noise=_independent(estimator))
    options = _options(subject, (alone,) * len(subject.stages.stages))
    mean, noise = _measure(subject, options, settings, copies)
    parts = subject.parts[:-1]
    own = [max(_square(mean, part) - one / copies, 0.0) for part, one in zip(parts, noise, strict=True)]
    ceilings = _ceilings(subject, alone, settings, copies, mean, own, truth)
    if truth is not None and not codes_inputs(options):
        own = [_square(truth, part) for part in parts]
    by_value = [_ratio(float(one), signal) for one, signal in zip(noise, own, strict=True)]
    k = noise_factor(options.noise, signs=codes_noise(options))
    by_weight = [k * (end - start) for start, end in parts]
    flags = [
        _needed(es, 1.0, target) < _needed(lr, cap, target)
        for lr, es, cap in zip(by_value, by_weight, ceilings, strict=True)
    ]
    on_weights = dict(zip(subject.spans, flags, strict=True))
    plan = hybrid_plan([on_weights.get(stage.index, False) for stage in subject.stages.stages], estimator)
    paid = [es if flag else lr for lr, es, flag in zip(by_value, by_weight, flags, strict=True)]
    if estimator.scope == "joint":
        together = tuple(replace(one, noise=_independent(one)) for one in plan)
        _, noise = _measure(subject, _options(subject, together), settings, copies)
        paid = [_ratio(float(one), signal) for one, signal in zip(noise, own, strict=True)]
    layers = []
    for at, (stage, (start, end)) in enumerate(subject.spans.items()):
        count = copies_for(paid[at], target, 1.0 if flags[at] else ceilings[at])
        kind, name = "es" if flags[at] else "lr", subject.stages.stages[stage].name
        drowned = None if by_value[at] == float("inf") else by_value[at]
        layers.append(LayerChoice(stage, name, end - start, drowned, by_weight[at], ceilings[at], kind, count))
    chosen = _with_copies(subject, plan, layers, most)
    return Suggestion(target, max(one.copies for one in chosen), tuple(layers), chosen)


def _with_copies(subject: Subject, plan: Plan, layers: Sequence[LayerChoice], most: int) -> Plan:
    """A stage with parameters that nothing was measured of (no true gradient) gets the most that another one needs."""
    needed = {layer.stage: min(layer.copies or most, most) for layer in layers}
    joint, top = plan[0].scope == "joint", max(needed.values())
    has = [stage.parameters > 0 for stage in subject.stages.stages]
    return tuple(
        replace(one, copies=top if joint else needed.get(stage, top if has[stage] else 1))
        for stage, one in enumerate(plan)
    )


def _independent(estimator: Estimator) -> NoiseKind:
    """Copies that complement each other have no variance of their own: measured as +-1 noise, one by one."""
    return "rademacher" if estimator.noise in TOGETHER else estimator.noise


def _ratio(noise: float, signal: float) -> float:
    return noise / signal if signal > 0 else float("inf")


def _needed(noise: float, ceiling: float, target: float) -> float:
    count = copies_for(noise, target, ceiling)
    return float("inf") if count is None else count


def _options(subject: Subject, plan: Plan) -> RuleOptions:
    options = plan_options(tuple(replace(one, copies=2) for one in plan), RuleOptions(copies=2, update=False))
    return replace(options, precision=default_precision(options))


def _measure(subject: Subject, options: RuleOptions, settings: Settings, copies: int) -> tuple[Array, Array]:
    """Mean over the copies, and the variance of one copy in every layer."""
    sampler = Sampler(subject, options, settings)
    runs = max(2, min(8, copies // 2))
    size = copies // runs
    found = np.stack([sampler.gradient(size, mix((settings.seed, run)) >> 1) for run in range(runs)])
    spread = ((found - found.mean(0)) ** 2).sum(0) * size / (runs - 1)
    noise = np.array([spread[start:end].sum() for start, end in subject.parts[:-1]])
    return np.asarray(found.mean(0)), noise


def _ceilings(
    subject: Subject,
    estimator: Estimator,
    settings: Settings,
    copies: int,
    mean: Array,
    own: Sequence[float],
    truth: Array | None,
) -> list[float]:
    """Cosine of a coded method's expectation with the gradient, per layer; 1 where inputs are not coded.

    Inner products of independent means are unbiased, so that it takes no more copies than the variance does.
    """
    parts = subject.parts[:-1]
    if estimator.input_code == "plain":
        return [1.0] * len(parts)
    reference, squares = truth, None if truth is None else [_square(truth, part) for part in parts]
    if reference is None or squares is None:
        plain = _options(subject, (replace(estimator, input_code="plain"),) * len(subject.stages.stages))
        other = replace(settings, seed=mix((settings.seed, _PLAIN_STREAM)) >> 1)
        reference, noise = _measure(subject, plain, other, copies)
        squares = [max(_square(reference, part) - one / copies, 0.0) for part, one in zip(parts, noise, strict=True)]
    found = []
    for (start, end), first, second in zip(parts, own, squares, strict=True):
        size = sqrt(first * second)
        product = float(mean[start:end] @ reference[start:end])
        found.append(min(1.0, max(0.0, product / size)) if size > 0 else 0.0)
    return found


def _square(vector: Array, part: tuple[int, int]) -> float:
    piece = vector[part[0] : part[1]]
    return float(piece @ piece)
