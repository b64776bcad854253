"""CIFAR-10 and CIFAR-100 from their official archives: the Python version (pickled) or the binary one.

Krizhevsky 2009, "Learning multiple layers of features from tiny images". Images of 32x32 in three channels, a row holds
the red plane, then green, then blue.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from alrsim.datasets.folders import Layout, corrupt, read, root_with
from alrsim.datasets.matching import image_preparation, image_shape, require_classes
from alrsim.datasets.pickles import read_pickle
from alrsim.datasets.samples import Samples, Splits
from alrsim.frontend.torch_model import TorchModel

SIZE, CHANNELS = 32, 3
PIXELS = CHANNELS * SIZE * SIZE


@dataclass(frozen=True)
class Variant:
    """One of the two data sets: its classes, its files and where a class number stands in them.

    Attributes:
        classes: Number of classes.
        labels: Key of the class numbers in the Python version.
        train: Files of the training part; the binary version adds ``.bin``.
        test: Files of the test part.
        header: Label bytes before an image in the binary version; the last is the class.
        layout: What the folder must hold.
    """

    classes: int
    labels: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    header: int
    layout: Layout


CIFAR10 = Variant(
    10,
    "labels",
    tuple(f"data_batch_{number}" for number in range(1, 6)),
    ("test_batch",),
    1,
    Layout(
        "cifar10",
        "CIFAR-10 (archive cifar-10-python or cifar-10-binary)",
        "data_batch_1 to data_batch_5 and test_batch (Python version), or the same names with .bin (binary version)",
        ("cifar-10-batches-py", "cifar-10-batches-bin"),
    ),
)
CIFAR100 = Variant(
    100,
    "fine_labels",
    ("train",),
    ("test",),
    2,
    Layout(
        "cifar100",
        "CIFAR-100 (archive cifar-100-python or cifar-100-binary)",
        "train and test (Python version), or train.bin and test.bin (binary version)",
        ("cifar-100-python", "cifar-100-binary"),
    ),
)


def load_cifar(variant: Variant, model: TorchModel, folder: Path | None, _seed: int) -> Splits:
    """All images of a variant, kept as bytes; the official split; the 100 fine classes of CIFAR-100.

    Raises:
        OptionError: no folder, or a model that the images do not fit.
        FileError: a file is missing, damaged or not what it should be.
    """
    name = variant.layout.dataset
    require_classes(name, model, variant.classes)
    shape = image_shape(name, model, CHANNELS, SIZE)
    first = variant.train[0]
    root, mark = root_with(folder, variant.layout, first, f"{first}.bin")
    part = partial(_part, variant, root, mark.endswith(".bin"))
    train, test = part(variant.train), part(variant.test)
    return Splits(
        name,
        train,
        test,
        variant.classes,
        f"{len(train)} training and {len(test)} test images, the official split, standardised per channel",
        image_preparation(train.inputs[0], shape),
    )


def _part(variant: Variant, root: Path, binary: bool, names: tuple[str, ...]) -> Samples:
    if binary:
        parts = [_binary(variant, root / f"{name}.bin") for name in names]
    else:
        parts = [_pickled(variant, root / name) for name in names]
    images, labels = (torch.cat(values) for values in zip(*parts, strict=True))
    return Samples((images,), labels)


def _binary(variant: Variant, path: Path) -> tuple[Tensor, Tensor]:
    data = np.frombuffer(read(path, variant.layout), np.uint8)
    row = variant.header + PIXELS
    if not len(data) or len(data) % row:
        raise corrupt(path, variant.layout, f"{len(data):,} bytes are not whole images of {row:,} bytes")
    rows = data.reshape(-1, row)
    return _checked(variant, path, rows[:, variant.header :], rows[:, variant.header - 1])


def _pickled(variant: Variant, path: Path) -> tuple[Tensor, Tensor]:
    content = read_pickle(path, variant.layout)
    keys = sorted(str(key) for key in content) if isinstance(content, dict) else []
    if "data" not in keys or variant.labels not in keys:
        held = ", ".join(keys) or type(content).__name__
        raise corrupt(path, variant.layout, f"should hold data and {variant.labels}, holds {held}")
    images, labels = content["data"], content[variant.labels]
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[1:] != (PIXELS,):
        raise corrupt(path, variant.layout, f"data are not rows of {PIXELS:,} bytes")
    whole = isinstance(labels, list) and all(type(label) is int for label in labels)
    if not whole or len(labels) != len(images):
        raise corrupt(path, variant.layout, f"{variant.labels} are not one number for each of {len(images)} images")
    return _checked(variant, path, images, np.array(labels))


def _checked(
    variant: Variant, path: Path, images: "np.ndarray[tuple[int, int], np.dtype[np.uint8]]", labels: "np.ndarray"
) -> tuple[Tensor, Tensor]:
    wrong = (labels < 0) | (labels >= variant.classes)
    if wrong.any():
        at = int(wrong.argmax())
        raise corrupt(path, variant.layout, f"image {at} has class {labels[at]}, there are {variant.classes}")
    pixels = torch.from_numpy(images.copy()).reshape(-1, CHANNELS, SIZE, SIZE)
    return pixels, torch.from_numpy(labels.astype(np.int64))
