"""A text task that needs memory: which of the marker tokens came first?"""

from pathlib import Path

import torch
from torch import Tensor

from alrsim.datasets.matching import token_shape
from alrsim.datasets.samples import Samples, Splits
from alrsim.errors import OptionError
from alrsim.frontend.torch_model import TorchModel

TRAIN, TEST = 2000, 500
FILLERS = 20
"""At most so many different tokens without a meaning: enough to distract, few enough to be learnt from 2,000 texts."""


def first_marker(model: TorchModel, _folder: Path | None, seed: int) -> Splits:
    """2,000 training and 500 test texts, drawn from the seed, in the model's length and vocabulary.

    Tokens ``0 .. classes - 1`` are markers, the next (at most 20) mean nothing. A text has one marker in its first half
    and another, of a different class, in its second half; all other tokens are fillers. The label is the class of the
    first. Both orders of a pair are equally likely, so that counting tokens cannot tell more than which two they are:
    without memory of the order the accuracy is 1/2 at most.

    Raises:
        OptionError: the model takes no tokens, its texts are shorter than 2, or its vocabulary is smaller than its
            classes and one filler.
    """
    classes = model.classes
    length, vocabulary = token_shape("synthetic-text", model, max(2, classes) + 1)
    if length < 2 or classes < 2:
        raise OptionError(
            f"synthetic-text needs texts of 2 tokens and 2 classes, {model.name} has {length} and {classes}",
            field="dataset",
            fix="build it with `option=sequence=16` `option=classes=4`",
        )
    generator = torch.Generator().manual_seed(seed)
    tokens, labels = _texts(TRAIN + TEST, length, classes, min(FILLERS, vocabulary - classes), generator)
    text = (
        f"{TRAIN} training and {TEST} test texts of {length} tokens from seed {seed}: which of {classes} came first; "
        "0.5 at most without memory"
    )
    train, test = Samples((tokens[:TRAIN],), labels[:TRAIN]), Samples((tokens[TRAIN:],), labels[TRAIN:])
    return Splits("synthetic-text", train, test, classes, text)


def _texts(count: int, length: int, classes: int, fillers: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    def draw(high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=generator)

    tokens = classes + draw(fillers, count, length)
    rows, middle = torch.arange(count), length // 2
    first = draw(classes, count)
    second = (first + 1 + draw(classes - 1, count)) % classes
    tokens[rows, draw(middle, count)] = first
    tokens[rows, middle + draw(length - middle, count)] = second
    return tokens, first
