"""Textbook problems, where rule, stages and micro-batches are given: the best placement and order, with a proof."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from importlib.util import find_spec

from alrsim.planner.search import covers
from alrsim.schedule.bounds import makespan_bound
from alrsim.schedule.proof import Freedom, Proof
from alrsim.schedule.schedule import Schedule
from alrsim.schedulers import SearchOptions, solve
from alrsim.schedulers.lr_free import FREE_KINDS
from alrsim.simulation.engine import simulate
from alrsim.tasks.problem import Problem, Semantics
from alrsim.timeline.timeline import Timeline
from alrsim.units import Ns

MOST_SOLVED = 600
"""Tasks up to which the exact solver is asked."""


@dataclass(frozen=True)
class Proved:
    """A problem with its best schedule.

    Attributes:
        freedom: What could be changed beside the order.
        bound: Ticks that no schedule with that freedom can beat.
        proof: What the exact solver proved, ``None`` where it did not run.
    """

    name: str
    problem: Problem
    schedule: Schedule
    timeline: Timeline
    freedom: Freedom
    bound: Ns
    proof: Proof | None

    @property
    def status(self) -> str:
        """``OPTIMAL`` where the step is as short as its bound, else ``FEASIBLE``."""
        return "OPTIMAL" if self.timeline.makespan <= self.bound else "FEASIBLE"

    @property
    def gap(self) -> Fraction:
        """``makespan / bound - 1``."""
        return Fraction(self.timeline.makespan, self.bound) - 1 if self.bound else Fraction(0)


def freedom_of(search: SearchOptions) -> Freedom:
    """The freedom that options give."""
    if search.placement in (None, "fixed"):
        return "gradients" if search.gradients == "free" else "fixed"
    return "free" if search.placement == "free" else "stages"


def plan_problems(
    problems: Mapping[str, Problem], search: SearchOptions, *, semantics: Semantics = "link"
) -> tuple[Proved, ...]:
    """Every problem solved with the same freedom, the shortest step first; ties in the order given.

    Raises:
        ScheduleError: one of them does not fit the caps.
    """
    found = [plan_problem(name, problem, search, semantics=semantics) for name, problem in problems.items()]
    return tuple(sorted(found, key=lambda one: Fraction(one.timeline.makespan, one.problem.ticks_per_unit)))


def plan_problem(name: str, problem: Problem, search: SearchOptions, *, semantics: Semantics = "link") -> Proved:
    """One problem: the exact solver where it is installed and the problem small enough, else the best heuristic.

    Raises:
        ScheduleError: nothing fits the caps.
    """
    is_lr = any(task.id.kind in FREE_KINDS for task in problem.tasks.tasks)
    if not is_lr:
        search = replace(search, gradients=None)
    # The exact solver moves whole stages or gradients, not both: then it orders the best placement that is known.
    both = search.placement == "stages" and search.gradients == "free"
    small = search.exact and find_spec("ortools") is not None and len(problem.durations) <= MOST_SOLVED
    solution = solve(problem, "cpsat" if small and not both else "auto", search)
    timeline = simulate(problem, solution.schedule, semantics=semantics, engine="auto")
    freedom = freedom_of(search)
    bound = makespan_bound(problem)
    if solution.proof is not None and covers(search, solution.proof.freedom, is_lr=is_lr):
        bound = max(bound, solution.proof.bound)
    return Proved(name, problem, solution.schedule, timeline, freedom, bound, solution.proof)
