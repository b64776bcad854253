"""Cost models: how long a task takes on a unit."""

from collections.abc import Mapping

from alrsim.cost.roofline import roofline
from alrsim.errors import OptionError
from alrsim.hardware.machine import Unit
from alrsim.hardware.precision import PrecisionPlan
from alrsim.registry import Registry
from alrsim.tasks.problem import CostKey, CostModel, cost_key
from alrsim.tasks.taskgraph import Task
from alrsim.tasks.token import KIND_NAMES, KINDS
from alrsim.units import Ns

__all__ = ["COST_MODELS", "measured_model", "roofline", "unit"]


def unit(_task: Task, _unit: Unit, _plan: PrecisionPlan) -> Ns:
    """The papers' abstract unit: one tick for every task on every unit."""
    return 1


COST_MODELS: Registry[CostModel] = Registry("cost model", {"roofline": roofline, "unit": unit}, "alrsim.cost_models")
"""Models that need nothing but the task, the unit and the formats; :func:`measured_model` makes further ones."""


def measured_model(table: Mapping[CostKey, Ns]) -> CostModel:
    """Look every task up by :func:`alrsim.tasks.problem.cost_key`; the same on every unit.

    Raises:
        OptionError: a time that is negative or not a whole number, a kind that does not exist; and, when the model is
            asked, a task that was not measured.
    """
    for (stage, kind, copies, _), time in table.items():
        if kind not in KINDS or stage < 0 or copies < 1:
            raise OptionError(f"({stage}, {kind!r}, {copies}) is not a stage, kind and copies", where="measured table")
        if isinstance(time, bool) or not isinstance(time, int) or time < 0:
            raise OptionError(
                f"({stage}, {kind!r}, {copies}) took {time!r}; times are whole nanoseconds", where="measured table"
            )
    known = dict(table)

    def measured(task: Task, _unit: Unit, _plan: PrecisionPlan) -> Ns:
        key = cost_key(task)
        if key not in known:
            has = sorted({copies for stage, kind, copies, _ in known if (stage, kind) == key[:2]})
            raise OptionError(
                f"{task.id.kind} ({KIND_NAMES[task.id.kind]}) of stage {task.id.stage} with {task.copies} copies was "
                f"not measured{f'; measured with {has} copies' if has else ''}",
                where=f"cost of {task.id}",
                fix="calibrate with the same model, cut, micro-batch size and copy groups",
            )
        return known[key]

    return measured
