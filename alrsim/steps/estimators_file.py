"""Estimators on disk, one per stage, as ``gradcheck`` suggests and saves them; and how they meet a cut."""

from pathlib import Path

from alrsim.errors import FileError, OptionError
from alrsim.estimators.policy import Estimator, Plan
from alrsim.files import load_value
from alrsim.rules.options import RuleOptions
from alrsim.rules.policy import plan_options, plan_rule

OVERRULED = ("copies", "baseline", "scope", "reduce", "noise", "input_code", "noise_code")
"""Options that estimators say for every stage."""


def read_estimators(path: Path) -> Plan:
    """One estimator per stage, from a file.

    Raises:
        FileError: a file of something else, or estimators that cannot be of one step.
    """
    where, fix = str(path), "save those that gradcheck suggests (`suggest=0.7`)"
    try:
        plan = load_value("plan", tuple[Estimator, ...], path)
        if not plan:
            raise FileError("has no stages", where=where)
        plan_rule(plan)
        plan_options(plan, RuleOptions(copies=max(one.copies for one in plan)))
    except OptionError as error:
        raise FileError(f"cannot be carried out: {error.what}", where=where, fix=error.fix) from None
    except FileError as error:
        raise FileError(f"holds no estimators: {error.what}", where=where, fix=fix) from None
    return plan


def require_fit(plan: Plan, stages: int) -> None:
    """Refuse estimators for another number of stages.

    Raises:
        OptionError: names both numbers.
    """
    if len(plan) != stages:
        raise OptionError(
            f"there are estimators for {len(plan)} stages, the cut has {stages}",
            field="estimators",
            fix="give the `cut` (or `inject`) that they were made with, or make them again",
        )


def refuse_overruled(given: frozenset[str]) -> None:
    """Estimators leave no room for options that they say themselves.

    Raises:
        OptionError: the first of them.
    """
    for name in OVERRULED:
        if name in given:
            raise OptionError(
                "is said by the estimators, for every stage", field=name, fix="leave it out, or leave `estimators`"
            )
