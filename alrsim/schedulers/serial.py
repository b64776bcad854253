"""Everything on the first unit, in the sequential reference order: the judge of every other schedule."""

from alrsim.schedule.schedule import Schedule
from alrsim.schedulers.dispatch import schedule_of
from alrsim.tasks.problem import Problem


def serial(problem: Problem) -> Schedule:
    """One lane with all tasks (the loss module's too, wherever the problem would put it); other lanes stay empty."""
    others: list[list[int]] = [[] for _ in problem.machine.units[1:]]
    return schedule_of(problem, [range(len(problem.tasks.tasks)), *others], "serial")
