"""Plan files, one estimator per stage, as ``gradcheck --suggest -o`` saves them; and how they meet a cut."""

from pathlib import Path

from alrsim.errors import FileError, OptionError
from alrsim.estimators.policy import Estimator, Plan
from alrsim.files import load_value
from alrsim.rules.options import RuleOptions
from alrsim.rules.policy import plan_options, plan_rule

OVERRULED = {
    "copies": "--copies",
    "baseline": "--baseline",
    "scope": "--scope",
    "reduction": "--reduce",
    "noise": "--noise",
    "input_code": "--input-code",
    "noise_code": "--noise-code",
}
"""Options that a plan says for every stage."""


def read_plan(path: Path) -> Plan:
    """One estimator per stage, from a file.

    Raises:
        FileError: another file than a plan, or estimators that cannot be of one step.
    """
    where, fix = str(path), "make one with `alrsim gradcheck MODEL --suggest 0.7 -o FILE`"
    try:
        plan = load_value("plan", tuple[Estimator, ...], path)
        if not plan:
            raise FileError("has no stages", where=where)
        plan_rule(plan)
        plan_options(plan, RuleOptions(copies=max(one.copies for one in plan)))
    except OptionError as error:
        raise FileError(f"is no plan that can be carried out: {error.what}", where=where, fix=error.fix) from None
    except FileError as error:
        raise FileError(f"is no plan: {error.what}", where=where, fix=fix) from None
    return plan


def require_fit(plan: Plan, stages: int, where: str) -> None:
    """Refuse a plan for another number of stages.

    Raises:
        OptionError: names both numbers.
    """
    if len(plan) != stages:
        raise OptionError(
            f"the plan has {len(plan)} stages, the cut {stages}",
            where=where,
            fix="give the --cut (or --inject) that the plan was made with, or make the plan again",
        )


def refuse_overruled(typed: frozenset[str]) -> None:
    """A plan leaves no room for options that it says itself.

    Raises:
        OptionError: the first of them.
    """
    for field, option in OVERRULED.items():
        if field in typed:
            raise OptionError("is said by the plan, for every stage", where=option, fix="leave it out, or leave --plan")
