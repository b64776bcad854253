"""Micro-batches that are copies of each other: when their order can be fixed without losing the optimum.

In any schedule, giving the k-th slot of a kind of task to micro-batch k keeps every order between kinds (the k-th
smallest end of predecessors is no later than the k-th smallest start of successors) and holds no more memory at any
moment. So they are kept in ascending order in every kind of task of every stage.
"""

from collections.abc import Sequence

from alrsim.schedulers.caps import Caps
from alrsim.tasks.problem import Problem
from alrsim.tasks.token import NONE


def can_be_ordered(problem: Problem, allowed: Sequence[tuple[int, ...]], together: bool, caps: Caps) -> bool:
    """Whether micro-batches are copies of each other and slots of one kind can be exchanged."""
    if problem.tasks.microbatches < 2 or not _interchangeable(problem):
        return False
    if together or all(len(row) == 1 for row in allowed):
        return True
    # With bytes a copy on another unit lives from its transfer on, so that slots on several units differ.
    return caps.bytes is None and moves_are_free(problem) and all(min(row) == max(row) for row in problem.rows)


def _interchangeable(problem: Problem) -> bool:
    """Whether exchanging two micro-batches gives the same problem."""
    graph = problem.tasks
    kinds: dict[tuple[int, str, int], dict[int, object]] = {}
    for index, task in enumerate(graph.tasks):
        own = task.id.microbatch
        inputs: list[tuple[int, str, int, bool, int]] = []
        for other, buffer in graph.dependencies(index):
            source = graph.tasks[other].id
            if source.microbatch not in (own, NONE) and own != NONE:
                return False
            size = graph.buffers[buffer].bytes if buffer != NONE else NONE
            inputs.append((source.stage, source.kind, source.group, source.microbatch == NONE, size))
        loose = [graph.buffers[buffer] for buffer in task.reads if graph.buffers[buffer].producer == NONE]
        inputs += [(buffer.stage, "", 0, True, buffer.bytes) for buffer in loose]
        key = task.id.stage, task.id.kind, task.id.group
        kinds.setdefault(key, {})[own] = (problem.durations[index], tuple(sorted(inputs)))
        if own == NONE:  # what waits for all micro-batches must wait for each of them alike
            counts: dict[tuple[int, str, int], int] = {}
            for other in {other for other, _ in graph.dependencies(index)}:
                source = graph.tasks[other].id
                if source.microbatch != NONE:
                    sort = source.stage, source.kind, source.group
                    counts[sort] = counts.get(sort, 0) + 1
            if any(count != graph.microbatches for count in counts.values()):
                return False
    return all(
        list(row) == [NONE] or (len(row) == graph.microbatches and len(set(row.values())) == 1)
        for row in kinds.values()
    )


def moves_are_free(problem: Problem) -> bool:
    """Whether every unit reaches every other and nothing takes time on the way."""
    units, sorts = len(problem.machine.units), problem.machine.topology.sorts()
    if sum(sorts.values()) < units * (units - 1):
        return False
    sizes = {buffer.bytes for buffer in problem.tasks.buffers if buffer.readers}
    return not any(speed.delay_ns(size, hops) for size in sizes for speed, hops in sorts)
