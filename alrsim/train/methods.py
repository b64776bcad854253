"""From a job's method to the options of its rule and the numbers of its noise."""

from collections.abc import Sequence
from typing import Any

from alrsim.errors import OptionError
from alrsim.estimators.policy import PRESETS, Plan, preset
from alrsim.execute.job import Settings
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.rules.options import RuleOptions
from alrsim.train.job import TrainJob

FP32 = PrecisionPlan()
SIGNS = PrecisionPlan(saved=Precision.INT8, noise=Precision.INT8)


def plan_of(job: TrainJob, trainable: Sequence[bool]) -> Plan:
    """One estimator per stage.

    Raises:
        OptionError: no such method, or changes that contradict each other.
    """
    changes: dict[str, Any] = dict(job.changes)
    if job.monitor and job.method == "bp":
        raise OptionError("bp is exact, so there is nothing to monitor", where="--monitor")
    return preset(job.method).plan(trainable, copies=job.copies, **changes)


def options_of(job: TrainJob, plan: Plan, copies: int) -> RuleOptions:
    """The options of the rule for so many copies."""
    first = plan[-1]
    precision = SIGNS if first.signs else FP32
    return RuleOptions(
        microbatches=job.microbatches,
        copies=copies,
        baseline=first.baseline,
        scope=first.scope,
        reduction=first.reduction,
        noise=first.noise,
        input_code=first.input_code,
        noise_code=first.noise_code,
        update=False,
        precision=precision,
    )


def settings_for(job: TrainJob, plan: Plan) -> Settings:
    """The numbers of the noise."""
    return Settings(sigma=plan[-1].sigma, seed=job.seed)


def is_exact(plan: Plan) -> bool:
    """Whether the method is BP throughout."""
    return all(one.kind == "bp" for one in plan)


def executor_methods() -> tuple[str, ...]:
    """Methods that run as tasks."""
    return tuple(PRESETS)
