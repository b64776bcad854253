"""From a job's method to the options of its rule and the scales of its noise."""

from collections.abc import Sequence
from dataclasses import replace
from math import gcd, prod
from typing import Any

from alrsim.errors import OptionError
from alrsim.estimators.policy import Mask, Plan, preset
from alrsim.execution.executor import Batch
from alrsim.execution.job import settings_of
from alrsim.execution.kernels.noise_scales import balanced_sigmas, relative_sigmas
from alrsim.execution.programs.program import Program
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.rules.options import RuleOptions
from alrsim.rules.policy import default_precision, plan_options, plan_rule
from alrsim.steps.chain import build_tasks
from alrsim.training.job import TrainJob
from alrsim.training.table import PLANNED


def plan_of(job: TrainJob, trainable: Sequence[bool]) -> Plan:
    """One estimator per stage.

    Raises:
        OptionError: no such method, or changes that contradict each other.
    """
    if job.method == "bp":
        refuse_noise(job, "bp is exact: it has no noise and no copies")
    changes: dict[str, Any] = dict(job.changes)
    if job.method not in PLANNED:
        name = "lr" if job.method == "segments" else job.method
        return preset(name).plan(trainable, copies=job.copies, **changes)
    if job.plan is None:
        raise OptionError(f"method {job.method} needs a plan", field="method", fix="give `estimators`")
    return tuple(one if one.kind == "bp" else replace(one, **changes) for one in job.plan)


def refuse_noise(job: TrainJob, why: str) -> None:
    """Refuse whatever only noise has a use for.

    Raises:
        OptionError: with the field's name.
    """
    found = {
        "monitor": job.monitor,
        "mask": job.mask,
        "precision": job.precision,
        "group": job.group,
        ", ".join(job.changes): job.changes,
    }
    given = [*(name for name, value in found.items() if value), *job.changes]
    if given:
        raise OptionError(why, field=given[0], fix="leave it out")


def most_copies(plan: Plan, *, even: bool = False) -> int:
    """Of the stages that are estimated, 1 without any; ``even``: one more where that is odd, as the monitor needs."""
    most = max((one.copies for one in plan if one.kind != "bp"), default=1)
    return most + most % 2 if even else most


def rule_of(job: TrainJob, plan: Plan) -> str:
    """Key of :data:`alrsim.rules.RULES`."""
    return "segments" if job.segments is not None else plan_rule(plan)


def mask_of(job: TrainJob, plan: Plan, program: Program) -> Mask:
    """The job's mask; by default ``reach`` where a sample has losses at more than one position.

    Raises:
        OptionError: a mask over noise that reaches every loss.
    """
    on_values = any(one.kind == "lr" for one in plan)
    if job.mask == "reach" and not on_values:
        raise OptionError(
            "noise on parameters reaches every loss, so there is nothing to mask", field="mask", fix="leave it out"
        )
    if job.mask is not None:
        return job.mask
    return "reach" if on_values and prod(program.shapes[program.output][2:]) > 1 else "none"


def options_of(job: TrainJob, plan: Plan, copies: int) -> RuleOptions:
    """The options of the rule for so many copies; updates are no tasks, torch's optimizers make them.

    Raises:
        OptionError: estimators that cannot be of one step.
    """
    base = RuleOptions(microbatches=job.microbatches, update=False, segments=job.segments)
    if is_exact(plan):
        return plan_options(plan, base)
    most = most_copies(plan)
    # The stage with the most copies has these now, the others keep their share.
    scaled = tuple(
        replace(one, copies=copies if one.kind == "bp" else max(1, one.copies * copies // most)) for one in plan
    )
    options = plan_options(scaled, base)
    precision = default_precision(options)
    if job.precision:
        precision = PrecisionPlan(**{name: Precision(value) for name, value in job.precision.items()})
    group = None if job.group is None else gcd(job.group, copies, *(options.stage_copies or ()))
    return replace(options, precision=precision, group=group)


def sigmas_of(job: TrainJob, plan: Plan, program: Program, example: Batch) -> tuple[float, ...]:
    """The noise scale of every stage at the start; ``relative`` and ``balanced`` are measured once, on one batch.

    Raises:
        ExecutionError: ``balanced`` where no noise moves the loss.
    """
    fixed = tuple(one.sigma for one in plan)
    rule = sigma_rule_of(plan)
    if rule in ("fixed", "learned"):
        return fixed
    options = options_of(job, plan, job.copies)
    found = relative_sigmas(program, program.parameters, example, fixed, weight_noise=options.weight_noise)
    if rule == "relative":
        return found
    numbers = settings_of(plan, seed=job.seed, sigmas=found)
    return balanced_sigmas(
        program, example, options, numbers, lambda stages, asked: build_tasks(stages, rule_of(job, plan), asked)
    )


def sigma_rule_of(plan: Plan) -> str:
    """That of the stages that are estimated.

    Raises:
        OptionError: they have several.
    """
    rules = sorted({one.sigma_rule for one in plan if one.kind != "bp"})
    if len(rules) > 1:
        raise OptionError(
            f"stages have sigma rules {' and '.join(rules)}", field="sigma_rule", fix="give all stages one"
        )
    return rules[0] if rules else "fixed"


def is_exact(plan: Plan) -> bool:
    """Whether the method is BP throughout."""
    return all(one.kind == "bp" for one in plan)
