"""A step of many equal micro-batches as numpy columns: one micro-batch is a template, the step repeats it.

Every rule builds its micro-batches one after the other by the same steps, so what the first one looks like says it
all (tested against the whole graph in tests/properties/test_task_columns.py). A step of 4,096 stages and 16,384
micro-batches then takes as many objects as one micro-batch of it.

*Row*: a task of the template. A row of a micro-batch stands for one task in each; a row behind them (an update) is
there *once*, and waits for what it waits for in all micro-batches.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from alrsim.errors import OptionError
from alrsim.tasks.taskgraph import TaskGraph
from alrsim.tasks.token import KINDS, NONE, TaskId

Column = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TaskColumns:
    """A task graph of ``microbatches`` equal micro-batches.

    An item ``row * microbatches + microbatch`` is a task; those that are there once come last.

    Attributes:
        template: The task graph of a step of one micro-batch.
        microbatches: How many of them the step has.

    Raises:
        OptionError: a template of another number of micro-batches, or less than one of them.
    """

    template: TaskGraph
    microbatches: int

    def __post_init__(self) -> None:
        if self.template.microbatches != 1:
            raise OptionError(f"a template has 1 micro-batch, not {self.template.microbatches}", where="task columns")
        if self.microbatches < 1:
            raise OptionError(f"microbatches is {self.microbatches}, must be at least 1", field="microbatches")
        flags = [task.id.microbatch == NONE for task in self.template.tasks]
        if flags != sorted(flags):
            raise OptionError("a task without a micro-batch is not behind those with one", where="task columns")

    @cached_property
    def rows(self) -> int:
        """Tasks of one micro-batch."""
        return sum(task.id.microbatch != NONE for task in self.template.tasks)

    @property
    def once(self) -> int:
        """Tasks that the step has once."""
        return len(self.template.tasks) - self.rows

    def __len__(self) -> int:
        return self.rows * self.microbatches + self.once

    @cached_property
    def stage(self) -> Column:
        """Stage per row."""
        return np.array([task.id.stage for task in self.template.tasks], dtype=np.int64)

    @cached_property
    def kind(self) -> Column:
        """Index in :data:`alrsim.tasks.token.KINDS` per row."""
        return np.array([KINDS.index(task.id.kind) for task in self.template.tasks], dtype=np.int64)

    @cached_property
    def group(self) -> Column:
        """Copy group per row."""
        return np.array([task.id.group for task in self.template.tasks], dtype=np.int64)

    def task_id(self, item: int) -> TaskId:
        """The task of an item."""
        split = self.rows * self.microbatches
        if item >= split:
            return self.template.tasks[self.rows + item - split].id
        return self.template.tasks[item // self.microbatches].id._replace(microbatch=item % self.microbatches)

    def items(self, reference: Column) -> Column:
        """Items by position in the sequential reference order (micro-batches ascending, then what is there once)."""
        split = self.rows * self.microbatches
        return np.where(
            reference < split, reference % self.rows * self.microbatches + reference // self.rows, reference
        )


@dataclass(frozen=True)
class FullColumns:
    """Every task of a step in reference order.

    Attributes:
        stage: Per task.
        kind: Per task, index in :data:`alrsim.tasks.token.KINDS`.
        microbatch: Per task, ``NONE`` where it has none.
        group: Copy group per task.
        first: ``before[first[i]:first[i + 1]]`` are the tasks that task ``i`` waits for, ascending; length tasks + 1.
        before: Predecessors, by position in reference order.
    """

    stage: Column
    kind: Column
    microbatch: Column
    group: Column
    first: Column
    before: Column


def full_columns(tasks: TaskColumns) -> FullColumns:
    """Write a step out; linear in tasks and dependencies, 8 bytes for each number."""
    rows, copies = tasks.rows, tasks.microbatches
    needs = [sorted({other for other, _ in tasks.template.dependencies(row)}) for row in range(rows + tasks.once)]
    repeat = np.arange(copies, dtype=np.int64)

    def tiled(column: Column) -> Column:
        return np.concatenate([np.tile(column[:rows], copies), column[rows:]])

    counts = np.array([len(need) for need in needs], dtype=np.int64)
    counts[rows:] *= copies
    local = np.array([other for need in needs[:rows] for other in need], dtype=np.int64)
    inside = (repeat[:, None] * rows + local[None, :]).ravel()
    behind = [(repeat[:, None] * rows + np.array(need, dtype=np.int64)[None, :]).ravel() for need in needs[rows:]]
    per_task = tiled(counts)
    first = np.zeros(len(per_task) + 1, dtype=np.int64)
    np.cumsum(per_task, out=first[1:])
    microbatch = np.concatenate([np.repeat(repeat, rows), np.full(tasks.once, NONE, dtype=np.int64)])
    return FullColumns(
        tiled(tasks.stage),
        tiled(tasks.kind),
        microbatch,
        tiled(tasks.group),
        first,
        np.concatenate([inside, *behind]),
    )
