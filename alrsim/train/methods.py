"""From a job's method to the options of its rule and the scales of its noise."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from alrsim.errors import OptionError
from alrsim.estimators.policy import Plan, preset
from alrsim.execute.executor import Batch
from alrsim.execute.job import settings_of
from alrsim.execute.program import Program
from alrsim.execute.sigmas import balanced_sigmas, relative_sigmas
from alrsim.rules.options import RuleOptions
from alrsim.rules.policy import default_precision, plan_options, plan_rule
from alrsim.train.job import TrainJob


def plan_of(job: TrainJob, trainable: Sequence[bool]) -> Plan:
    """One estimator per stage.

    Raises:
        OptionError: no such method, or changes that contradict each other.
    """
    if job.method == "bp":
        given = "--monitor" if job.monitor else ", ".join(job.changes)
        if given:
            raise OptionError("bp is exact: it has no noise and no copies", where=given, fix="leave it out")
    changes: dict[str, Any] = dict(job.changes)
    return preset(job.method).plan(trainable, copies=job.copies, **changes)


def options_of(job: TrainJob, plan: Plan, copies: int) -> RuleOptions:
    """The options of the rule for so many copies; updates are no tasks, torch's optimizers make them.

    Raises:
        OptionError: estimators that cannot be of one step.
    """
    base = RuleOptions(microbatches=job.microbatches, update=False)
    options = plan_options(tuple(replace(one, copies=copies) for one in plan), base)
    return options if is_exact(plan) else replace(options, precision=default_precision(options))


def sigmas_of(job: TrainJob, plan: Plan, program: Program, example: Batch) -> tuple[float, ...]:
    """The noise scale of every stage at the start; ``relative`` and ``balanced`` are measured once, on one batch.

    Raises:
        ExecutionError: ``balanced`` where no noise moves the loss.
    """
    fixed, rule = tuple(one.sigma for one in plan), plan[-1].sigma_rule
    if is_exact(plan) or rule in ("fixed", "learned"):
        return fixed
    options = options_of(job, plan, job.copies)
    found = relative_sigmas(program, program.parameters, example, fixed, weight_noise=options.weight_noise)
    if rule == "relative":
        return found
    numbers = settings_of(plan, seed=job.seed, sigmas=found)
    return balanced_sigmas(program, example, options, numbers, rule=plan_rule(plan))


def is_exact(plan: Plan) -> bool:
    """Whether the method is BP throughout."""
    return all(one.kind == "bp" for one in plan)
