"""The data of a model: a named data set or arrays in memory, and batches that depend on seed and step alone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from alrsim.datasets import DATASETS, Splits, default_dataset, load_samples, load_splits, train_batch, with_graph_of
from alrsim.datasets.own import own_splits
from alrsim.errors import OptionError
from alrsim.execution.executor import Batch
from alrsim.frontend.torch_model import TorchModel
from alrsim.quality.options import DataOptions
from alrsim.steps.model import Model, load_model


@dataclass(frozen=True)
class Fed:
    """A model with what it is fed.

    Attributes:
        model: On the graph of the data, where they have one.
        dataset: Name of the data.
        splits: Of arrays in memory; ``None``: to be loaded by name.
    """

    model: Model
    torch_model: TorchModel
    dataset: str
    splits: Splits | None

    def batch(self, samples: int, step: int, seed: int) -> Batch:
        """The samples of a training step."""
        assert self.splits is not None
        found = train_batch(self.splits, samples, step, seed)
        return Batch(found.inputs, found.labels)


def feed(model: Model, data: Any, asked: DataOptions) -> Fed:
    """The model on its data.

    Args:
        data: ``(x, y)`` of :func:`alrsim.datasets.own.own_splits`; ``None``: the data set that is asked for.

    Raises:
        OptionError: a model without torch code, or data that do not fit.
        FileError: files that are missing or damaged.
    """
    found = model.torch_model
    if found is None:
        raise OptionError(
            "only torch models can be run: an .onnx file or a saved graph has no torch code",
            field="model",
            fix="give a zoo name, a factory file.py:make or a module",
        )
    if data is not None:
        if asked.dataset is not None:
            raise OptionError("names a data set beside `data`", field="dataset", fix="give one of the two")
        splits = own_splits(data, found)
        return Fed(model, found, splits.name, splits)
    name = asked.dataset or default_dataset(found)
    changed = with_graph_of(name, found, asked.data_folder)
    return Fed(model if changed is found else load_model(changed), changed, name, None)


def checked_batches(fed: Fed, asked: DataOptions, samples: int, seed: int) -> Callable[[int], Batch]:
    """Batch 0 is the one whose gradient is checked, batch ``i`` that of training step ``i``.

    Raises:
        OptionError: data that do not fit the model.
    """
    model, name = fed.torch_model, fed.dataset
    try:
        if fed.splits is None and DATASETS[name].one_batch is None:
            splits = load_splits(name, model, folder=asked.data_folder, seed=seed)
            fed = Fed(fed.model, model, name, splits)
        elif fed.splits is None:
            load_samples(name, model, 1, seed)
    except OptionError as error:
        fix = f"{error.fix}; or `dataset=random`" if error.field == "dataset" else error.fix
        raise OptionError(error.what, where=error.where, field=error.field or "dataset", fix=fix) from None

    def batch(step: int) -> Batch:
        if fed.splits is not None:
            return fed.batch(samples, step, seed)
        found = load_samples(name, model, samples, seed + step)
        return Batch(found.inputs, found.labels)

    return batch
