"""The papers' abstract unit: every task takes one step."""

from alrsim.hardware.machine import Unit
from alrsim.hardware.precision import PrecisionPlan
from alrsim.tasks.taskgraph import Task
from alrsim.units import Ns


def unit(_task: Task, _unit: Unit, _plan: PrecisionPlan) -> Ns:
    """One tick for every task on every unit."""
    return 1
