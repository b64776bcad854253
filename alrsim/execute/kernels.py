"""The registry of kernels: one for every kind of task that a rule emits."""

from collections.abc import Callable

from alrsim.execute.backward import backward, input_gradient, update, weight_gradient
from alrsim.execute.forward import forward
from alrsim.execute.gradient import accumulate, likelihood_ratio
from alrsim.execute.job import Run
from alrsim.execute.losses import loss
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
