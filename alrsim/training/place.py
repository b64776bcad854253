"""Where the tasks of a step run: in sequence, or on worker threads as a schedule says."""

from dataclasses import dataclass

from alrsim.errors import OptionError
from alrsim.execution.step import Lanes, lanes_of
from alrsim.hardware.precision import PrecisionPlan
from alrsim.hardware.profile import load_machine
from alrsim.options import choose
from alrsim.schedulers import SCHEDULERS
from alrsim.steps.chain import build_schedule
from alrsim.steps.options import StepOptions
from alrsim.steps.pricing import build_problem
from alrsim.tasks.taskgraph import TaskGraph

HOST = "cpu-2core"
"""Profile whose cost model orders the tasks; an order that is not the best one changes the time, never the result."""


@dataclass(frozen=True)
class Placement:
    """A schedule by name.

    Raises:
        OptionError: no such scheduler, or no units.
    """

    scheduler: str
    units: int

    def __post_init__(self) -> None:
        choose(self.scheduler, SCHEDULERS, field="scheduler", what="scheduler")
        if self.units < 1:
            raise OptionError(f"is {self.units}, must be at least 1", field="units")

    @property
    def split_backward(self) -> bool:
        """Whether the scheduler wants input and weight gradients as tasks of their own."""
        return SCHEDULERS[self.scheduler].rules == ("bp-split",)

    @property
    def stages(self) -> int | None:
        """Stages that the scheduler is usually given, ``None``: any number."""
        chunks = SCHEDULERS[self.scheduler].chunks
        return None if chunks is None else chunks * self.units


def place(tasks: TaskGraph, precision: PrecisionPlan, placement: Placement | None) -> Lanes | None:
    """The lanes of a schedule, ``None`` for the sequence.

    Raises:
        ScheduleError: the scheduler does not take these tasks.
    """
    if placement is None:
        return None
    problem = build_problem(tasks, load_machine(HOST, placement.units), precision)
    return lanes_of(problem, build_schedule(problem, placement.scheduler, StepOptions()).schedule)
