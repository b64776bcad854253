"""Tasks with their prices and an order of them: written out one by one, or as one micro-batch that is repeated."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from alrsim.rules.options import RuleOptions
from alrsim.schedule.proof import Proof
from alrsim.schedule.schedule import Schedule
from alrsim.steps.chain import build_schedule
from alrsim.steps.options import StepOptions
from alrsim.tasks.problem import Problem
from alrsim.timeline.timeline import MANY_SPANS

if TYPE_CHECKING:
    from alrsim.simulation.at_scale import Make, StepAtScale


@dataclass(frozen=True)
class Planned:
    """Tasks with their prices, and an order of them, written out one by one.

    Attributes:
        proof: What was proved of the order, if anything.
    """

    problem: Problem
    schedule: Schedule
    proof: Proof | None = None


def plan_problem(problem: Problem, scheduler: str, asked: StepOptions) -> Planned:
    """Place and order tasks that are written out."""
    found = build_schedule(problem, scheduler, asked)
    return Planned(problem, found.schedule, found.proof)


def plan_at_scale(
    make: "Make", scheduler: str, asked: StepOptions, options: RuleOptions, stages: int
) -> "StepAtScale | None":
    """Place and order the tasks of a step that is too large to be written out; ``None`` where it is not.

    Args:
        make: The problem of a step of so many micro-batches, all else equal.
        options: Of the rule.
        stages: How many there are.

    Raises:
        OptionError: millions of tasks that are needed one by one; says how many.
    """
    # No rule makes more tasks of a stage and a micro-batch than these; most steps need not be looked at further.
    if stages * options.microbatches * (4 + 4 * (options.copies + 1)) < MANY_SPANS:
        return None
    from alrsim.simulation.at_scale import schedule_at_scale

    objects = "a search needs them" if asked.searching is not None else ""
    objects = "engine simpy runs them" if asked.engine == "simpy" else objects
    return schedule_at_scale(make, options.microbatches, scheduler, objects=objects)
