"""Synthetic batches for models that no built-in data fits."""

import torch

from alrsim.datasets.samples import Samples
from alrsim.frontend.probe import output_shape
from alrsim.frontend.source import TorchModel


def random_batch(model: TorchModel, batch: int, seed: int) -> Samples:
    """The model's own example inputs with uniform random labels: one per sample, or per position of its logits.

    Raises:
        ModelError: the model does not run on its example input.
    """
    positions = output_shape(model, batch)[2:]
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(max(1, model.classes), (batch, *positions), generator=generator)
    return Samples(model.example(batch), labels)
