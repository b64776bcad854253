"""Lower bounds on the makespan of any schedule of a problem, whatever the placement and the order."""

from alrsim.tasks.problem import Problem
from alrsim.units import Ns


def critical_path(problem: Problem) -> Ns:
    """Longest chain of dependent tasks, each on the unit where it is fastest, transfers free."""
    ends: list[Ns] = []
    for position, row in enumerate(problem.durations):
        ready = max((ends[other] for other, _ in problem.tasks.dependencies(position)), default=0)
        ends.append(ready + min(row))
    return max(ends, default=0)


def work_bound(problem: Problem) -> Ns:
    """All work, each task on the unit where it is fastest, spread evenly over the units (and shared cores)."""
    units = len(problem.machine.units)
    cores = units if problem.machine.shared_cores is None else min(units, problem.machine.shared_cores)
    return -(-sum(min(row) for row in problem.durations) // cores)


def makespan_bound(problem: Problem) -> Ns:
    """The larger of :func:`critical_path` and :func:`work_bound`. Fused pairs (``overlap`` < 1) may go below."""
    return max(critical_path(problem), work_bound(problem))
