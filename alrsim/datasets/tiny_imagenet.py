"""Tiny-ImageNet-200 from its official folder of JPEG files.

Le and Yang 2015, "Tiny ImageNet visual recognition challenge" (CS231N). 64x64 pixels; some files are grey and become
three equal channels. The labels of the official test images were never published, so the validation part is the test.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from alrsim.datasets.folders import Layout, corrupt, read_text, root_with
from alrsim.datasets.matching import image_preparation, image_shape, require_classes
from alrsim.datasets.samples import Samples, Splits
from alrsim.errors import FileError
from alrsim.frontend.torch_model import TorchModel

SIZE, CHANNELS = 64, 3
LAYOUT = Layout(
    "tiny-imagenet",
    "Tiny-ImageNet-200",
    "wnids.txt, train/WNID/images/*.JPEG, val/val_annotations.txt and val/images/*.JPEG",
    ("tiny-imagenet-200",),
)


def load_tiny_imagenet(model: TorchModel, folder: Path | None, _seed: int) -> Splits:
    """All images, kept as bytes (1.4 GB of them); classes in the order of ``wnids.txt``.

    Raises:
        OptionError: no folder, or a model that the images do not fit.
        FileError: a file is missing, damaged or not what it should be.
    """
    shape = image_shape(LAYOUT.dataset, model, CHANNELS, SIZE)
    root, mark = root_with(folder, LAYOUT, "wnids.txt")
    numbers = {wnid: index for index, wnid in enumerate(read_text(root / mark, LAYOUT).split())}
    if not numbers:
        raise corrupt(root / mark, LAYOUT, "names no class")
    require_classes(LAYOUT.dataset, model, len(numbers))
    train, test = _images(_train_files(root, numbers)), _images(_val_files(root, numbers))
    return Splits(
        LAYOUT.dataset,
        train,
        test,
        len(numbers),
        f"{len(train)} training images, {len(test)} of the official validation part as test, standardised per channel",
        image_preparation(train.inputs[0], shape),
    )


def _train_files(root: Path, numbers: dict[str, int]) -> list[tuple[Path, int]]:
    files = []
    for wnid, number in numbers.items():
        folder = root / "train" / wnid / "images"
        inside = sorted(folder.glob("*.JPEG"))
        if not inside:
            raise FileError(
                f"{LAYOUT.dataset}: there are no .JPEG files of class {wnid}", where=str(folder), fix=LAYOUT.fix
            )
        files += [(path, number) for path in inside]
    return files


def _val_files(root: Path, numbers: dict[str, int]) -> list[tuple[Path, int]]:
    notes = root / "val" / "val_annotations.txt"
    files = []
    for index, line in enumerate(read_text(notes, LAYOUT).splitlines(), start=1):
        fields = line.split("\t")
        if len(fields) != 6 or fields[1] not in numbers or "/" in fields[0]:
            raise corrupt(notes, LAYOUT, f"line {index} is not FILE, WNID and a box of four numbers: {line[:60]!r}")
        files.append((root / "val" / "images" / fields[0], numbers[fields[1]]))
    if not files:
        raise corrupt(notes, LAYOUT, "names no image")
    return files


def _images(files: list[tuple[Path, int]]) -> Samples:
    pixels = np.empty((len(files), CHANNELS, SIZE, SIZE), dtype=np.uint8)
    for index, (path, _) in enumerate(files):
        try:
            with Image.open(path) as image:
                if image.size != (SIZE, SIZE):
                    raise corrupt(path, LAYOUT, f"is {image.size[0]}x{image.size[1]} pixels, should be {SIZE}x{SIZE}")
                pixels[index] = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
        except FileNotFoundError:
            raise FileError(f"{LAYOUT.dataset}: a file is missing", where=str(path), fix=LAYOUT.fix) from None
        except (
            OSError,
            SyntaxError,
            ValueError,
            Image.DecompressionBombError,
        ) as error:  # what Pillow raises for a damaged image
            raise corrupt(path, LAYOUT, f"is no readable image: {str(error).splitlines()[0]}") from None
    return Samples((torch.from_numpy(pixels),), torch.tensor([number for _, number in files]))
