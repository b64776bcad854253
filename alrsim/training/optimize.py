"""Torch optimizers and learning-rate schedules by name."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, StepLR

from alrsim.rules.optimizers import OPTIMIZERS
from alrsim.training.job import TrainJob

RATE_SCHEDULES: Mapping[str, Callable[[Optimizer, TrainJob], LRScheduler]] = {
    "constant": lambda optimizer, job: LambdaLR(optimizer, lambda _step: 1.0),
    "step": lambda optimizer, job: StepLR(optimizer, job.rate_every, job.rate_factor),
    "cosine": lambda optimizer, job: CosineAnnealingLR(optimizer, job.steps),
}
"""Every schedule of the learning rate by its name."""


def optimizer_of(job: TrainJob, values: Sequence[Tensor]) -> Optimizer:
    """The job's optimizer of these values."""
    entry = OPTIMIZERS[job.optimizer]
    build: Callable[..., Optimizer] = getattr(torch.optim, entry.torch)
    more = {name: getattr(job, name) for name in entry.options}
    return build(values, lr=job.rate, weight_decay=job.weight_decay, **more)


def apply(
    optimizer: Optimizer, parameters: Mapping[str, Tensor], gradients: Mapping[str, Tensor], job: TrainJob
) -> None:
    """One optimizer step.

    ``direction = sign``: the optimizer gets the sign of every element of the gradient. Sources: signSGD (Bernstein et
    al. 2018); our reading of the ALR paper's columns "w A" for methods that have no noise to take the sign of.
    """
    for name, parameter in parameters.items():
        gradient = gradients.get(name)
        if gradient is None:
            parameter.grad = None
        else:
            parameter.grad = gradient.sign() if job.direction == "sign" else gradient
    optimizer.step()


def plain_state(state: Any) -> Any:
    """A state dict with tuples as lists, so that it can be stored as plain values."""
    if isinstance(state, Mapping):
        return {key: plain_state(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [plain_state(value) for value in state]
    return state
