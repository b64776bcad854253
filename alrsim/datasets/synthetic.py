"""Synthetic batches for models that no built-in data fits."""

from pathlib import Path

import torch

from alrsim.datasets.samples import Samples, Splits
from alrsim.frontend.torch_model import TorchModel, output_shape

ELEMENTS = 2**24
"""Most elements of a synthetic data set: 64 MiB as float32."""


def random_batch(model: TorchModel, batch: int, seed: int) -> Samples:
    """The model's own example inputs with uniform random labels: one per sample, or per position of its logits.

    Raises:
        ModelError: the model does not run on its example input.
    """
    positions = output_shape(model, 2)[2:]
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(max(1, model.classes), (batch, *positions), generator=generator)
    return Samples(model.example(batch), labels)


def random_splits(model: TorchModel, _folder: Path | None, seed: int) -> Splits:
    """Up to 256 example inputs to train on and a quarter as many to test, with random labels: nothing can be learnt.

    Raises:
        ModelError: the model does not run on its example input.
    """
    train = sample_count(sum(value[0].numel() for value in model.example(1)), 256)
    test = train // 4
    both = random_batch(model, train + test, seed)
    first, last = both.at(slice(train)), both.at(slice(train, None))
    classes = max(1, model.classes)
    return Splits(
        "random", first, last, classes, f"{train} training and {test} test samples of noise with random labels"
    )


def sample_count(elements: int, most: int) -> int:
    """Training samples of so many elements that keep the data small: a power of two from 8 to ``most``."""
    fits = max(1, ELEMENTS // max(1, elements))
    return int(max(8, min(most, 1 << (fits.bit_length() - 1))))
