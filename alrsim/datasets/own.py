"""Somebody's own data: arrays in memory as a data set, every fifth sample held out."""

from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

from alrsim.datasets.samples import UNLABELLED, Samples, Splits
from alrsim.errors import OptionError
from alrsim.frontend.torch_model import TorchModel

HELD_OUT = 5
"""One sample in so many is kept to judge by."""


def own_splits(data: Any, model: TorchModel) -> Splits:
    """Inputs and labels in memory as a data set: sample 4, 9, 14, ... is held out, the others are learned from.

    Args:
        data: ``(x, y)``: tensors or arrays with the samples in front; ``x`` may be a tuple of them, one for each of the
            model's inputs. ``y`` are class numbers, per sample or per position.

    Raises:
        OptionError: something else, too few samples, or data that do not fit the model.
    """
    inputs, labels = _tensors(data, model)
    count = len(labels)
    if count < HELD_OUT or any(len(value) != count for value in inputs):
        sizes = " and ".join(str(len(value)) for value in inputs)
        raise OptionError(f"{sizes} samples with {count} labels", field="data", fix=f"give {HELD_OUT} or more of each")
    for value, example in zip(inputs, model.example(1), strict=True):
        if value.shape[1:] != example.shape[1:]:
            raise OptionError(
                f"samples are {tuple(value.shape[1:])}, {model.name} takes {tuple(example.shape[1:])}", field="data"
            )
    known = labels[labels != UNLABELLED]
    classes = int(known.max()) + 1 if len(known) else 0
    if (len(known) and int(known.min()) < 0) or (model.classes and classes > model.classes):
        raise OptionError(
            f"labels reach from {int(known.min())} to {classes - 1}, {model.name} has {model.classes} classes",
            field="data",
        )
    held = torch.arange(count) % HELD_OUT == HELD_OUT - 1
    train, test = (Samples(inputs, labels).at(rows) for rows in (~held, held))
    digest = sha256(b"".join(value.contiguous().numpy().tobytes() for value in (*inputs, labels))).hexdigest()
    words = f"{count} samples in memory: {len(train)} to learn from, every fifth ({len(test)}) held out"
    return Splits(f"own-{digest[:12]}", train, test, classes, words)


def _tensors(data: Any, model: TorchModel) -> tuple[tuple[Tensor, ...], Tensor]:
    """Inputs in the model's formats, labels as int64."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise OptionError("is no pair of inputs and labels", field="data", fix="give `data=(x, y)`")
    x, y = data
    examples = model.example(1)
    given = x if isinstance(x, tuple | list) and len(examples) > 1 else (x,)
    if len(given) != len(examples):
        raise OptionError(f"has {len(given)} inputs, {model.name} takes {len(examples)}", field="data")
    try:
        values = tuple(
            torch.as_tensor(value).detach().cpu().to(like.dtype) for value, like in zip(given, examples, strict=True)
        )
        labels = torch.as_tensor(y).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise OptionError(f"is no array: {error}", field="data") from None
    if labels.is_floating_point() or not labels.dim() or not all(value.dim() for value in values):
        raise OptionError("labels must be class numbers, with the samples in front", field="data")
    return values, labels.long()
