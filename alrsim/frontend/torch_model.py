"""A torch model together with what is needed to trace it, and the state of torch that it is traced in."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from alrsim.errors import ModelError
from alrsim.frontend.blame import blamed


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


def float_input(shape: tuple[int, ...], seed: int) -> Callable[[int], tuple[Tensor, ...]]:
    """Example inputs of normal noise ``(batch, *shape)``, the same for the same batch size."""

    def example(batch: int) -> tuple[Tensor, ...]:
        return (torch.randn(batch, *shape, generator=torch.Generator().manual_seed(seed)),)

    return example


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's random state at ``seed``, and put back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def in_mode(module: nn.Module, *, training: bool) -> Iterator[None]:
    """A module in training or evaluation mode, and every submodule's own mode back afterwards.

    Frozen submodules of a module that is in training mode already stay frozen.
    """
    modes = [(part, part.training) for part in module.modules()]
    if not (training and module.training):
        module.train(training)
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def output_shape(model: TorchModel, batch: int) -> tuple[int, ...]:
    """Shape of the logits for ``batch`` samples. Parameters, buffers and random state stay as they are.

    Raises:
        ModelError: the model does not run on its example input, does not return one tensor, or its output does not
            have the batch in front.
    """
    buffers = {name: buffer.clone() for name, buffer in model.module.named_buffers()}
    try:  # one sample is too few for a BatchNorm in training mode
        with in_mode(model.module, training=False), torch.no_grad(), torch.random.fork_rng(devices=[]):
            output = torch.func.functional_call(model.module, buffers, model.example(batch))
    except Exception as error:  # whatever the user's forward raises
        fix = "give an example input of the shape and type that forward expects, batch first"
        raise blamed(error, "the model does not run on its example input", model.name, fix) from None
    if not isinstance(output, Tensor):
        raise ModelError(
            f"the model returns {type(output).__name__}, not a tensor", where=model.name, fix="return the logits only"
        )
    if not output.ndim or output.shape[0] != batch:
        raise ModelError(
            f"the output {tuple(output.shape)} does not start with the batch of {batch}",
            where=model.name,
            fix="return logits (batch, classes)",
        )
    return tuple(output.shape)
