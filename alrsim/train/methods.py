"""From a job's method to the options of its rule and the numbers of its noise."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from alrsim.errors import OptionError
from alrsim.estimators.policy import Plan, preset
from alrsim.execute.job import Settings
from alrsim.rules.options import RuleOptions
from alrsim.rules.policy import default_precision, plan_options
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


def settings_for(job: TrainJob, plan: Plan) -> Settings:
    """The numbers of the noise."""
    sigmas = tuple(one.sigma for one in plan)
    sigma = sigmas[0] if len(set(sigmas)) == 1 else sigmas
    return Settings(sigma=sigma, seed=job.seed, weight_code=plan[-1].weight_code)


def is_exact(plan: Plan) -> bool:
    """Whether the method is BP throughout."""
    return all(one.kind == "bp" for one in plan)
