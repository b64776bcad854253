"""A scheduler that takes the micro-batches of a pipeline's gradients in reverse: last in, first out."""

import alrsim as al
from alrsim.schedule.schedule import Lane
from alrsim.tasks.token import TaskId

ORDER = {"F": 0, "L": 1, "B": 2, "U": 3}


@al.scheduler("reverse", rules=("bp",), chunks=1)
def reverse(problem: al.Problem) -> al.Schedule:
    """All forwards, then all gradients, the last micro-batch first; stage s on unit s."""
    lanes: list[list[TaskId]] = [[] for _ in problem.machine.units]
    for task in problem.tasks.tasks:
        lanes[min(task.id.stage, len(lanes) - 1)].append(task.id)
    for lane in lanes:
        lane.sort(key=rank)
    names = [unit.name for unit in problem.machine.units]
    return al.Schedule(tuple(Lane(name, tuple(lane)) for name, lane in zip(names, lanes, strict=True)), "reverse")


def rank(task: TaskId) -> tuple[int, int, int]:
    """Where a task stands in its lane."""
    return ORDER[task.kind], -task.microbatch if task.kind == "B" else task.microbatch, task.stage
