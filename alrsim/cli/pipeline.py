"""From options to values: model -> graph -> cut -> stages -> tasks -> problem -> schedule -> timeline.

Small pure functions, one per arrow; every verb uses the part of the way that it needs.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from alrsim.cli.parse import (
    MethodName,
    choose,
    parse_overlap,
    parse_pairs,
    parse_precision,
    parse_segments,
    require_positive,
)
from alrsim.cli.planfile import OVERRULED, read_plan, refuse_overruled, require_fit
from alrsim.cli.pricing import COSTS, Priced, cost_model_of, is_abstract, price_tasks
from alrsim.errors import OptionError
from alrsim.estimators.policy import Injection, InputCode, NoiseCode, NoiseKind, Plan, preset
from alrsim.graph.graph import Graph
from alrsim.graph.stages import StageGraph
from alrsim.hardware.machine import Machine
from alrsim.hardware.precision import PrecisionPlan
from alrsim.hardware.profile import Profile, load_profile, machine_from
from alrsim.rules import RULES
from alrsim.rules.options import Baseline, NoiseScope, Optimizer, Reduction, RuleOptions
from alrsim.rules.policy import default_precision, plan_options, plan_rule, refuse_lost_noise
from alrsim.schedule.proof import Gap, Proof, gap
from alrsim.schedule.schedule import Schedule
from alrsim.tasks.problem import Problem
from alrsim.tasks.taskgraph import TaskGraph
from alrsim.timeline.timeline import Timeline

if TYPE_CHECKING:
    from alrsim.cost.cut import Weights
    from alrsim.schedulers import SearchOptions, Solution

SEMANTICS = ("latency", "link", "blocking")
ENGINES = ("auto", "simpy", "fast")

FP32 = PrecisionPlan()


@dataclass(frozen=True)
class Settings:
    """The options that decide which tasks there are, checked. Fields are those of :class:`RuleOptions`;
    ``signs`` is for schedule files only, a method says it by its name."""

    microbatches: int = 4
    copies: int = 1
    group: int | None = None
    baseline: str = "clean"
    scope: str = "joint"
    reduction: str = "stack"
    noise: str | None = None
    input_code: str | None = None
    noise_code: str | None = None
    plan: Path | None = None
    inject: str = "pre"
    precision: str | None = None
    optimizer: str = "sgd"
    update: bool = True
    loss: bool = True
    segments: tuple[int, ...] | None = None
    first_input_gradient: bool = False
    cut: str | None = None
    chunks: int | None = None
    semantics: str = "link"
    engine: str = "auto"
    cost: str = "auto"
    overlap: Fraction = Fraction(1)
    signs: bool = False
    time_limit: float | None = None
    search: "SearchOptions | None" = None
    estimators: Plan | None = None
    """What the plan file says."""
    typed: frozenset[str] = frozenset()
    """Names of the fields that stood on the command line; the others are defaults."""


INJECTION_CUTS = {"pre": "layer", "post": "block"}
"""Noise lies on what leaves a stage, so the cut decides where that is."""


def settings_from(params: Mapping[str, Any], typed: Collection[str] = ()) -> Settings:
    """Check the shared options of a verb.

    Args:
        params: Every option of the verb, by parameter name (``typer.Context.params``); those that are fields of
            :class:`Settings` are taken.
        typed: Names of the options that stood on the command line.

    Raises:
        OptionError: the first option that makes no sense.
    """
    given = {field.name: params[field.name] for field in fields(Settings) if field.name in params}
    given["typed"] = frozenset(typed) & given.keys()
    require_positive({f"--{key}": given.get(key) for key in ("microbatches", "copies", "group", "chunks")})
    for option, key, choices in (
        ("--baseline", "baseline", get_args(Baseline)),
        ("--scope", "scope", get_args(NoiseScope)),
        ("--reduce", "reduction", get_args(Reduction)),
        ("--noise", "noise", get_args(NoiseKind)),
        ("--input-code", "input_code", get_args(InputCode)),
        ("--noise-code", "noise_code", get_args(NoiseCode)),
        ("--inject", "inject", get_args(Injection)),
        ("--optimizer", "optimizer", get_args(Optimizer)),
        ("--transfer-semantics", "semantics", SEMANTICS),
        ("--engine", "engine", ENGINES),
        ("--cost", "cost", COSTS),
    ):
        if given.get(key) is not None:
            choose(given[key], choices, where=option, what="choice")
    parse_precision(given.get("precision"), default=FP32)
    if "overlap" in given:
        given["overlap"] = parse_overlap(given["overlap"])
    if "segments" in given:
        given["segments"] = parse_segments(given["segments"])
    given["search"] = search_options(params.get("search"), params.get("time_limit"))
    if given.get("plan") is not None:
        refuse_overruled(given["typed"])
        given["estimators"] = read_plan(given["plan"])
    return Settings(**given)


def search_options(pairs: Sequence[str] | None, time_limit: float | None) -> "SearchOptions | None":
    """``--search`` and ``--time-limit``; ``None`` where neither was given.

    Raises:
        OptionError: an unknown key, or a value that makes no sense.
    """
    if not pairs and time_limit is None:
        return None
    from alrsim.schedulers.search import parse_search

    if time_limit is not None and not time_limit > 0:
        raise OptionError(f"is {time_limit:g}, must be above 0", where="--time-limit", fix="for example 10")
    return parse_search(parse_pairs(pairs, where="--search"), time_limit=time_limit)


def rule_options(settings: Settings, method: MethodName, trainable: Sequence[bool] | None = None) -> RuleOptions:
    """The options of one method's rule: its preset's, changed by what was typed, or those of the plan file.

    Args:
        trainable: Whether each stage has a gradient; a hybrid's stages differ. ``None`` where there is no cut yet.

    Raises:
        OptionError: options that contradict each other.
    """
    plan = None if method.preset is None else plan_of(settings, method, trainable)
    base = RuleOptions(
        microbatches=settings.microbatches,
        copies=settings.copies if plan is None else max(one.copies for one in plan),
        group=settings.group,
        loss=settings.loss,
        update=settings.update,
        first_input_gradient=settings.first_input_gradient,
        optimizer=cast(Optimizer, settings.optimizer),
        segments=settings.segments if method.rule == "segments" else None,
    )
    if plan is None:
        return replace(base, precision=parse_precision(settings.precision, default=FP32))
    options = plan_options(plan, base)
    options = replace(options, precision=parse_precision(settings.precision, default=default_precision(options)))
    refuse_lost_noise(options)
    return options


def takes_plan(method: MethodName) -> bool:
    """Whether a plan file stands for the method's preset: methods ``lr:`` and ``segments:``."""
    return method.preset == "lr"


def plan_of(settings: Settings, method: MethodName, trainable: Sequence[bool] | None) -> Plan:
    """One estimator per stage of an LR method.

    Raises:
        OptionError: a plan file for another number of stages, or for another rule.
    """
    assert method.preset is not None
    plan, where = settings.estimators, f"--plan {settings.plan}"
    if plan is None or not takes_plan(method):
        return preset(method.preset).plan(trainable or (True,), copies=settings.copies, **estimator_changes(settings))
    if trainable is not None:
        require_fit(plan, len(trainable), where)
    rule = plan_rule(plan)
    if rule == "bp" or (rule == "segments" and method.rule == "lr"):
        what = "every stage" if rule == "bp" else "the last stages"
        raise OptionError(f"the plan makes {what} exact", where=where, fix=f"use method {rule}:...")
    return plan


LR_OPTIONS = {
    **OVERRULED,
    "group": "--group",
    "inject": "--inject",
}
"""What a method with exact gradients does not read."""


def refuse_unread(settings: Settings, methods: Sequence[MethodName]) -> None:
    """Options that none of the methods would read are refused.

    Raises:
        OptionError: the first of them.
    """
    typed = next((option for field, option in LR_OPTIONS.items() if field in settings.typed), None)
    if typed is not None and len(methods) == 1 and not methods[0].is_lr:
        raise OptionError(f"is for LR methods, not for {methods[0].label}", where=typed, fix="leave it out")
    if settings.plan is not None and not any(takes_plan(method) for method in methods):
        names = ", ".join(method.label for method in methods)
        raise OptionError(
            f"is for method lr:..., not for {names}", where="--plan", fix="for example --method lr:lr-fixed"
        )


def trainable(stages: StageGraph) -> tuple[bool, ...]:
    """Whether each stage has parameters: a method's estimators go to those."""
    return tuple(stage.parameters > 0 for stage in stages.stages)


def estimator_changes(settings: Settings) -> dict[str, object]:
    """Fields of the estimator that stood on the command line; the others are the method's own."""
    given = {key: getattr(settings, key) for key in ("baseline", "scope", "reduction") if key in settings.typed}
    return given | {
        key: getattr(settings, key)
        for key in ("noise", "input_code", "noise_code")
        if getattr(settings, key) is not None
    }


def cut_spec(settings: Settings, method: MethodName, profile: Profile, units: int) -> str:
    """What ``--cut`` says, or the default: one balanced stage per unit (or chunk) for BP, one per layer for LR.

    On abstract units every task takes one step, so that only methods with the same stages can be compared: there LR
    gets the balanced stages too.
    """
    if settings.cut is not None:
        return settings.cut
    if method.is_lr:
        return f"balanced:{units}" if is_abstract(profile) else INJECTION_CUTS[settings.inject]
    from alrsim.schedulers import SCHEDULERS

    chunks = SCHEDULERS[method.scheduler].chunks or 1
    if chunks > 1 and settings.chunks is not None:
        chunks = settings.chunks
    return f"balanced:{units * chunks}"


def cut_stages(graph: Graph, spec: str, *, weights: "Weights | None" = None) -> StageGraph:
    """Cut a graph and count what every stage does.

    Args:
        weights: What ``balanced`` balances; default: FLOPs.

    Raises:
        OptionError: an unknown or impossible cut.
        ModelError: an operator that cannot be priced.
    """
    from alrsim.cost.cut import cut_graph
    from alrsim.cost.stages import build_stages

    return build_stages(graph, cut_graph(graph, spec, weights=weights))


def cut_for(graph: Graph, method: MethodName, settings: Settings, profile: Profile, machine: Machine) -> StageGraph:
    """The stages of one method on a machine; ``balanced`` means equally slow there, as its cost model predicts."""
    spec = cut_spec(settings, method, profile, len(machine.units))
    return cut_stages(graph, spec, weights=time_weights_for(graph, spec, method, settings, profile, machine))


def time_weights_for(
    graph: Graph, spec: str, method: MethodName, settings: Settings, profile: Profile, machine: Machine
) -> "Weights | None":
    """Predicted time of every operator: one table for equal units, one per stage for unlike ones."""
    from alrsim.cost.cut import time_weights

    kind, _, parts = spec.partition(":")
    if kind != "balanced" or not parts.isdigit() or is_abstract(profile):
        return None
    model, _ = cost_model_of(profile)
    plan = parse_precision(settings.precision, default=FP32)
    alike = [replace(unit, name="") for unit in machine.units]
    tables = [
        time_weights(graph, model, unit, plan) for unit in alike[: 1 if alike.count(alike[0]) == len(alike) else None]
    ]
    if len(tables) == 1:
        return tables[0]
    order = [expected_unit(method.scheduler, stage, int(parts), len(tables)) for stage in range(int(parts))]
    return [tables[unit] for unit in order]


def expected_unit(scheduler: str, stage: int, stages: int, units: int) -> int:
    """Where a scheduler will put a stage."""
    if scheduler == "zb-v" and stages == 2 * units:
        return min(stage, stages - 1 - stage)
    if scheduler == "interleaved-1f1b":
        return stage % units
    return stage * units // stages


def find_machine(hardware: str, units: int | None) -> tuple[Profile, Machine]:
    """The profile and the machine with so many units.

    Raises:
        ProfileError: no such profile, or not with so many units.
    """
    require_positive({"--units": units})
    profile = load_profile(hardware)
    return profile, machine_from(profile, units)


def build_tasks(stages: StageGraph, method: MethodName, options: RuleOptions) -> TaskGraph:
    """All tasks of one step under the method's rule."""
    return RULES[method.rule](stages, options)


def build_schedule(problem: Problem, method: MethodName, settings: Settings) -> "Solution":
    """Place and order the tasks; with what was proved of the result, if anything.

    Raises:
        ScheduleError: the scheduler cannot handle this number of stages, units or micro-batches.
    """
    from alrsim.schedulers import solve

    return solve(problem, method.scheduler, settings.search)


def predict(problem: Problem, schedule: Schedule, settings: Settings) -> Timeline:
    """Check and simulate."""
    from alrsim.simulation.engine import Engine, simulate
    from alrsim.tasks.problem import Semantics

    semantics, engine = cast(Semantics, settings.semantics), cast(Engine, settings.engine)
    return simulate(problem, schedule, semantics=semantics, overlap=settings.overlap, engine=engine)


@dataclass(frozen=True)
class Planned:
    """One method on its way to a report.

    Attributes:
        cost_error: Known error of the cost model, as words.
        notes: How it came to its costs, where the reader should know.
    """

    method: MethodName
    stages: StageGraph
    options: RuleOptions
    problem: Problem
    schedule: Schedule
    timeline: Timeline
    proof: Proof | None = None
    cost_error: str = ""
    notes: tuple[str, ...] = ()

    @property
    def gap(self) -> Gap | None:
        """The predicted makespan beside its lower bounds."""
        return gap(self.problem, self.timeline.makespan, self.schedule, self.proof)


def plan_method(
    stages: StageGraph, method: MethodName, settings: Settings, profile: Profile, machine: Machine
) -> Planned:
    """The rest of the way for one method, from stages to predicted timeline."""
    options = rule_options(settings, method, trainable(stages))
    tasks = build_tasks(stages, method, options)
    priced = price_tasks(tasks, machine, profile, stages=stages, rule=method.rule, options=options, cost=settings.cost)
    found = build_schedule(priced.problem, method, settings)
    timeline = predict(priced.problem, found.schedule, with_semantics(settings, priced))
    return Planned(
        method,
        stages,
        options,
        priced.problem,
        found.schedule,
        timeline,
        found.proof,
        cost_error=priced.error,
        notes=priced.notes,
    )


def with_semantics(settings: Settings, priced: Priced) -> Settings:
    """Transfers as the calibrated executor makes them, unless something else was typed."""
    if priced.semantics is None or "semantics" in settings.typed:
        return settings
    return replace(settings, semantics=priced.semantics)
