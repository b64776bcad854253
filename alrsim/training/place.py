"""Where the tasks of a step run: in sequence, or on worker threads as a schedule says."""

from dataclasses import dataclass

from alrsim.cost.models import roofline
from alrsim.errors import OptionError
from alrsim.execution.step import Lanes, lanes_of
from alrsim.hardware.precision import PrecisionPlan
from alrsim.hardware.profile import load_profile, machine_from
from alrsim.schedulers import SCHEDULERS, schedule
from alrsim.tasks.problem import price
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
        if self.scheduler not in SCHEDULERS:
            raise OptionError(
                f"there is no scheduler {self.scheduler!r}", field="schedule", fix=f"one of {', '.join(SCHEDULERS)}"
            )
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
    problem = price(tasks, machine_from(load_profile(HOST), placement.units), precision, roofline, name="roofline")
    return lanes_of(problem, schedule(problem, placement.scheduler))
