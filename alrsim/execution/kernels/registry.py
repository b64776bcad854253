"""The registry of kernels: one for every kind of task that a rule emits."""

from collections.abc import Callable

from alrsim.execution.job import Run
from alrsim.execution.kernels.backward import backward, input_gradient, update, weight_gradient
from alrsim.execution.kernels.forward import forward
from alrsim.execution.kernels.gradient import accumulate, likelihood_ratio
from alrsim.execution.kernels.losses import loss
from alrsim.tasks.token import Kind, TaskId

Kernel = Callable[[Run, int, TaskId], None]
"""``kernel(run, task index, token)`` reads and writes the run's store."""

KERNELS: dict[Kind, Kernel] = {
    "F": forward,
    "L": loss,
    "B": backward,
    "I": input_gradient,
    "W": weight_gradient,
    "G": likelihood_ratio,
    "C": accumulate,
    "U": update,
}
"""X, the transfer, has none: threads share memory, so a transfer is a hand-off."""
