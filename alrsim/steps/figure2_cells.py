"""The cells of Figure 2 of the ALR paper (arXiv 2403.12320), and an order of them that no row is bound to.

Every task is one cell of one step; each layer, and the loss module, has a row (a unit) of its own.
"""

from dataclasses import replace
from heapq import heapify, heappop, heappush

from alrsim.graph.stages import chain
from alrsim.hardware.machine import Unit, abstract_machine
from alrsim.hardware.precision import PrecisionPlan
from alrsim.rules.options import RuleOptions
from alrsim.schedule.schedule import Lane, Schedule
from alrsim.steps.chain import build_tasks
from alrsim.tasks.problem import Problem, price
from alrsim.tasks.taskgraph import Task, TaskGraph
from alrsim.tasks.token import NONE, TaskId


def bp_cells(layers: int, microbatches: int, *, loss_row: bool = True) -> TaskGraph:
    """The cells of the BP chart: F, L, B and U of every layer, the first included.

    Args:
        loss_row: The loss module has a gradient cell per micro-batch and an update cell, as in the paper's count.
    """
    options = RuleOptions(
        microbatches=microbatches, loss_gradient=loss_row, loss_update=loss_row, first_input_gradient=True
    )
    return build_tasks(chain(layers), "bp", options)


def lr_cells(layers: int, microbatches: int) -> TaskGraph:
    """The cells of the LR chart: F, L, G and U; one forward per micro-batch and no clean one, as the paper draws it."""
    return build_tasks(chain(layers), "lr", RuleOptions(microbatches=microbatches, baseline="none"))


def with_loss_row(cells: TaskGraph) -> TaskGraph:
    """LR cells and, in the loss row, a gradient after every loss and one update after those."""
    losses = [position for position, task in enumerate(cells.tasks) if task.id.kind == "L"]
    moved = [position + sum(loss < position for loss in losses) for position in range(len(cells.tasks))]
    tasks: list[Task] = []
    for position, task in enumerate(cells.tasks):
        tasks.append(replace(task, after=tuple(moved[other] for other in task.after)))
        if position in losses:  # its gradient comes next in the reference order
            tasks.append(Task(TaskId(cells.stages, "G", task.id.microbatch), after=(moved[position],)))
    tasks.append(Task(TaskId(cells.stages, "U"), after=tuple(moved[loss] + 1 for loss in losses)))
    buffers = tuple(
        replace(
            buffer,
            producer=NONE if buffer.producer == NONE else moved[buffer.producer],
            readers=tuple(moved[reader] for reader in buffer.readers),
        )
        for buffer in cells.buffers
    )
    return replace(cells, tasks=tuple(tasks), buffers=buffers)


def unit_grid(cells: TaskGraph) -> Problem:
    """One row per layer and one for the loss; every task takes one step, transfers none."""
    grid = abstract_machine(cells.stages + 1)
    names = [f"layer {index}" for index in range(cells.stages)] + ["loss"]
    rows = replace(grid, units=tuple(Unit(name) for name in names))
    problem = price(cells, rows, PrecisionPlan(), lambda *_: 1, name="one step per task", loss_unit=cells.stages)
    return replace(problem, time_unit="user")


def any_row(problem: Problem) -> Schedule:
    """A greedy order in which every task may run on every row: each step, the tasks with the longest way to go.

    Only for problems whose tasks take one step and whose transfers take none.
    """
    tasks, rows = problem.tasks.tasks, len(problem.machine.units)
    after: list[list[int]] = [[] for _ in tasks]
    missing = [0] * len(tasks)
    for index in range(len(tasks)):
        for other in {other for other, _ in problem.tasks.dependencies(index)}:
            after[other].append(index)
            missing[index] += 1
    path = [1] * len(tasks)
    for index in reversed(range(len(tasks))):
        path[index] += max((path[other] for other in after[index]), default=0)
    ready = [(-path[index], index) for index in range(len(tasks)) if not missing[index]]
    heapify(ready)
    lanes: list[list[TaskId]] = [[] for _ in range(rows)]
    while ready:
        step = [heappop(ready)[1] for _ in range(min(rows, len(ready)))]
        for row, index in enumerate(step):
            lanes[row].append(tasks[index].id)
            for other in after[index]:
                missing[other] -= 1
                if not missing[other]:
                    heappush(ready, (-path[other], other))
    named = zip(problem.machine.units, lanes, strict=True)
    return Schedule(tuple(Lane(unit.name, tuple(lane)) for unit, lane in named), "any-row")
