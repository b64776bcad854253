"""The problems that are timed: chains of equal stages, sized by their number of tasks."""

from dataclasses import dataclass
from functools import cache

from alrsim.graph.stages import chain
from alrsim.hardware.machine import abstract_machine
from alrsim.hardware.precision import PrecisionPlan
from alrsim.rules import RuleOptions
from alrsim.schedule.lower import Lowered, lower
from alrsim.schedule.schedule import Schedule
from alrsim.schedulers import SCHEDULERS, schedule
from alrsim.steps.chain import build_tasks
from alrsim.tasks.problem import Problem, price
from alrsim.tasks.taskgraph import TaskGraph

UNITS = 8
_TICKS = {"F": 2, "L": 0, "B": 5, "I": 3, "W": 2, "G": 2, "C": 0, "U": 0}


def tasks_of(rule: str, wanted: int, stages: int = UNITS) -> TaskGraph:
    """About ``wanted`` tasks of a rule; the number of micro-batches makes the size."""
    per_microbatch = len(_rule(rule, 2, stages).tasks) - len(_rule(rule, 1, stages).tasks)
    microbatches = max(1, round(wanted / per_microbatch))
    microbatches = max(UNITS, microbatches - microbatches % UNITS)
    return _rule(rule, microbatches, stages)


def _rule(rule: str, microbatches: int, stages: int) -> TaskGraph:
    return build_tasks(chain(stages, elements=1), rule, RuleOptions(microbatches=microbatches))


def problem_of(rule: str, wanted: int, transfer: int, stages: int = UNITS) -> Problem:
    """The tasks with durations, on identical units; every message holds its link for ``transfer`` ticks."""
    machine = abstract_machine(UNITS, transfer)
    tasks = tasks_of(rule, wanted, stages)
    return price(tasks, machine, PrecisionPlan(), lambda task, _unit, _plan: _TICKS[task.id.kind], name="table")


@dataclass(frozen=True)
class Case:
    """A problem with its schedule, lowered."""

    problem: Problem
    schedule: Schedule
    lowered: Lowered

    @property
    def size(self) -> int:
        return len(self.problem.tasks.tasks)


@cache
def case(wanted: int, transfer: int) -> Case:
    """1F1B over 8 units, of about ``wanted`` tasks."""
    problem = problem_of("bp", wanted, transfer)
    order = schedule(problem, "1f1b")
    return Case(problem, order, lower(problem, order))


def scheduler_problem(name: str, wanted: int) -> Problem:
    """A problem that the scheduler accepts, with the stages that it wants."""
    entry = SCHEDULERS[name]
    return problem_of(entry.rules[0], wanted, 1, UNITS * (entry.chunks or 1))
