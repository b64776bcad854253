"""The chain: model -> graph -> cut -> stages -> tasks -> prices -> schedule, one function for each arrow."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from alrsim.errors import OptionError
from alrsim.estimators.policy import Plan, preset
from alrsim.graph.graph import Graph
from alrsim.graph.stages import StageGraph
from alrsim.hardware.machine import Machine, Unit
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.rules import RULES
from alrsim.rules.options import Optimizer, RuleOptions
from alrsim.rules.policy import default_precision, plan_options, plan_rule, refuse_lost_noise
from alrsim.schedule.schedule import Schedule
from alrsim.steps.estimators_file import OVERRULED, refuse_overruled, require_fit
from alrsim.steps.method import Method
from alrsim.steps.model import cut_stages
from alrsim.steps.options import EstimatorOptions, PredictionOptions, StepOptions, parse_precision
from alrsim.steps.pricing import cost_model_of
from alrsim.tasks.problem import Problem, Semantics
from alrsim.tasks.taskgraph import TaskGraph
from alrsim.timeline.timeline import Timeline

if TYPE_CHECKING:
    from alrsim.cost.cut import Weights
    from alrsim.schedulers import Solution

FP32 = PrecisionPlan()

INJECTION_CUTS = {"pre": "layer", "post": "block"}
"""Noise lies on what leaves a stage, so the cut decides where that is."""


def rule_options(
    asked: StepOptions, method: Method, trainable: Sequence[bool] | None = None, machine: Machine | None = None
) -> RuleOptions:
    """The options of one method's rule: its preset's, changed by what was typed, or those of the plan file.

    Args:
        trainable: Whether each stage has a gradient; a hybrid's stages differ. ``None`` where there is no cut yet.
        machine: Decides the format where nobody says one.

    Raises:
        OptionError: options that contradict each other.
    """
    plan = None if method.preset is None else plan_of(asked, method, trainable)
    base = RuleOptions(
        microbatches=asked.microbatches,
        copies=asked.copies if plan is None else max(one.copies for one in plan),
        group=asked.group,
        loss=asked.loss,
        update=asked.update,
        first_input_gradient=asked.first_input_gradient,
        optimizer=cast(Optimizer, asked.optimizer),
        segments=asked.segments if method.rule == "segments" else None,
    )
    if plan is None:
        return replace(base, precision=parse_precision(asked.precision, default=narrowed(FP32, machine)))
    options = plan_options(plan, base)
    usual = narrowed(default_precision(options), machine)
    options = replace(options, precision=parse_precision(asked.precision, default=usual))
    refuse_lost_noise(options)
    return options


def usual_format(machine: Machine | None) -> Precision:
    """fp32; on a machine of which some unit cannot compute in it, the widest of the formats that all units can."""
    units = () if machine is None else [unit for unit in machine.units if unit.peak_flops]
    if all(Precision.FP32 in unit.peak_flops for unit in units):
        return Precision.FP32
    return next((one for one in WIDEST if all(one in unit.peak_flops for unit in units)), Precision.FP32)


WIDEST = (Precision.TF32, Precision.BF16, Precision.FP16)


def narrowed(plan: PrecisionPlan, machine: Machine | None) -> PrecisionPlan:
    """A plan whose fp32 is the machine's usual format."""
    usual = usual_format(machine)
    formats = {key: getattr(plan, key) for key in ("parameters", "activations", "saved", "noise")}
    return PrecisionPlan(**{key: usual if one is Precision.FP32 else one for key, one in formats.items()})


def takes_estimators(method: Method) -> bool:
    """Whether given estimators stand for the method's preset: methods ``lr:`` and ``segments:``."""
    return method.preset == "lr"


def plan_of(asked: StepOptions, method: Method, trainable: Sequence[bool] | None) -> Plan:
    """One estimator per stage of an LR method.

    Raises:
        OptionError: estimators for another number of stages, or for another rule.
    """
    assert method.preset is not None
    plan = asked.estimators
    if plan is None or not takes_estimators(method):
        return preset(method.preset).plan(trainable or (True,), copies=asked.copies, **estimator_changes(asked))
    refuse_overruled(asked.given)
    if trainable is not None:
        require_fit(plan, len(trainable))
    rule = plan_rule(plan)
    if rule == "bp" or (rule == "segments" and method.rule == "lr"):
        what = "every stage" if rule == "bp" else "the last stages"
        raise OptionError(f"they make {what} exact", field="estimators", fix=f"use method {rule}:...")
    return plan


LR_OPTIONS = (*OVERRULED, "group", "inject")
"""What a method with exact gradients does not read."""


def refuse_unread(asked: StepOptions, methods: Sequence[Method]) -> None:
    """Options that none of the methods would read are refused.

    Raises:
        OptionError: the first of them.
    """
    unread = next((name for name in LR_OPTIONS if name in asked.given), None)
    if unread is not None and len(methods) == 1 and not methods[0].is_lr:
        raise OptionError(f"is for LR methods, not for {methods[0].label}", field=unread, fix="leave it out")
    names = ", ".join(method.label for method in methods)
    if asked.segments is not None and not any(method.rule == "segments" for method in methods):
        raise OptionError(f"is for method segments:..., not for {names}", field="segments", fix="leave it out")
    if asked.chunks is not None and not any(reads_chunks(method) for method in methods):
        raise OptionError(f"is for interleaved-1f1b and zb-v, not for {names}", field="chunks", fix="leave it out")
    if asked.estimators is not None:
        if not any(takes_estimators(method) for method in methods):
            raise OptionError(f"is for method lr:..., not for {names}", field="estimators", fix="use lr:lr-fixed")
        refuse_overruled(asked.given)


def trainable(stages: StageGraph) -> tuple[bool, ...]:
    """Whether each stage has parameters: a method's estimators go to those."""
    return tuple(stage.parameters > 0 for stage in stages.stages)


def estimator_changes(asked: EstimatorOptions) -> dict[str, object]:
    """Fields of the estimator that somebody gave; the others are the method's own."""
    given = {ESTIMATOR_FIELDS.get(key, key): getattr(asked, key) for key in SHARED if key in asked.given}
    codes = {key: getattr(asked, key) for key in ("noise", "input_code", "noise_code")}
    return given | {key: value for key, value in codes.items() if value is not None}


SHARED = ("baseline", "scope", "reduce")
ESTIMATOR_FIELDS = {"reduce": "reduction"}


def cut_spec(asked: StepOptions, method: Method, machine: Machine) -> str:
    """The cut that was asked for, or the default: one balanced stage per unit (or chunk) for BP, one per layer for LR.

    On abstract units every task takes one step, so that only methods with the same stages can be compared: there LR
    gets the balanced stages too.
    """
    if asked.cut is not None:
        return asked.cut
    units = len(machine.units)
    if method.is_lr:
        return f"balanced:{units}" if machine.is_abstract else INJECTION_CUTS[asked.inject]
    return f"balanced:{units * chunks_of(asked, method)}"


def reads_chunks(method: Method) -> bool:
    """Whether the method's scheduler puts several stages on each unit."""
    from alrsim.schedulers import SCHEDULERS

    return (SCHEDULERS[method.scheduler].chunks or 1) > 1


def chunks_of(asked: StepOptions, method: Method) -> int:
    """Stages for each unit that the method's scheduler is given."""
    from alrsim.schedulers import SCHEDULERS

    chunks = SCHEDULERS[method.scheduler].chunks or 1
    return asked.chunks if chunks > 1 and asked.chunks is not None else chunks


def cut_for(graph: Graph, method: Method, asked: StepOptions, machine: Machine) -> StageGraph:
    """The stages of one method on a machine; ``balanced`` means equally slow there, as its cost model predicts."""
    spec = cut_spec(asked, method, machine)
    return cut_stages(graph, spec, weights=time_weights_for(graph, spec, method, asked, machine))


def time_weights_for(graph: Graph, spec: str, method: Method, asked: StepOptions, machine: Machine) -> "Weights | None":
    """Predicted time of every operator: one table for equal units, one per stage for unlike ones."""
    kind, _, parts = spec.partition(":")
    if kind != "balanced" or not parts.isdigit() or machine.is_abstract:
        return None
    plan = parse_precision(asked.precision, default=narrowed(FP32, machine))
    alike = [replace(unit, name="") for unit in machine.units]
    different = machine.units[: 1 if alike.count(alike[0]) == len(alike) else None]
    tables = [operator_times(graph, unit, machine, plan) for unit in different]
    if len(tables) == 1:
        return tables[0]
    order = [expected_unit(method.scheduler, stage, int(parts), len(tables)) for stage in range(int(parts))]
    return [tables[unit] for unit in order]


def operator_times(graph: Graph, unit: Unit, machine: Machine, plan: PrecisionPlan) -> dict[str, float]:
    """Predicted time of every operator on a unit of a machine, for ``balanced`` cuts."""
    from alrsim.cost.cut import time_weights

    return time_weights(graph, cost_model_of(machine)[0], unit, plan)


def expected_unit(scheduler: str, stage: int, stages: int, units: int) -> int:
    """Where a scheduler will put a stage."""
    if scheduler == "zb-v" and stages == 2 * units:
        return min(stage, stages - 1 - stage)
    if scheduler == "interleaved-1f1b":
        return stage % units
    return stage * units // stages


def build_tasks(stages: StageGraph, rule: str, options: RuleOptions) -> TaskGraph:
    """All tasks of one step under a rule."""
    return RULES[rule](stages, options)


def build_schedule(problem: Problem, scheduler: str, asked: StepOptions) -> "Solution":
    """Place and order the tasks; with what was proved of the result, if anything.

    Raises:
        ScheduleError: the scheduler cannot handle this number of stages, units or micro-batches.
    """
    from alrsim.schedulers import solve

    return solve(problem, scheduler, asked.searching)


def predict(problem: Problem, schedule: Schedule, asked: PredictionOptions, semantics: str | None = None) -> Timeline:
    """Check and simulate.

    Args:
        semantics: Of the transfers, if nobody asked for another: as a calibrated executor makes them.
    """
    from alrsim.simulation.engine import Engine, simulate

    engine = cast(Engine, asked.engine)
    return simulate(problem, schedule, semantics=semantics_of(asked, semantics), overlap=asked.overlap, engine=engine)


def semantics_of(asked: PredictionOptions, semantics: str | None = None) -> Semantics:
    """Of the transfers: as asked for, else as a calibrated executor makes them (``semantics``), else the default."""
    said = asked.transfer_semantics
    return cast(Semantics, said if semantics is None or "transfer_semantics" in asked.given else semantics)
