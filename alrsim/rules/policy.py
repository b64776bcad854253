"""From a plan, one estimator per stage, to the rule and its options."""

from collections.abc import Sequence
from dataclasses import replace

from alrsim.errors import OptionError
from alrsim.estimators.policy import SIGN_NOISE, Plan
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.rules.options import RuleOptions

SHARED = ("noise", "baseline", "input_code", "noise_code", "reduction", "scope")
"""Fields that all estimated stages of a step have in common: they see the same forwards."""

_SAVED = {
    "plain": Precision.FP32,
    "sign": Precision.INT8,
    "sign-scaled": Precision.INT8,
    "threshold": Precision.SIGN1,
}


def plan_rule(plan: Plan) -> str:
    """The rule of a plan: ``bp`` if every stage is exact, ``segments`` if the last ones are, else ``lr``.

    Raises:
        OptionError: an exact stage in front of an estimated one.
    """
    exact = [one.kind == "bp" for one in plan]
    if all(exact):
        return "bp"
    if exact != sorted(exact):
        stage = exact.index(True)
        raise OptionError(
            f"stage {stage} has an exact gradient, but a stage behind it is estimated, so that no exact gradient "
            "reaches it",
            field="estimators",
            fix="estimate every stage, or make only the last ones exact",
        )
    return "segments" if any(exact) else "lr"


def plan_options(plan: Plan, base: RuleOptions) -> RuleOptions:
    """The options of the plan's tasks.

    Args:
        base: Whatever a plan does not say: micro-batches, groups, precision, optimizer, which tasks there are. Its
            segments, where given, are kept.

    Raises:
        OptionError: stages whose policies cannot be of one step, or options that contradict each other.
    """
    estimated = [(stage, one) for stage, one in enumerate(plan) if one.kind != "bp"]
    if not estimated:
        return base
    keeping = [(stage, one) for stage, one in estimated if one.kind == "lr"]  # ES keeps no input that has a code
    for field in SHARED:
        said = keeping if field == "input_code" else estimated
        for stage, one in said[1:]:
            first, model = said[0]
            if getattr(one, field) != getattr(model, field):
                raise OptionError(
                    f"stage {first} has {field} {getattr(model, field)}, stage {stage} {getattr(one, field)}: they "
                    "share their forwards",
                    field="estimators",
                    fix=f"give all stages one {field}",
                )
    model = estimated[0][1]
    copies = [one.copies for _, one in estimated]
    unlike = len(set(copies)) > 1
    exact = [stage for stage, one in enumerate(plan) if one.kind == "bp"]
    segments = base.segments
    if exact and segments is None:
        segments = tuple(range(1, exact[0] + 1))
    return replace(
        base,
        copies=max(copies),
        # An exact stage draws nothing; any number that the groups divide will do.
        stage_copies=tuple(max(copies) if one.kind == "bp" else one.copies for one in plan) if unlike else None,
        noise=model.noise,
        baseline=model.baseline,
        input_code=keeping[0][1].input_code if keeping else "plain",
        noise_code=model.noise_code,
        reduction=model.reduction,
        scope=model.scope,
        weight_noise=tuple(stage for stage, one in enumerate(plan) if one.kind == "es"),
        segments=segments,
    )


def default_precision(options: RuleOptions) -> PrecisionPlan:
    """Formats of the state that an estimator keeps.

    fp32; int8 for signs, as in the ALR paper; one bit for a threshold code and for the signs of +-1 noise; and where
    copies are accumulated the noise is drawn again.
    """
    noise = Precision.FP32
    if options.noise_code == "sign":
        noise = Precision.SIGN1 if options.noise in SIGN_NOISE else Precision.INT8
    if options.reduction == "accumulate":
        noise = Precision.REGENERATED
    return PrecisionPlan(saved=_SAVED[options.input_code], noise=noise)


def refuse_lost_noise(options: RuleOptions) -> None:
    """One bit holds the sign of a number: what has more than that would silently become another estimator.

    Raises:
        OptionError: noise or inputs in one bit, and gradients that shall see them as they are.
    """
    if options.precision.saved is Precision.SIGN1 and options.input_code == "plain":
        raise OptionError(
            "one bit keeps no number, only its sign, and that is another estimator",
            field="precision",
            fix="use `input_code=sign` or threshold, or method alr, or saved=int8",
        )
    if options.precision.noise is Precision.SIGN1 and options.noise_code == "plain" and options.noise not in SIGN_NOISE:
        raise OptionError(
            f"one bit keeps no {options.noise} noise, only its sign, and that is another estimator",
            field="precision",
            fix="use `noise=rademacher`, or method alr (`noise_code=sign`), or noise=fp32",
        )


def refuse_discrete_noise(options: RuleOptions, stages: Sequence[int], name: str) -> None:
    """+-1 noise needs a smooth loss: behind a step function only noise with a density is unbiased.

    Args:
        stages: Stages whose noise passes a step function before the loss.

    Raises:
        OptionError: discrete noise on such stages.
    """
    if stages and options.noise in SIGN_NOISE:
        raise OptionError(
            f"{options.noise} noise takes two values only, and behind stage {stages[0]} comes a step function: the "
            "gradient of such a unit exists only for noise with a density",
            where=name,
            field="noise",
            fix="use gauss or laplace",
        )
