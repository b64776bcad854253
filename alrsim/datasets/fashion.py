"""Fashion-MNIST from its idx files, packed (.gz) or not.

Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747. An idx file is a magic number (two zero bytes, the type of an element,
the number of dimensions), each dimension as four bytes, most significant first, and the elements.
"""

import struct
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from alrsim.datasets.folders import Layout, corrupt, read, root_with
from alrsim.datasets.matching import image_preparation, image_shape, require_classes
from alrsim.datasets.samples import Samples, Splits
from alrsim.frontend.torch_model import TorchModel

SIZE = 28
CLASSES = 10
UNSIGNED_BYTE = 8
MOST_BYTES = 1_000_000_000
"""Of a file, as its header says: twenty times the data set. Nothing behind that number of bytes is unpacked."""
LAYOUT = Layout(
    "fashion-mnist",
    "Fashion-MNIST",
    "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, "
    "each as it is or packed with .gz behind the name",
)


def load_fashion(model: TorchModel, folder: Path | None, _seed: int) -> Splits:
    """All images, kept as bytes; the official split.

    Raises:
        OptionError: no folder, or a model that the images do not fit.
        FileError: a file is missing, damaged or not what it should be.
    """
    require_classes(LAYOUT.dataset, model, CLASSES)
    shape = image_shape(LAYOUT.dataset, model, 1, SIZE)
    train, test = _part(folder, "train"), _part(folder, "t10k")
    return Splits(
        LAYOUT.dataset,
        train,
        test,
        CLASSES,
        f"{len(train)} training and {len(test)} test images, the official split, standardised",
        image_preparation(train.inputs[0], shape),
    )


def _part(folder: Path | None, prefix: str) -> Samples:
    images, image_path = _idx(folder, f"{prefix}-images-idx3-ubyte", 3)
    labels, path = _idx(folder, f"{prefix}-labels-idx1-ubyte", 1)
    if images.shape[1:] != (SIZE, SIZE):
        height, width = images.shape[1:]
        raise corrupt(image_path, LAYOUT, f"images are {height}x{width} pixels, should be {SIZE}x{SIZE}")
    if len(images) != len(labels):
        raise corrupt(path, LAYOUT, f"there are {len(labels)} labels for {len(images)} images")
    if len(labels) and int(labels.max()) >= CLASSES:
        raise corrupt(path, LAYOUT, f"there is a class {int(labels.max())}, there should be {CLASSES} from 0")
    return Samples((images.unsqueeze(1),), labels.long())


def _idx(folder: Path | None, name: str, dimensions: int) -> tuple[Tensor, Path]:
    root, found = root_with(folder, LAYOUT, name, f"{name}.gz")
    path = root / found
    header = 4 + 4 * dimensions
    head = read(path, LAYOUT, header)
    if len(head) < header or head[:4] != bytes((0, 0, UNSIGNED_BYTE, dimensions)):
        raise corrupt(path, LAYOUT, f"does not start as an idx file of bytes in {dimensions} dimensions")
    shape = struct.unpack(f">{dimensions}I", head[4:])
    elements, shown = prod(shape), "x".join(map(str, shape))
    if elements > MOST_BYTES:
        raise corrupt(path, LAYOUT, f"says that it holds {shown} = {elements:,} bytes, at most {MOST_BYTES:,} are read")
    data = read(path, LAYOUT, header + elements + 1)
    held = len(data) - header
    if not elements or held != elements:
        found = f"{held:,}" if held <= elements else "more"
        raise corrupt(path, LAYOUT, f"should hold {shown} = {elements:,} bytes, holds {found}")
    values = np.frombuffer(data, np.uint8, offset=header).reshape(shape)
    return torch.from_numpy(values.copy()), path
