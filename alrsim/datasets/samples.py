"""A batch of inputs with their labels."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Samples:
    """What a training step is fed.

    Attributes:
        inputs: The model's inputs, each with the batch in front.
        labels: Class numbers, int64: ``(batch,)``, or ``(batch, positions)`` where every position has one.
    """

    inputs: tuple[Tensor, ...]
    labels: Tensor
