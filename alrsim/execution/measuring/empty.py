"""Task graphs without work, to measure what the executor itself costs."""

from alrsim.tasks.taskgraph import Task, TaskGraph
from alrsim.tasks.token import TaskId


def empty_lane(tasks: int) -> TaskGraph:
    """Independent tasks."""
    return TaskGraph(tuple(Task(TaskId(0, "F", index)) for index in range(tasks)), (), "empty", 1, tasks)


def relay(tasks: int) -> TaskGraph:
    """A chain of tasks, each waiting for the one before: on alternating lanes every step is a hand-off."""
    chain = tuple(Task(TaskId(0, "F", index), after=() if index == 0 else (index - 1,)) for index in range(tasks))
    return TaskGraph(chain, (), "relay", 1, tasks)
