"""From options to values: model -> graph -> cut -> stages -> tasks -> problem -> schedule -> timeline.

Small pure functions, one per arrow; every verb uses the part of the way that it needs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any, cast, get_args

from alrsim.cli.parse import MethodName, choose, parse_overlap, parse_precision, parse_segments, require_positive
from alrsim.graph.graph import Graph
from alrsim.graph.stages import StageGraph
from alrsim.hardware.machine import Machine
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.hardware.profile import Profile, load_profile, machine_from
from alrsim.rules import RULES
from alrsim.rules.options import Baseline, NoiseScope, Optimizer, Reduction, RuleOptions
from alrsim.schedule.schedule import Schedule
from alrsim.tasks.problem import CostModel, Problem, price
from alrsim.tasks.taskgraph import TaskGraph
from alrsim.timeline.timeline import Timeline

SEMANTICS = ("latency", "link", "blocking")

FP32 = PrecisionPlan()
SIGNS = PrecisionPlan(saved=Precision.INT8, noise=Precision.INT8)
"""ALR keeps input and noise as int8 signs, as in the paper (arXiv 2403.12320), unless --precision says otherwise."""


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
    precision: str | None = None
    optimizer: str = "sgd"
    update: bool = True
    loss: bool = True
    segments: tuple[int, ...] | None = None
    first_input_gradient: bool = False
    cut: str | None = None
    chunks: int | None = None
    semantics: str = "link"
    overlap: Fraction = Fraction(1)
    signs: bool = False


def settings_from(params: Mapping[str, Any]) -> Settings:
    """Check the shared options of a verb.

    Args:
        params: Every option of the verb as typed, by parameter name (``typer.Context.params``); those that are
            fields of :class:`Settings` are taken.

    Raises:
        OptionError: the first option that makes no sense.
    """
    given = {field.name: params[field.name] for field in fields(Settings) if field.name in params}
    require_positive({f"--{key}": given.get(key) for key in ("microbatches", "copies", "group", "chunks")})
    for option, key, choices in (
        ("--baseline", "baseline", get_args(Baseline)),
        ("--scope", "scope", get_args(NoiseScope)),
        ("--reduce", "reduction", get_args(Reduction)),
        ("--optimizer", "optimizer", get_args(Optimizer)),
        ("--transfer-semantics", "semantics", SEMANTICS),
    ):
        if key in given:
            choose(given[key], choices, where=option, what="choice")
    parse_precision(given.get("precision"), default=FP32)
    if "overlap" in given:
        given["overlap"] = parse_overlap(given["overlap"])
    if "segments" in given:
        given["segments"] = parse_segments(given["segments"])
    return Settings(**given)


def rule_options(settings: Settings, method: MethodName) -> RuleOptions:
    """The options of one method's rule; ALR differs from LR in its codes only."""
    return RuleOptions(
        microbatches=settings.microbatches,
        copies=settings.copies,
        group=settings.group,
        baseline=cast(Baseline, settings.baseline),
        scope=cast(NoiseScope, settings.scope),
        reduction=cast(Reduction, settings.reduction),
        signs=method.signs,
        loss=settings.loss,
        update=settings.update,
        first_input_gradient=settings.first_input_gradient,
        optimizer=cast(Optimizer, settings.optimizer),
        precision=parse_precision(settings.precision, default=SIGNS if method.signs else FP32),
        segments=settings.segments if method.rule == "segments" else None,
    )


def cut_spec(settings: Settings, method: MethodName | None, units: int) -> str:
    """What ``--cut`` says, or the default: one balanced stage per unit (or chunk) for BP, one per layer for LR."""
    if settings.cut is not None:
        return settings.cut
    if method is not None and method.is_lr:
        return "layer"
    if method is None:
        return f"balanced:{units}"
    from alrsim.schedulers import SCHEDULERS

    chunks = SCHEDULERS[method.scheduler].chunks or 1
    if chunks > 1 and settings.chunks is not None:
        chunks = settings.chunks
    return f"balanced:{units * chunks}"


def cut_stages(graph: Graph, spec: str) -> StageGraph:
    """Cut a graph and count what every stage does.

    Raises:
        OptionError: an unknown or impossible cut.
        ModelError: an operator that cannot be priced.
    """
    from alrsim.cost.cut import cut_graph
    from alrsim.cost.stages import build_stages

    return build_stages(graph, cut_graph(graph, spec))


def find_machine(hardware: str, units: int | None) -> tuple[Profile, Machine]:
    """The profile and the machine with so many units.

    Raises:
        ProfileError: no such profile, or not with so many units.
    """
    require_positive({"--units": units})
    profile = load_profile(hardware)
    return profile, machine_from(profile, units)


def cost_model_of(profile: Profile) -> tuple[CostModel, str]:
    """Abstract profiles take one step per task, real ones a roofline."""
    from alrsim.cost.models import roofline, unit

    return (unit, "unit") if profile.spec.kind == "abstract" else (roofline, "roofline")


def build_tasks(stages: StageGraph, method: MethodName, options: RuleOptions) -> TaskGraph:
    """All tasks of one step under the method's rule."""
    return RULES[method.rule](stages, options)


def build_problem(tasks: TaskGraph, machine: Machine, plan: PrecisionPlan, profile: Profile) -> Problem:
    """The tasks with their durations on the machine's units; abstract units count in steps, not in ns."""
    model, name = cost_model_of(profile)
    problem = price(tasks, machine, plan, model, name=name)
    return replace(problem, time_unit="user") if name == "unit" else problem


def build_schedule(problem: Problem, method: MethodName) -> Schedule:
    """Place and order the tasks.

    Raises:
        ScheduleError: the scheduler cannot handle this number of stages, units or micro-batches.
    """
    from alrsim.schedulers import schedule

    return schedule(problem, method.scheduler)


def predict(problem: Problem, schedule: Schedule, settings: Settings) -> Timeline:
    """Check and simulate."""
    from alrsim.schedule.check import check
    from alrsim.simulate.engine import simulate
    from alrsim.simulate.network import Semantics

    check(problem, schedule)
    semantics = cast(Semantics, settings.semantics)
    return simulate(problem, schedule, semantics=semantics, overlap=settings.overlap)


@dataclass(frozen=True)
class Planned:
    """One method on its way to a report."""

    method: MethodName
    stages: StageGraph
    options: RuleOptions
    problem: Problem
    schedule: Schedule
    timeline: Timeline


def plan_method(
    graph: Graph,
    method: MethodName,
    settings: Settings,
    profile: Profile,
    machine: Machine,
    *,
    stages: Mapping[str, StageGraph] | None = None,
) -> Planned:
    """The whole way for one method, from graph to predicted timeline.

    Args:
        stages: Stage graphs that are known already, by cut.
    """
    spec = cut_spec(settings, method, len(machine.units))
    cut = (stages or {}).get(spec) or cut_stages(graph, spec)
    options = rule_options(settings, method)
    tasks = build_tasks(cut, method, options)
    problem = build_problem(tasks, machine, options.precision, profile)
    order = build_schedule(problem, method)
    return Planned(method, cut, options, problem, order, predict(problem, order, settings))
