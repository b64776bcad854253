"""A step of many equal micro-batches: the problem of one of them, and how often it is repeated.

Every rule builds its micro-batches one after the other by the same steps, so what the first one looks like says it
all (tests/properties/test_columns.py holds that against whole steps). A step of 4,096 stages and 16,384 micro-batches
then takes as many objects as one micro-batch of it.

*Row*: a task of the one micro-batch. A row with a micro-batch stands for one task in each; a row behind them (an
update) is there *once*, and waits for what it waits for in all micro-batches.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from alrsim.errors import OptionError, ScheduleError
from alrsim.tasks.problem import Problem
from alrsim.tasks.taskgraph import TaskGraph
from alrsim.tasks.token import NONE, TaskId

MAX_ITEMS = 2**31 - 1


@dataclass(frozen=True)
class RepeatedProblem:
    """A problem of ``microbatches`` equal micro-batches, with one stage on each unit.

    An item ``row * microbatches + microbatch`` is a task; those that are there once come last.

    Attributes:
        one: The problem of a step of one micro-batch.
        microbatches: How many of them the step has.

    Raises:
        OptionError: a problem of several micro-batches, less than one of them, or more items than can be numbered.
        ScheduleError: more stages than units.
    """

    one: Problem
    microbatches: int

    def __post_init__(self) -> None:
        graph, units = self.one.tasks, len(self.one.machine.units)
        if graph.microbatches != 1:
            raise OptionError(f"the problem to repeat has {graph.microbatches} micro-batches, not 1")
        if self.microbatches < 1:
            raise OptionError(f"is {self.microbatches}, must be at least 1", field="microbatches")
        flags = [task.id.microbatch == NONE for task in graph.tasks]
        if flags != sorted(flags):
            raise OptionError("a task without a micro-batch is not behind those with one")
        if graph.stages > units:
            raise ScheduleError(f"one stage on each unit: {graph.stages} stages, {units} units")
        if len(self) > MAX_ITEMS:
            raise OptionError(
                f"{len(self):,} tasks are more than {MAX_ITEMS:,}",
                field="microbatches",
                fix="use fewer `microbatches` or `units`",
            )

    @property
    def graph(self) -> TaskGraph:
        """The tasks of one micro-batch."""
        return self.one.tasks

    @cached_property
    def rows(self) -> int:
        """Tasks of one micro-batch, without those that are there once."""
        return sum(task.id.microbatch != NONE for task in self.graph.tasks)

    def __len__(self) -> int:
        return self.rows * self.microbatches + len(self.graph.tasks) - self.rows

    @cached_property
    def units(self) -> tuple[int, ...]:
        """Unit per stage, the loss module last: stage s on unit s; a loss unit of its own is skipped while there are
        units enough."""
        return self.one.one_stage_each

    @cached_property
    def unit(self) -> list[int]:
        """Unit per row."""
        return [self.units[task.id.stage] for task in self.graph.tasks]

    @cached_property
    def duration(self) -> npt.NDArray[np.int64]:
        """Ticks per row, on its unit."""
        rows = zip(self.one.durations, self.unit, strict=True)
        return np.array([row[unit] for row, unit in rows], dtype=np.int64)

    def home(self, buffer: int) -> int:
        """The unit on which a buffer is made, or lies from the start."""
        found = self.graph.buffers[buffer]
        return self.units[found.stage] if found.producer == NONE else self.unit[found.producer]

    def task_id(self, item: int) -> TaskId:
        """The task of an item."""
        split = self.rows * self.microbatches
        if item >= split:
            return self.graph.tasks[self.rows + item - split].id
        return self.graph.tasks[item // self.microbatches].id._replace(microbatch=item % self.microbatches)
