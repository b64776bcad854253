"""The registry of cost models: how long a task takes on a unit."""

from alrsim.cost.measured import measured_model
from alrsim.cost.roofline import roofline
from alrsim.cost.unit import unit
from alrsim.registry import Registry
from alrsim.tasks.problem import CostModel

COST_MODELS: Registry[CostModel] = Registry("cost model", {"roofline": roofline, "unit": unit}, "alrsim.cost_models")
"""Models that need nothing but the task, the unit and the formats. :func:`~alrsim.cost.measured.measured_model` makes
further ones from a table."""

__all__ = ["COST_MODELS", "measured_model", "roofline", "unit"]
