"""List scheduling by critical path, for any rule and any DAG: of what is ready, run what has the longest way to go."""

from alrsim.schedule.lower import Delays
from alrsim.schedule.schedule import Schedule
from alrsim.schedulers.dispatch import Plan, dispatch, successors
from alrsim.schedulers.placement import Placement, contiguous_blocks
from alrsim.tasks.problem import Problem
from alrsim.tasks.token import NONE


def list_schedule(problem: Problem) -> Schedule:
    """Contiguous blocks of stages on the units; priority = longest path to the end, transfers included.

    A greedy work-conserving order: where nothing is transferred, at most
    work of the units + critical path long (Graham 1966).
    """
    placement = contiguous_blocks(problem)
    remaining = path_to_end(problem, placement)
    return dispatch(problem, Plan(placement, [0] * len(remaining), [(-ticks,) for ticks in remaining]), "list")


def path_to_end(problem: Problem, placement: Placement) -> list[int]:
    """Ticks of the longest path from the start of each task to the end of the step, lanes ignored."""
    tasks, delays = problem.tasks.tasks, Delays(problem)
    after = successors(problem)
    longest = [0] * len(tasks)
    for task in reversed(range(len(tasks))):
        unit = placement[tasks[task].id.stage]
        rest = 0
        for other, buffer in after[task]:
            target = placement[tasks[other].id.stage]
            lag = 0 if buffer == NONE else delays.between(buffer, unit, target)
            rest = max(rest, lag + longest[other])
        longest[task] = problem.durations[task][unit] + rest
    return longest
