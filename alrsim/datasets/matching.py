"""Does a data set fit a model, and which option builds a model that it fits?"""

from collections.abc import Callable
from functools import partial
from math import isqrt

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alrsim.datasets.samples import Samples
from alrsim.errors import OptionError
from alrsim.frontend.torch_model import TorchModel

Prepare = Callable[[Samples], Samples]


def require_classes(name: str, model: TorchModel, classes: int) -> None:
    """The model has a logit for each class; more do no harm.

    Raises:
        OptionError: it has fewer.
    """
    if model.classes < classes:
        raise OptionError(
            f"{name} has {classes} classes, {model.name} has {model.classes}",
            field="dataset",
            fix=f"build the model with `option=classes={classes}`",
        )


def image_shape(name: str, model: TorchModel, channels: int, size: int) -> tuple[int, ...]:
    """The model's input for images of this data set: ``(channels, s, s)``, or ``(channels * s * s,)`` for a vector.

    Any size fits (images are resized); grey images fit any number of channels (they are repeated).

    Raises:
        OptionError: the model takes no image, or one of other channels; names the options that make it fit.
    """
    example = model.example(1)
    shape = tuple(example[0].shape[1:])
    if len(example) == 1 and example[0].is_floating_point():
        square = len(shape) == 3 and shape[1] == shape[2]
        if square and (channels == 1 or shape[0] == channels):
            return shape
        if square:
            raise _misfit(name, model, f"images of {channels} channels", f"`option=in_channels={channels}`")
        if len(shape) == 1:
            side = isqrt(shape[0] // channels)
            if side and channels * side**2 == shape[0]:
                return shape
            raise _misfit(name, model, "square images as a vector", f"`option=features={channels * size**2}`")
    raise _misfit(name, model, "square images", "a model for images, for example resnet5 or mlp")


def image_preparation(train: Tensor, shape: tuple[int, ...]) -> Prepare:
    """Bytes to the model's input: standardised with the training images' statistics, resized, flattened if asked.

    Args:
        train: All training images ``(n, channels, height, width)``, uint8. Mean and standard deviation of each channel
            are exact, from the counts of its 256 values.
        shape: From :func:`image_shape`.
    """
    mean, deviation = _statistics(train)
    return partial(_prepare_images, mean=mean, deviation=deviation, shape=shape)


def resized(images: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Float images ``(n, channels, s, s)`` in the model's input shape: bilinear, smoothed first where they shrink."""
    channels = images.shape[1]
    size = shape[1] if len(shape) == 3 else isqrt(shape[0] // channels)
    if images.shape[2:] != (size, size):
        shrinks = size < images.shape[2]
        images = F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False, antialias=shrinks)
    if len(shape) == 1:
        return images.flatten(1)
    return images.expand(-1, shape[0], -1, -1).contiguous()


def token_shape(name: str, model: TorchModel, least: int) -> tuple[int, int]:
    """``(sequence, vocabulary)`` of a model that takes token numbers ``(batch, sequence)`` into an embedding.

    Raises:
        OptionError: it takes something else, or its vocabulary has fewer than ``least`` tokens.
    """
    example = model.example(1)
    tables = [part for part in model.module.modules() if isinstance(part, nn.Embedding)]
    if len(example) != 1 or example[0].dtype != torch.int64 or example[0].dim() != 2 or not tables:
        raise _misfit(name, model, "token numbers for an embedding", "a model for texts, for example lstm")
    vocabulary = tables[0].num_embeddings
    if vocabulary < least:
        raise _misfit(name, model, f"at least {least} different tokens", f"`option=vocabulary={least}`")
    return example[0].shape[1], vocabulary


def graph_shape(name: str, model: TorchModel) -> tuple[int, int, Tensor]:
    """``(nodes, features, adjacency)`` of a model that classifies the nodes of its own graph.

    Raises:
        OptionError: its module has no ``adjacency``, or does not take one matrix ``(nodes, features)`` per sample.
    """
    example = model.example(1)
    adjacency = getattr(model.module, "adjacency", None)
    if len(example) == 1 and example[0].dim() == 3 and isinstance(adjacency, Tensor):
        nodes, features = example[0].shape[1:]
        if adjacency.shape == (nodes, nodes):
            return nodes, features, adjacency
    raise _misfit(name, model, "features of the nodes of a graph", "a model for graphs: gcn or gat")


def _misfit(name: str, model: TorchModel, needs: str, fix: str) -> OptionError:
    takes = " and ".join(
        f"{tuple(item.shape[1:])} {str(item.dtype).removeprefix('torch.')}" for item in model.example(1)
    )
    verb = "build it with " if fix.startswith("`option") else "use "
    return OptionError(f"{name} needs a model for {needs}, {model.name} takes {takes}", field="dataset", fix=verb + fix)


def _statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    counts = np.zeros((images.shape[1], 256), dtype=np.int64)
    for start in range(0, len(images), 1000):  # counting widens bytes to words: a part at a time
        for channel in range(images.shape[1]):
            counts[channel] += np.bincount(images[start : start + 1000, channel].reshape(-1).numpy(), minlength=256)
    values, weights = np.arange(256.0), counts / counts.sum(axis=1, keepdims=True)
    mean = weights @ values
    deviation = np.sqrt((weights * (values - mean[:, None]) ** 2).sum(axis=1))
    deviation[deviation == 0] = 1.0  # a channel without contrast stays 0
    return (torch.from_numpy(mean).float().reshape(-1, 1, 1), torch.from_numpy(deviation).float().reshape(-1, 1, 1))


def _prepare_images(samples: Samples, *, mean: Tensor, deviation: Tensor, shape: tuple[int, ...]) -> Samples:
    images = (samples.inputs[0].float() - mean) / deviation
    return Samples((resized(images, shape),), samples.labels)
