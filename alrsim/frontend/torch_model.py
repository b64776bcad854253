"""A torch model together with what is needed to trace it."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from alrsim.errors import ModelError


@dataclass(frozen=True)
class TorchModel:
    """A torch module and a function that makes inputs for it.

    Attributes:
        name: What reports call it.
        module: The module, in training mode. Its forward takes tensors and returns logits: ``(batch, classes)``, or
            ``(batch, classes, positions)`` where every position is classified (the nodes of a graph).
        example: ``batch -> inputs``: a tuple of tensors, each with leading dimension ``batch``. Pure: the same
            batch size gives the same values, and torch's global random state is left alone.
        classes: Number of logits, so that labels can be drawn; 0 if the output is not a classification.

    Raises:
        ModelError: if ``module`` is not a torch module.
    """

    name: str
    module: nn.Module
    example: Callable[[int], tuple[Tensor, ...]]
    classes: int

    def __post_init__(self) -> None:
        if not isinstance(self.module, nn.Module):
            raise ModelError(
                f"a model must be a torch.nn.Module, got {type(self.module).__name__}",
                where=self.name,
                fix="return an nn.Module",
            )

    @property
    def parameter_count(self) -> int:
        """Trainable elements."""
        return sum(parameter.numel() for parameter in self.module.parameters() if parameter.requires_grad)

    def input_shape(self, batch: int) -> tuple[int, ...]:
        """Shape of the first input for a batch of ``batch`` samples."""
        return tuple(self.example(batch)[0].shape)
