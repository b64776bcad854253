"""A batch of inputs with their labels, and a data set's parts."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

UNLABELLED = -100
"""Label of a position that counts in no loss and no accuracy: the default ``ignore_index`` of torch's cross entropy."""


@dataclass(frozen=True)
class Samples:
    """What a training step is fed.

    Attributes:
        inputs: The model's inputs, each with the batch in front.
        labels: Class numbers, int64: ``(batch,)``, or ``(batch, positions)`` where every position has one;
            :data:`UNLABELLED` where a position has none.
    """

    inputs: tuple[Tensor, ...]
    labels: Tensor

    def __len__(self) -> int:
        return self.labels.shape[0]

    def at(self, rows: Tensor | slice) -> "Samples":
        """Some of the samples."""
        return Samples(tuple(value[rows] for value in self.inputs), self.labels[rows])


def as_stored(samples: Samples) -> Samples:
    """Nothing to do: the samples are kept as the model takes them."""
    return samples


@dataclass(frozen=True)
class Splits:
    """A data set for one model: all samples of each part.

    Images from files are kept as bytes, a quarter of their size as float32, and become the model's input when a batch
    of them is taken: use :func:`alrsim.datasets.train_batch` and :func:`alrsim.datasets.chunks`, or :attr:`prepare`.

    Attributes:
        name: The data set's name in the registry.
        train: Samples to learn from, as they are stored.
        test: Samples to judge by; none of them is in ``train``. Of a data set that is one graph both hold the same
            graph, with the labels of different nodes.
        classes: Number of classes; labels are below it.
        description: Where the numbers come from: sizes, split and scaling, in one line.
        prepare: Makes stored samples what the model takes. Pure, sample by sample.
        validation: A third part where the data set defines one.
    """

    name: str
    train: Samples
    test: Samples
    classes: int
    description: str
    prepare: Callable[[Samples], Samples] = as_stored
    validation: Samples | None = None
