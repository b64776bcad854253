"""Optimizers: what one keeps and computes per parameter, and what torch calls it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Optimizer = Literal["sgd", "momentum", "adam"]
"""Those that a step can be planned and run with (task U)."""


@dataclass(frozen=True)
class OptimizerEntry:
    """One optimizer.

    Attributes:
        states: State elements per parameter.
        flops: Of an update, per parameter.
        torch: The class in ``torch.optim``.
        options: Fields of a training job that it takes besides the rate and the weight decay.
    """

    states: int
    flops: int
    torch: str
    options: tuple[str, ...] = ()


OPTIMIZERS: Mapping[str, OptimizerEntry] = {
    "sgd": OptimizerEntry(0, 2, "SGD"),
    "momentum": OptimizerEntry(1, 4, "SGD", ("momentum",)),
    "adam": OptimizerEntry(2, 12, "Adam"),
    "adamw": OptimizerEntry(2, 14, "AdamW"),
    "rmsprop": OptimizerEntry(1, 8, "RMSprop"),
}
"""By name; all of them can train."""
