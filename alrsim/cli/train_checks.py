"""Typed options of ``alrsim train`` that nothing would read are refused, and formats are settled."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from alrsim.cli.parse import parse_precision
from alrsim.cli.planfile import OVERRULED
from alrsim.errors import OptionError
from alrsim.estimators.policy import PRESETS, Plan, preset
from alrsim.rules.options import RuleOptions
from alrsim.rules.policy import default_precision, plan_options

LEARNING = {"copies_min": "--copies-min", "copies_max": "--copies-max"}
NOISY = {
    **OVERRULED,
    **LEARNING,
    "group": "--group",
    "sigma": "--sigma",
    "sigma_rule": "--sigma-rule",
    "sigma_rate": "--sigma-lr",
    "weight_code": "--weight-code",
    "mask": "--mask",
    "precision": "--precision",
    "segments": "--segments",
    "inject": "--inject",
    "monitor": "--monitor",
    "target_cosine": "--target-cosine",
}
"""Options of methods with noise."""

NOISELESS = ("bp", "fa", "fa-sequential", "hsic")


def refuse_unread(given: frozenset[str], typed: Mapping[str, Any]) -> None:
    """Refuse the first typed option that the others leave without a reader.

    Args:
        given: Names of what stood on the command line.
        typed: All options, defaults too.

    Raises:
        OptionError: names the option and what would read it.
    """
    method, plan = typed["method"], typed["plan"] is not None
    if plan and "method" in given:
        raise OptionError("says the method of every stage, and so does --method", where="--plan", fix="give one")
    if not plan and method in NOISELESS:
        why = "bp is exact: it has no noise and no copies" if method == "bp" else f"{method} has no noise"
        _refuse(given, NOISY, why, "leave it out, or choose a --method with noise")
    if plan:
        _refuse(given, OVERRULED, "is said by the plan, for every stage", "leave it out, or leave --plan")
    if method == "auto":
        _refuse(given, {"copies": "--copies"}, "is what auto measures", "give --target-cosine or --copies-max")
    if typed["optimizer"] != "momentum":
        _refuse(given, {"momentum": "--momentum"}, f"{typed['optimizer']} does not read it", "--optimizer momentum")
    if typed["rate_schedule"] != "step":
        falls = {"rate_every": "--lr-every", "rate_factor": "--lr-factor"}
        _refuse(given, falls, f"a {typed['rate_schedule']} rate has no falls", "--lr-schedule step")
    if typed["sigma_rule"] != "learned" and not plan:
        _refuse(given, {"sigma_rate": "--sigma-lr"}, "no sigma is learned", "--sigma-rule learned")
    if typed["target_cosine"] is None:
        limits = {"copies_min": "--copies-min"} if method == "auto" else LEARNING
        _refuse(given, limits, "nothing changes the number of copies", "add --target-cosine and --monitor")
    if typed["copies_min"] > typed["copies_max"]:
        raise OptionError(
            f"{typed['copies_min']} is more than --copies-max {typed['copies_max']}", where="--copies-min"
        )
    _refuse(given, {"steps": "--steps"} if "epochs" in given else {}, "--epochs says how long, too", "give one of them")


def _refuse(given: frozenset[str], options: Mapping[str, str], why: str, fix: str) -> None:
    for name, option in options.items():
        if name in given:
            raise OptionError(why, where=option, fix=fix)


def precision_of(typed: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, str]:
    """The formats by name that were typed, over those of the method; empty without any.

    Raises:
        OptionError: unknown kinds of state or formats.
    """
    if typed["precision"] is None:
        return {}
    plan: Plan = typed["plan"] or preset(typed["method"] if typed["method"] in PRESETS else "lr").plan([True] * 3)
    changed = {**changes, **({} if typed["plan"] else {"copies": max(2, typed["copies"])})}
    options = plan_options(with_changes(plan, changed), RuleOptions(update=False))
    found = parse_precision(typed["precision"], default=default_precision(options))
    return {name: str(value) for name, value in asdict(found).items()}


def with_changes(plan: Plan, changes: Mapping[str, Any]) -> Plan:
    """Fields of every estimated stage replaced."""
    return tuple(one if one.kind == "bp" else replace(one, **changes) for one in plan)
