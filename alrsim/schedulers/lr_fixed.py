"""LR with every gradient on its layer's own unit: forwards first, gradients as their losses arrive."""

from alrsim.schedule.schedule import Schedule
from alrsim.schedulers.dispatch import Plan, dispatch
from alrsim.schedulers.placement import contiguous_blocks
from alrsim.tasks.problem import Problem
from alrsim.tasks.token import Kind

_QUEUE: dict[Kind, int] = {"L": 0, "F": 1, "C": 2, "G": 3, "B": 3, "I": 3, "W": 3, "U": 4}


def lr_fixed(problem: Problem) -> Schedule:
    """T = L + 2n on the unit grid with L layers, a loss row and n >= 2 micro-batches (ALR paper, Figure 2).

    A free unit takes the first forward that is ready (reference order: micro-batches ascending), else a gradient.
    """
    return dispatch(problem, fixed_plan(problem), "lr-fixed")


def fixed_plan(problem: Problem) -> Plan:
    """The order of the queues, and reference order inside them."""
    queue = [_QUEUE[task.id.kind] for task in problem.tasks.tasks]
    return Plan(contiguous_blocks(problem), queue, [(index,) for index in range(len(queue))])
