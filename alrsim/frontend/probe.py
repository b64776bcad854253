"""Run a model once to learn the shape of its output."""

import torch
from torch import Tensor

from alrsim.errors import ModelError
from alrsim.frontend.blame import blamed
from alrsim.frontend.torch_model import TorchModel, in_mode


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
