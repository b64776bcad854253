"""Textbook problems, where stages and micro-batches are given: every rule with the same freedom, proved or bounded."""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from importlib.util import find_spec

from alrsim.errors import OptionError
from alrsim.hardware.machine import require_unit_count
from alrsim.planner.options import EXACT_AND_LR, PlanOptions
from alrsim.planner.search import covers
from alrsim.schedule.bounds import makespan_bound
from alrsim.schedule.proof import Freedom
from alrsim.schedulers import SearchOptions, solve
from alrsim.schedulers.lr_free import FREE_KINDS
from alrsim.steps.figure2_cells import with_loss_row
from alrsim.steps.options import StepOptions
from alrsim.steps.planned import Planned
from alrsim.steps.step import Step
from alrsim.steps.textbook_problem import textbook_options, textbook_problem
from alrsim.tasks.problem import Problem
from alrsim.units import Ns

MOST_SOLVED = 600
"""Tasks up to which the exact solver is asked."""


def freedom_of(search: SearchOptions) -> Freedom:
    """The freedom that options give."""
    if search.placement in (None, "fixed"):
        return "gradients" if search.gradients == "free" else "fixed"
    return "free" if search.placement == "free" else "stages"


def plan_durations(asked: PlanOptions) -> list[tuple[Step, Ns]]:
    """Every rule's problem, planned; the shortest step first, ties in the order of the rules.

    Returns:
        The best schedule of each, with ticks that no schedule with the freedom that was asked for can beat.

    Raises:
        OptionError: no units, several numbers of micro-batches, or a rule that textbooks do not draw.
        ScheduleError: one of them does not fit the caps.
    """
    assert asked.durations is not None
    if asked.units is None and asked.stages is None:
        raise OptionError("needs `units` or `stages`", field="durations", fixes=[("units", 4)])
    counts = asked.microbatches or (4,)
    if len(counts) != 1:
        raise OptionError(f"got {len(counts)} numbers of micro-batches", field="microbatches", fix="give one")
    rules = asked.rules or EXACT_AND_LR
    if "segments" in rules:
        raise OptionError("a table of durations has no segments", field="rules", fix=f"use {','.join(EXACT_AND_LR)}")
    options = asked.of_step(microbatches=counts[0])
    about = {"durations": {key: str(value) for key, value in asked.durations.items()}}
    found = [
        solve_problem(textbook(asked, rule, asked.durations, counts[0]), rule, asked.searching, options, about)
        for rule in rules
    ]
    return sorted(found, key=lambda one: one[0].makespan)


def textbook(asked: PlanOptions, rule: str, durations: Mapping[str, Fraction], microbatches: int) -> Problem:
    """One rule's problem. With ``loss_row`` the loss module has a gradient cell per micro-batch and an update:
    they take l and u."""
    units = asked.units or asked.stages or 1
    require_unit_count(units, "units")
    row = asked.loss_row and rule != "lr"
    options = replace(
        textbook_options(microbatches, update=asked.update and bool(durations["u"])),
        reduction="accumulate" if durations["c"] and rule == "lr" else "stack",
        loss=bool(durations["l"]),
        loss_gradient=row,
        loss_update=row,
    )
    problem = textbook_problem(
        rule,
        durations,
        stages=asked.stages or units,
        units=units,
        options=options,
        loss_unit=asked.loss_unit,
    )
    if rule != "lr" or not asked.loss_row:
        return problem
    tasks = with_loss_row(problem.tasks)
    known = {task.id: row for task, row in zip(problem.tasks.tasks, problem.durations, strict=True)}
    extra = {kind: (int(durations[key] * problem.ticks_per_unit),) * units for kind, key in (("G", "l"), ("U", "u"))}
    rows = tuple(known.get(task.id, extra.get(task.id.kind, (0,) * units)) for task in tasks.tasks)
    return replace(problem, tasks=tasks, durations=rows)


def solve_problem(
    problem: Problem, name: str, search: SearchOptions, options: StepOptions, about: Mapping[str, object]
) -> tuple[Step, Ns]:
    """One problem: the exact solver where it is installed and the problem small enough, else the best heuristic.

    Args:
        name: Of the step.
        options: How it is simulated.
        about: What it is of.

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
    bound = makespan_bound(problem)
    if solution.proof is not None and covers(search, solution.proof.freedom, is_lr=is_lr):
        bound = max(bound, solution.proof.bound)
    return Step(name, options, about, Planned(problem, solution.schedule, solution.proof)), bound
