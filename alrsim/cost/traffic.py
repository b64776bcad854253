"""From elements to bytes."""

from alrsim.graph.work import Work
from alrsim.hardware.precision import PrecisionPlan
from alrsim.units import Bytes


def bytes_moved(work: Work, plan: PrecisionPlan) -> Bytes:
    """Bytes that the work reads and writes, parameters and activations each in their own format."""
    parameters = work.param_reads + work.param_writes
    activations = work.activation_reads + work.activation_writes
    return plan.parameters.bytes_for(parameters) + plan.activations.bytes_for(activations)
