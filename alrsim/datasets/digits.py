"""scikit-learn's handwritten digits: 1,797 real images of 8x8 pixels that come with the package, no download."""

import os
from functools import cache
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from alrsim.datasets.matching import resized
from alrsim.datasets.samples import Samples, Splits
from alrsim.errors import OptionError
from alrsim.frontend.torch_model import TorchModel

CLASSES = 10
SIZE = 8
TRAIN = 1400
"""Images to train on; the other 397 are the test."""
SPLIT_SEED = 0


def digits(batch: int, image_size: int = SIZE, channels: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images ``(batch, channels, image_size, image_size)`` float32 and labels ``(batch,)`` int64.

    Pixels are standardised over the whole data set (mean 0, standard deviation 1), resized bilinearly and repeated over
    the channels. The order is a permutation drawn from ``seed``; a batch beyond 1,797 goes through another one.

    Raises:
        OptionError: a size that is not positive.
    """
    for name, value in (("batch", batch), ("image_size", image_size), ("channels", channels)):
        if value < 1:
            raise OptionError(f"{name} is {value}, must be at least 1", where="digits")
    images, labels = _standardised()
    generator = torch.Generator().manual_seed(seed)
    rounds = -(-batch // len(labels))
    order = torch.cat([torch.randperm(len(labels), generator=generator) for _ in range(rounds)])[:batch]
    chosen = images[order]
    if image_size != SIZE:
        chosen = F.interpolate(chosen, size=(image_size, image_size), mode="bilinear", align_corners=False)
    return chosen.repeat(1, channels, 1, 1), labels[order]


def digits_for(model: TorchModel, batch: int, seed: int) -> Samples:
    """Digits in the shape of the model's input: square images, or the pixels of one as a vector.

    Raises:
        OptionError: the model takes no image, or has fewer than 10 classes.
    """
    shape = _input_shape(model)
    if len(shape) == 1:
        images, labels = digits(batch, isqrt(shape[0]), 1, seed)
        return Samples((images.flatten(1),), labels)
    images, labels = digits(batch, shape[1], shape[0], seed)
    return Samples((images,), labels)


def digits_splits(model: TorchModel, _folder: Path | None, _seed: int) -> Splits:
    """1,400 images to train on and 397 to test, in the shape of the model's input.

    The split is one fixed permutation, numpy's ``RandomState(0)`` (whose numbers never change), and the same for every
    seed. Not the order of the file: that goes by writer, so that its last 397 come from other hands than the rest.
    Pixels are standardised with the mean and the standard deviation of the training images.

    Raises:
        OptionError: the model takes no image, or has fewer than 10 classes.
    """
    shape = _input_shape(model)
    data = _bundle()
    order = np.random.RandomState(SPLIT_SEED).permutation(len(data.target))
    pixels, targets = data.images[order], data.target[order]
    standard = (pixels - pixels[:TRAIN].mean()) / pixels[:TRAIN].std()
    images = resized(torch.from_numpy(standard).float().unsqueeze(1), shape)
    labels = torch.from_numpy(targets).long()
    return Splits(
        "digits",
        Samples((images[:TRAIN],), labels[:TRAIN]),
        Samples((images[TRAIN:],), labels[TRAIN:]),
        CLASSES,
        f"{TRAIN} training and {len(labels) - TRAIN} test images, a fixed random split, standardised",
    )


def _input_shape(model: TorchModel) -> tuple[int, ...]:
    example = model.example(1)
    shape = tuple(example[0].shape[1:])
    square = isqrt(shape[0]) ** 2 == shape[0] if len(shape) == 1 else len(shape) == 3 and shape[1] == shape[2]
    if len(example) != 1 or not example[0].is_floating_point() or not square:
        what = " and ".join(f"{tuple(item.shape[1:])} {str(item.dtype).removeprefix('torch.')}" for item in example)
        raise OptionError(
            f"digits are square images, {model.name} takes {what}", field="dataset", fix="use `dataset=random`"
        )
    if model.classes < CLASSES:
        raise OptionError(
            f"digits have {CLASSES} classes, {model.name} has {model.classes}",
            field="dataset",
            fix=f"build it with `option=classes={CLASSES}`, or use `dataset=random`",
        )
    return shape


@cache
def _standardised() -> tuple[Tensor, Tensor]:
    data = _bundle()
    images = torch.from_numpy(data.images).to(torch.float64).reshape(-1, 1, SIZE, SIZE)
    standard = (images - images.mean()) / images.std(correction=0)
    return standard.float(), torch.from_numpy(data.target).long()


def _bundle() -> Any:
    before = dict(os.environ)
    from sklearn.datasets import load_digits  # a second, which only those pay who want digits

    for name in os.environ.keys() - before.keys():  # scikit-learn sets some for OpenMP when it is imported
        del os.environ[name]

    return load_digits()
