"""Which cost model prices a task graph on a profile: steps, its roofline, or task times that were measured there."""

from dataclasses import dataclass, replace

from alrsim.cost.costs import MeasuredCosts
from alrsim.errors import OptionError
from alrsim.graph.stages import StageGraph
from alrsim.hardware.calibration import Calibration
from alrsim.hardware.machine import Machine
from alrsim.hardware.precision import PrecisionPlan
from alrsim.rules.options import RuleOptions
from alrsim.tasks.problem import CostModel, Problem, Semantics, price
from alrsim.tasks.taskgraph import TaskGraph

MEASURED = "measured"


@dataclass(frozen=True)
class Priced:
    """A problem, and what is known of its durations.

    Attributes:
        error: Known error of the cost model, as words; empty where nothing is known beyond its name.
        semantics: Transfer semantics of the executor that was calibrated; ``None``: not known.
        notes: Sizes that were interpolated; why no measured times were taken.
    """

    problem: Problem
    error: str = ""
    semantics: Semantics | None = None
    notes: tuple[str, ...] = ()


def cost_model_of(machine: Machine) -> tuple[CostModel, str]:
    """Abstract units take one step per task, real ones a roofline."""
    from alrsim.cost.models import roofline, unit

    return (unit, "unit") if machine.is_abstract else (roofline, "roofline")


def calibration_of(machine: Machine) -> Calibration | None:
    """What was measured on the machine, if its profile holds that."""
    return None if machine.profile is None else machine.profile.spec.calibration


def build_problem(tasks: TaskGraph, machine: Machine, plan: PrecisionPlan) -> Problem:
    """The tasks with their durations on the machine's units; abstract units count in steps, not in ns."""
    model, name = cost_model_of(machine)
    problem = price(tasks, machine, plan, model, name=name)
    return replace(problem, time_unit="user") if name == "unit" else problem


def price_tasks(
    tasks: TaskGraph,
    machine: Machine,
    *,
    stages: StageGraph,
    rule: str,
    options: RuleOptions,
    cost: str = "auto",
) -> Priced:
    """The problem on the cost model that was asked for: ``auto`` takes measured times where every task has one.

    Raises:
        OptionError: ``measured`` on a profile that has no calibration, or none of these tasks.
    """
    from alrsim.cost.models import COST_MODELS

    if cost in COST_MODELS.plugged:
        return Priced(price(tasks, machine, options.precision, COST_MODELS[cost], name=cost))
    calibration = calibration_of(machine)
    if cost == MEASURED and calibration is None:
        raise OptionError(
            f"{machine.name} holds no measured task times",
            field="cost",
            fix="calibrate this model here and use the profile that it makes, or `cost=roofline`",
        )
    if calibration is None:
        return Priced(build_problem(tasks, machine, options.precision))
    if cost == "roofline":
        return _roofline(tasks, machine, options, calibration)
    from alrsim.cost.cost_tables import Sought, look_up

    found = look_up(calibration, Sought(stages, rule, options), tasks)
    if found.costs is not None:
        return _measured(tasks, machine, options, found.costs, found.error)
    if cost == MEASURED:
        raise OptionError(
            f"{machine.name} has no measured time of {found.missing} ({rule}, {stages.batch} samples)",
            field="cost",
            fix="calibrate this model, rule and cut, or use `cost=roofline`",
        )
    note = f"{machine.name} has no measured time of {found.missing}, so the roofline predicts"
    priced = _roofline(tasks, machine, options, calibration)
    return replace(priced, notes=(note,) if calibration.tables else ())


def _measured(
    tasks: TaskGraph, machine: Machine, options: RuleOptions, costs: MeasuredCosts, error: float | None
) -> Priced:
    from alrsim.cost.calibrated import calibrated_problem

    problem = replace(calibrated_problem(tasks, machine, options.precision, costs), cost_model=MEASURED)
    spreads = sorted(costs.spread.values())
    words = (
        f"task times measured with executor {costs.executor}, {costs.repeats} repeats, median spread "
        f"{100 * spreads[len(spreads) // 2]:.0f} %"
    )
    if costs.notes:
        known = "" if error is None else f" (a measured size that is left out is met within {100 * error:.0f} %)"
        words += f"; {', '.join(costs.notes)}{known}"
    return Priced(problem, words + _warning(costs.host.busy), costs.semantics)


def _roofline(tasks: TaskGraph, machine: Machine, options: RuleOptions, calibration: Calibration) -> Priced:
    """The profile's roofline, with the executor's overhead, links and contention as they were measured."""
    from alrsim.cost.cost_tables import executor_costs, on_line, slowdown, with_executor

    problem = build_problem(tasks, machine, options.precision)
    costs = executor_costs(calibration)
    if (line := calibration.roofline) is not None:
        problem = on_line(problem, line)
        words = f"median {100 * line.error:.0f} % over the tasks that were measured there"
        if not calibration.tables:
            words += ", those of a small model: larger ones may be further off"
    else:
        errors = [one.error for one in calibration.kernels] or [0.0]
        words = f"{100 * min(errors):.0f} to {100 * max(errors):.0f} % over the generic kernels that it was fitted to"
    return Priced(
        with_executor(problem, costs, slowdown(calibration)), words + _warning(costs.host.busy), costs.semantics
    )


def _warning(busy: bool) -> str:
    return "; calibrated while other programs ran" if busy else ""
