"""Gradients handed on between tasks, and their ordered sums."""

from collections.abc import Mapping

import torch
from torch import Tensor

from alrsim.execution.job import Run
from alrsim.execution.kernels.ledger import Key
from alrsim.execution.kernels.store import Fold
from alrsim.tasks.taskgraph import Category
from alrsim.tasks.token import TaskId


def put_input_gradient(run: Run, task: int, id_: TaskId, value: str, gradient: Tensor) -> None:
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


def add_named(total: dict[str, Tensor], terms: dict[str, Tensor]) -> dict[str, Tensor]:
    """Fold of gradients by parameter."""
    for name, term in terms.items():
        total[name].add_(term)
    return total


def add_lists(total: list[Tensor] | None, terms: list[Tensor]) -> list[Tensor]:
    """Fold of cotangents; the first term becomes the sum."""
    if total is None:
        return terms
    for value, term in zip(total, terms, strict=True):
        value.add_(term)
    return total


def add_tensors(total: Tensor | None, term: Tensor) -> Tensor:
    """Fold of numbers."""
    return term if total is None else total + term


FOLDS: Mapping[str | int, Fold] = {"grad": add_named, "cotangent": add_lists, "sigma": add_tensors}
"""By kind of sum: how a term that another process made is added. (Running statistics are moved by the forwards of one
stage, which one unit runs.)"""
