"""The exact scheduler: OR-Tools CP-SAT proves an optimum, or a bound, for given durations.

What is exact: durations per unit, one task at a time on a unit, dependencies, transfers under `latency` semantics
(contended links and shared cores only add time, so a bound stays a bound under `link` and `blocking`), caps on live
micro-batches, and byte capacities by the lifetimes of buffers. What may be open beside the order: nothing
(``placement=fixed``, stages in contiguous blocks), LR gradients (``gradients=free``), whole stages
(``placement=stages``), every task (``placement=free``).

The solver starts from the best heuristic within the caps and from the lower bounds of :mod:`alrsim.schedule.bounds`;
where the two meet there is nothing left to search.
"""

from dataclasses import replace

from alrsim.errors import ScheduleError
from alrsim.extras import require
from alrsim.schedule.bounds import makespan_bound, placed_bound
from alrsim.schedule.proof import Freedom, Proof
from alrsim.schedule.schedule import Schedule
from alrsim.schedulers.caps import Caps, Timed, caps_of, timed
from alrsim.schedulers.cpsat_model import Answer, Task, solve
from alrsim.schedulers.dispatch import schedule_of
from alrsim.schedulers.initial_schedules import candidates
from alrsim.schedulers.list_schedule import does_not_fit
from alrsim.schedulers.lr_free import FREE_KINDS
from alrsim.schedulers.placement import contiguous_blocks
from alrsim.schedulers.search import SearchOptions, Solution
from alrsim.tasks.problem import Problem

_TIGHTER = 4
"""How often capacities are tightened."""


def cpsat(problem: Problem) -> Schedule:
    """The best order for stages in contiguous blocks that is found with the default effort.

    Raises:
        OptionError: OR-Tools is not installed.
        ScheduleError: nothing fits the units' memory.
    """
    return cpsat_solution(problem, SearchOptions()).schedule


def cpsat_solution(problem: Problem, options: SearchOptions) -> Solution:
    """:func:`cpsat` with more freedom, caps and limits; the proof says what was proved.

    Raises:
        OptionError: OR-Tools is not installed.
        ScheduleError: infeasible (demand, capacity and shortage per unit), or nothing found in time.
    """
    if options.placement in (None, "fixed"):
        placement = contiguous_blocks(problem)
        units = [placement[task.id.stage] for task in problem.tasks.tasks]
        free = options.gradients == "free"
    else:
        units, free = None, False
    return improve(problem, options, candidates(problem, options), units, gradients=free, name="cpsat")


def improve(
    problem: Problem,
    options: SearchOptions,
    known: list[Timed],
    units: list[int] | None,
    *,
    gradients: bool = False,
    name: str = "cpsat",
) -> Solution:
    """Solve, from known schedules that are within the caps.

    Args:
        known: Schedules to start from, of any placement that the freedom includes.
        units: Unit per task where placement is given; ``None``: open, as ``options.placement`` says.
        gradients: LR gradients may leave their unit all the same.
    """
    require("ortools", "scheduler cpsat")
    caps = caps_of(problem, options)
    freedom: Freedom = "free" if options.placement == "free" else "stages"
    if units is not None:
        freedom = "gradients" if gradients else "fixed"
    bound = makespan_bound(problem)
    if freedom == "fixed" and units is not None:
        bound = max(bound, placed_bound(problem, units))
    best = min(known, key=lambda found: found.makespan, default=None)
    if best is not None and best.makespan <= bound:
        schedule = Schedule(best.schedule.lanes, name)
        return Solution(schedule, Proof("OPTIMAL", best.makespan, freedom, caps.any))
    allowed = _allowed(problem, options, units, gradients=gradients)
    together = freedom == "stages"
    answer = solve(problem, allowed, together, caps, best, bound, options)
    best = _carried_out(problem, allowed, together, caps, best, answer, options)
    return _judge(options, caps, best, answer, freedom, name)


def _carried_out(
    problem: Problem,
    allowed: list[Task],
    together: bool,
    caps: Caps,
    best: Timed | None,
    answer: Answer,
    options: SearchOptions,
) -> Timed | None:
    """The better of what was known and what was found, when each lane runs as early as it can.

    The solver may let a unit wait to save bytes elsewhere, which lanes cannot: where the order then holds too much, it
    is asked again with less capacity, a few times.
    """
    tight = caps
    for _ in range(_TIGHTER):
        if answer.lanes is None:
            return best
        made = timed(problem, schedule_of(problem, answer.lanes, "cpsat"))
        shortages = made.shortages(caps)
        if not shortages:
            return made if best is None or made.makespan < best.makespan else best
        missing = {unit: demand - capacity for unit, demand, capacity, what in shortages if what == "bytes"}
        if tight.bytes is None or not missing:
            return best
        names = [unit.name for unit in problem.machine.units]
        smaller = tuple(
            None if cap is None else max(0, cap - missing.get(name, 0))
            for name, cap in zip(names, tight.bytes, strict=True)
        )
        tight = replace(tight, bytes=smaller)
        answer = solve(problem, allowed, together, tight, None, answer.bound, options, ask_why=False)
    return best


def _allowed(problem: Problem, options: SearchOptions, units: list[int] | None, *, gradients: bool) -> list[Task]:
    """The units on which each task may run."""
    everywhere = tuple(range(len(problem.machine.units)))
    rows: list[Task] = []
    for index, task in enumerate(problem.tasks.tasks):
        if units is not None and not (gradients and task.id.kind in FREE_KINDS):
            rows.append((units[index],))
        elif options.placement == "stages" and task.id.stage == problem.tasks.stages and problem.loss_unit is not None:
            rows.append((problem.loss_unit,))
        else:
            rows.append(everywhere)
    return rows


def _judge(
    options: SearchOptions, caps: Caps, found: Timed | None, answer: Answer, freedom: Freedom, name: str
) -> Solution:
    """A status that holds for what was found."""
    if found is None:
        if answer.shortages:
            raise does_not_fit(answer.shortages, f"scheduler {name}, proved infeasible")
        raise ScheduleError(
            f"found no schedule within the caps in {options.seconds:g} s, and did not prove that there is none",
            where=f"scheduler {name}",
            fix="give it more time (`time_limit`), or allow more memory or live micro-batches",
        )
    schedule = Schedule(found.schedule.lanes, name)
    if found.makespan <= answer.bound:
        return Solution(schedule, Proof("OPTIMAL", found.makespan, freedom, caps.any))
    return Solution(schedule, Proof("FEASIBLE", answer.bound, freedom, caps.any))
