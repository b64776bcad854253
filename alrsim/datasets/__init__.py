"""Data to train on, by name."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

from torch import Tensor

from alrsim.allocation import require_memory
from alrsim.datasets.digits import digits, digits_for
from alrsim.datasets.order import batches, chunks, epoch_of, train_batch
from alrsim.datasets.registry import DATASETS, DatasetEntry
from alrsim.datasets.samples import UNLABELLED, Samples, Splits
from alrsim.datasets.synthetic import random_batch
from alrsim.errors import OptionError
from alrsim.frontend.torch_model import TorchModel

__all__ = [
    "DATASETS",
    "UNLABELLED",
    "DatasetEntry",
    "Samples",
    "Splits",
    "batches",
    "chunks",
    "default_dataset",
    "digits",
    "epoch_of",
    "load_samples",
    "load_splits",
    "random_batch",
    "train_batch",
    "with_graph_of",
]


def load_splits(name: str, model: TorchModel, *, folder: Path | None = None, seed: int = 0) -> Splits:
    """All training and test samples of the data set called ``name``, for the model's input.

    Args:
        name: One of :data:`DATASETS`.
        model: Decides sizes; is not changed. For a data set with a graph of its own it must hold that graph already:
            see :func:`with_graph_of`.
        folder: Where the files are, for a data set that has files.
        seed: Draws synthetic data. The parts of the others are fixed.

    Raises:
        OptionError: no such data set, a folder missing or given in vain, or data that do not fit the model.
        FileError: a file is missing, damaged or not what it should be.
    """
    return _entry(name, folder).load(model, folder, seed)


def load_samples(name: str, model: TorchModel, batch: int, seed: int = 0, *, folder: Path | None = None) -> Samples:
    """One batch of the data set called ``name`` in the shape of the model's input.

    Raises:
        OptionError: no such data set, a batch that is not positive, or data that do not fit the model.
        FileError: as :func:`load_splits`.
        MemoryError: the batch is larger than the host's memory.
    """
    entry = _entry(name, folder)
    if batch < 1:
        raise OptionError(f"a batch of {batch} samples is empty", where="batch", fix="use at least 1")
    require_memory(batch * sum(value.nbytes for value in model.example(1)))
    if entry.one_batch is not None:
        return entry.one_batch(model, batch, seed)
    return train_batch(entry.load(model, folder, seed), batch, 0, seed)


def with_graph_of(name: str, model: TorchModel, folder: Path | None = None) -> TorchModel:
    """The model on the graph of the data set, where that has one (cora); else the model itself.

    The graph is part of a model: do this before the model is exported. The given model is not changed; parameters are
    equal. Works on modules with ``set_adjacency``, as the zoo's gcn and gat have.

    Raises:
        OptionError, FileError: as :func:`load_splits`.
    """
    entry = _entry(name, folder)
    if entry.graph is None:
        return model
    adjacency = entry.graph(model, folder)
    module = copy.deepcopy(model.module)
    change = getattr(module, "set_adjacency", None)
    if not callable(change):
        raise OptionError(
            f"the graph of {model.name} cannot be changed to that of {name}",
            field="dataset",
            fix="use gcn or gat, or give the module a method set_adjacency(adjacency)",
        )
    cast("Callable[[Tensor], None]", change)(adjacency)
    return replace(model, module=module)


def default_dataset(model: TorchModel) -> str:
    """``digits`` where they fit the model, else ``random``."""
    try:
        digits_for(model, 1, 0)
    except OptionError:
        return "random"
    return "digits"


def _entry(name: str, folder: Path | None) -> DatasetEntry:
    entry = DATASETS.get(name)
    if entry is None:
        raise OptionError(f"there is no data set {name!r}", field="dataset", fix=f"one of {', '.join(DATASETS)}")
    if folder is not None and not entry.needs_folder:
        raise OptionError(f"{name} is read from no folder", field="data_folder", fix="leave the folder out")
    return entry
