"""Data to train on, by name."""

from collections.abc import Callable, Mapping

from alrsim.datasets.digits import digits, digits_for
from alrsim.datasets.samples import Samples
from alrsim.datasets.synthetic import random_batch
from alrsim.errors import OptionError
from alrsim.frontend.source import TorchModel

__all__ = ["DATASETS", "Dataset", "Samples", "default_dataset", "digits", "load_samples", "random_batch"]

Dataset = Callable[[TorchModel, int, int], Samples]
"""``(model, batch, seed) -> samples`` that fit the model's input; raises OptionError where they cannot."""

DATASETS: Mapping[str, Dataset] = {"digits": digits_for, "random": random_batch}
"""Every data set by its name."""


def load_samples(name: str, model: TorchModel, batch: int, seed: int = 0) -> Samples:
    """One batch of the data set called ``name`` in the shape of the model's input.

    Raises:
        OptionError: no such data set, a batch that is not positive, or data that do not fit the model.
    """
    dataset = DATASETS.get(name)
    if dataset is None:
        raise OptionError(f"there is no data set {name!r}", where="--dataset", fix=f"one of {', '.join(DATASETS)}")
    if batch < 1:
        raise OptionError(f"a batch of {batch} samples is empty", where="batch", fix="use at least 1")
    return dataset(model, batch, seed)


def default_dataset(model: TorchModel) -> str:
    """``digits`` where they fit the model, else ``random``."""
    try:
        digits_for(model, 1, 0)
    except OptionError:
        return "random"
    return "digits"
