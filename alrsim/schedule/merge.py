"""Merge I and W into B where a schedule runs them as one: PyTorch's zero-bubble schedules mix both forms."""

from collections.abc import Collection
from dataclasses import replace

from alrsim.tasks.problem import Problem
from alrsim.tasks.taskgraph import Buffer, Task
from alrsim.tasks.token import NONE, TaskId


def merge_gradients(problem: Problem, full: Collection[TaskId]) -> Problem:
    """The problem with one full backward for each B token in ``full``, whose I and W it must have.

    The merged task stands where I stood, computes the work of both, takes the time of both, reads what both read,
    and keeps nothing between them.
    """
    graph, index = problem.tasks, problem.tasks.index
    second_of = {index[b._replace(kind="I")]: index[b._replace(kind="W")] for b in full}
    first_of = {second: first for first, second in second_of.items()}
    kept_tasks = [task for task in range(len(graph.tasks)) if task not in first_of]
    new_task = {old: new for new, old in enumerate(kept_tasks)}
    new_task |= {second: new_task[first] for second, first in first_of.items()}
    new_task[NONE] = NONE
    kept_buffers = [i for i, buffer in enumerate(graph.buffers) if not _between(buffer, second_of)]
    new_buffer = {old: new for new, old in enumerate(kept_buffers)}
    tasks, durations = [], []
    for old in kept_tasks:
        task, row = graph.tasks[old], problem.durations[old]
        if old in second_of:
            task = _joined(task, graph.tasks[second_of[old]])
            row = tuple(a + b for a, b in zip(row, problem.durations[second_of[old]], strict=True))
        reads = tuple(new_buffer[i] for i in task.reads if i in new_buffer)
        after = dict.fromkeys(new_task[other] for other in task.after if new_task[other] != new_task[old])
        tasks.append(replace(task, reads=reads, after=tuple(after)))
        durations.append(row)
    buffers = []
    for old in kept_buffers:
        buffer = graph.buffers[old]
        merged = buffer.producer in second_of or buffer.producer in first_of
        name = _renamed(buffer.name, graph.tasks[buffer.producer].id) if merged else buffer.name
        readers = tuple(dict.fromkeys(new_task[reader] for reader in buffer.readers))
        buffers.append(replace(buffer, name=name, producer=new_task[buffer.producer], readers=readers))
    merged_graph = replace(graph, tasks=tuple(tasks), buffers=tuple(buffers))
    return replace(problem, tasks=merged_graph, durations=tuple(durations))


def _between(buffer: Buffer, second_of: dict[int, int]) -> bool:
    """Whether a buffer only carries something from an I to the W that is merged with it."""
    return buffer.producer in second_of and buffer.readers == (second_of[buffer.producer],)


def _joined(first: Task, second: Task) -> Task:
    return Task(
        first.id._replace(kind="B"),
        tuple(dict.fromkeys(first.reads + second.reads)),
        tuple(dict.fromkeys(first.after + second.after)),
        first.work + second.work,
        first.encoded + second.encoded,
        first.copies,
    )


def _renamed(name: str, producer: TaskId) -> str:
    return name.replace(f"{producer}:", f"{producer._replace(kind='B')}:", 1)
