"""The best of all: every heuristic that applies, then a search from the best of them, then the exact solver."""

from collections.abc import Callable
from dataclasses import replace
from time import monotonic

from alrsim.errors import ScheduleError
from alrsim.extras import did_without, has
from alrsim.schedule.bounds import makespan_bound, placed_bound
from alrsim.schedule.proof import Freedom, Proof
from alrsim.schedule.schedule import Schedule
from alrsim.schedulers import cpsat
from alrsim.schedulers.caps import Timed, caps_of
from alrsim.schedulers.initial_schedules import candidates
from alrsim.schedulers.list_schedule import shortage_words
from alrsim.schedulers.local_search import improve, start_of, steps_for
from alrsim.schedulers.search import SearchOptions, Solution
from alrsim.tasks.problem import Problem

_SOLVABLE = 600
"""Tasks up to which the exact solver is worth starting within a few seconds."""

_SEARCHABLE = 20_000
"""Tasks up to which a search step is fast enough to be worth a try."""

_STARTS = 2


def auto(problem: Problem) -> Schedule:
    """Never slower than any heuristic of this package that applies to the problem."""
    return auto_solution(problem, SearchOptions()).schedule


def auto_solution(problem: Problem, options: SearchOptions) -> Solution:
    """The best schedule within freedom, caps, effort and time limit.

    Without ``placement`` and ``gradients`` it may use every placement that a heuristic knows (blocks, round robin, a
    V, LR gradients on any unit), but keeps the forwards of a stage together.

    Raises:
        ScheduleError: nothing fits the caps: demand, capacity and shortage per unit where the exact solver is
            installed, else of the schedule that needs least.
    """
    deadline = monotonic() + options.seconds
    if options.placement is None and options.gradients is None:
        options = replace(options, placement="stages", gradients="free")
    known = candidates(problem, options)
    exact = options.exact and len(problem.durations) <= _SOLVABLE
    if exact and not has("ortools"):
        did_without("ortools", "auto")
        exact = False
    if not known:
        if exact:
            narrow = replace(options, gradients=None) if options.placement in ("stages", "free") else options
            return _finish(cpsat.cpsat_solution(problem, narrow))
        raise _nothing_fits(problem, options)
    if len(problem.durations) <= _SEARCHABLE:
        known = _search(problem, known, options, deadline)
    best = known[0]
    if exact and (left := deadline - monotonic()) > 0:
        limits = replace(options, effort=options.effort / 2, time_limit=left)
        return _finish(_exact(problem, known, limits))
    return Solution(Schedule(best.schedule.lanes, "auto"), _proof_by_bound(problem, best, options))


def _nothing_fits(problem: Problem, options: SearchOptions) -> ScheduleError:
    """Demand, capacity and shortage of the heuristic schedule that is short by the smallest share."""
    caps = caps_of(problem, options)
    tried = candidates(problem, replace(options, live=None, memory=False))
    for live in range(1, problem.tasks.stages + 1):  # the tightest that any list schedule can keep
        tight = candidates(problem, replace(options, live=live, memory=False))
        if tight:
            tried += tight
            break
    rows = [made.shortages(caps) for made in tried]
    nearest = min(rows, key=lambda row: max(demand / max(1, cap) for _, demand, cap, _ in row), default=[])
    return ScheduleError(
        f"no heuristic fits the caps; the nearest: {shortage_words(nearest)}",
        where="scheduler auto",
        fix="use cpsat, which finds a schedule if there is one, or allow more memory or live micro-batches",
    )


def _finish(found: Solution) -> Solution:
    return Solution(Schedule(found.schedule.lanes, "auto"), found.proof)


def _search(problem: Problem, known: list[Timed], options: SearchOptions, deadline: float) -> list[Timed]:
    """Anneal as ``local-search`` does, then from the best few, as long again in total."""
    best, bound = known[0], makespan_bound(problem)
    first = start_of(known, replace(options, base=None)) or best
    others = [made for made in known if made is not first][:_STARTS]
    for number, start in enumerate([first, *others]):
        if best.makespan <= bound or monotonic() > deadline:
            break
        seeded = replace(options, seed=options.seed + number)
        steps = max(1, steps_for(problem, options) // (len(others) if number else 1))
        found = improve(problem, start, seeded, steps=steps, deadline=deadline)
        best = found if found.makespan < best.makespan else best
    return [best, *(made for made in known if made is not best)]


def _exact(problem: Problem, known: list[Timed], options: SearchOptions) -> Solution:
    """Solve with the freedom that was asked for, or, by default, the best order for the best placement found."""
    best = known[0]
    if options.placement in (None, "fixed"):
        return cpsat.improve(problem, options, known, best.units, gradients=options.gradients == "free")
    if options.placement == "free":
        return cpsat.improve(problem, options, known, None)
    return cpsat.improve(problem, options, known[:1], best.units)


def _proof_by_bound(problem: Problem, best: Timed, options: SearchOptions) -> Proof | None:
    """A schedule as short as a lower bound is optimal, whoever found it."""
    reached: tuple[tuple[Freedom, Callable[[], int]], ...] = (
        ("free", lambda: makespan_bound(problem)),
        ("fixed", lambda: placed_bound(problem, best.units)),
    )
    for freedom, bound in reached:
        if best.makespan <= bound():
            return Proof("OPTIMAL", best.makespan, freedom, caps_of(problem, options).any)
    return None
