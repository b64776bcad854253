"""Every data set: its loader, its files, and where it comes from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from alrsim.datasets import ag_news, cifar, cora, fashion, tiny_imagenet
from alrsim.datasets.digits import digits_for, digits_splits
from alrsim.datasets.folders import Layout
from alrsim.datasets.samples import Samples, Splits
from alrsim.datasets.synthetic import random_batch, random_splits
from alrsim.datasets.synthetic_graph import planted_classes
from alrsim.datasets.synthetic_text import first_marker
from alrsim.frontend.torch_model import TorchModel


@dataclass(frozen=True)
class DatasetEntry:
    """One data set.

    Attributes:
        name: As typed on the command line.
        load: ``(model, folder, seed) -> splits`` that fit the model's input; raises OptionError where they cannot and
            FileError where files are missing or damaged. The seed matters to synthetic data only.
        description: One line for people.
        source: Where the data come from.
        layout: The files of a data set that is read from a folder; None where none is needed.
        one_batch: ``(model, batch, seed) -> samples`` where a single batch is drawn in a way of its own.
        graph: ``(model, folder) -> adjacency`` of a data set that has a graph of its own.
    """

    name: str
    load: Callable[[TorchModel, Path | None, int], Splits]
    description: str
    source: str
    layout: Layout | None = None
    one_batch: Callable[[TorchModel, int, int], Samples] | None = None
    graph: Callable[[TorchModel, Path | None], Tensor] | None = None

    @property
    def needs_folder(self) -> bool:
        """Whether the files must be there; nothing is ever downloaded."""
        return self.layout is not None


_MADE = "made by alrsim from the seed"

_ENTRIES = (
    DatasetEntry(
        "digits",
        digits_splits,
        "1,797 handwritten digits of 8x8 pixels, built in",
        "scikit-learn's load_digits: Alpaydin and Kaynak 1998, UCI optical recognition of handwritten digits",
        one_batch=digits_for,
    ),
    DatasetEntry("random", random_splits, "noise in any model's shape, random labels", _MADE, one_batch=random_batch),
    DatasetEntry("synthetic-text", first_marker, "which marker token came first: needs memory", _MADE),
    DatasetEntry("synthetic-graph", planted_classes, "noisy node classes that neighbours tend to share", _MADE),
    DatasetEntry(
        "cifar10",
        partial(cifar.load_cifar, cifar.CIFAR10),
        "60,000 colour images of 32x32 in 10 classes",
        "Krizhevsky 2009, Learning multiple layers of features from tiny images",
        cifar.CIFAR10.layout,
    ),
    DatasetEntry(
        "cifar100",
        partial(cifar.load_cifar, cifar.CIFAR100),
        "60,000 colour images of 32x32 in 100 classes",
        "Krizhevsky 2009, Learning multiple layers of features from tiny images",
        cifar.CIFAR100.layout,
    ),
    DatasetEntry(
        "tiny-imagenet",
        tiny_imagenet.load_tiny_imagenet,
        "110,000 labelled colour images of 64x64 in 200 classes",
        "Le and Yang 2015, Tiny ImageNet visual recognition challenge, CS231N",
        tiny_imagenet.LAYOUT,
    ),
    DatasetEntry(
        "fashion-mnist",
        fashion.load_fashion,
        "70,000 grey images of clothes, 28x28 in 10 classes",
        "Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747",
        fashion.LAYOUT,
    ),
    DatasetEntry(
        "ag-news",
        ag_news.load_ag_news,
        "127,600 news texts in 4 classes",
        "Zhang, Zhao and LeCun 2015, arXiv:1509.01626",
        ag_news.LAYOUT,
    ),
    DatasetEntry(
        "cora",
        cora.load_cora,
        "2,708 papers in 7 classes that cite each other",
        "Sen et al. 2008, Collective classification in network data; split of Yang et al. 2016, arXiv:1603.08861",
        cora.LAYOUT,
        graph=cora.cora_adjacency,
    ),
)

DATASETS: Mapping[str, DatasetEntry] = {entry.name: entry for entry in _ENTRIES}
"""Every data set by its name."""
