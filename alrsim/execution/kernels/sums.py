"""Gradients handed on between tasks, and added up."""

import torch
from torch import Tensor

from alrsim.execution.job import Run
from alrsim.execution.kernels.folds import add_named
from alrsim.execution.kernels.ledger import Key
from alrsim.tasks.taskgraph import Category
from alrsim.tasks.token import TaskId


def put_input_gradient(run: Run, task: int, id_: TaskId, value: str, gradient: Tensor) -> None:
    """Hand the gradient of one of a stage's inputs, or of the logits, to the stage that made the value."""
    key: Key = ("gradient", value, id_.stage, id_.microbatch, id_.group)
    run.store.put(task, key, gradient, Category.TEMP, gradient.untyped_storage().nbytes(), id_.stage)


def add_weights(run: Run, task: int, id_: TaskId, gradients: dict[str, Tensor | None]) -> None:
    """Add to the stage's gradient; zeros for a parameter that no derivative leads to (behind it comes a step)."""
    terms = {
        name: torch.zeros_like(run.parameters[name].detach()) if value is None else value
        for name, value in gradients.items()
    }
    if terms:
        size = sum(value.nbytes for value in terms.values())
        run.store.add(task, ("grad", id_.stage), terms, size, id_.stage, add_named)
