"""Fashion-MNIST, Tiny-ImageNet, AG-News and Cora of LINQS from small files in their own formats."""

import gzip
import resource
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from alrsim.datasets import DATASETS, load_samples, load_splits, train_batch, with_graph_of
from alrsim.datasets.ag_news import tokens
from alrsim.datasets.cora import fixed_split
from alrsim.errors import FileError
from alrsim.frontend.torch_model import TorchModel
from alrsim.models import build

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


def clothes(count: int) -> Bytes:
    return np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)


def write_fashion(root: Path, pack: bool = False) -> None:
    for prefix, labels in (("train", [9, 0, 3, 3]), ("t10k", [1, 2])):
        images = clothes(len(labels))
        for name, data in (
            (f"{prefix}-images-idx3-ubyte", struct.pack(">4I", 0x803, *images.shape) + images.tobytes()),
            (f"{prefix}-labels-idx1-ubyte", struct.pack(">2I", 0x801, len(labels)) + bytes(labels)),
        ):
            path = root / (f"{name}.gz" if pack else name)
            path.write_bytes(gzip.compress(data) if pack else data)


@pytest.mark.parametrize("pack", [False, True])
def test_fashion_mnist_gives_the_pixels_and_labels_of_its_idx_files(tmp_path: Path, pack: bool) -> None:
    write_fashion(tmp_path, pack)
    splits = load_splits("fashion-mnist", build("snn"), folder=tmp_path)
    assert np.array_equal(splits.train.inputs[0][:, 0].numpy(), clothes(4))
    assert splits.train.labels.tolist() == [9, 0, 3, 3]
    assert splits.test.labels.tolist() == [1, 2]
    expected = (clothes(2) - clothes(4).mean()) / clothes(4).std()
    torch.testing.assert_close(splits.prepare(splits.test).inputs[0][:, 0], torch.from_numpy(expected).float())


def test_grey_images_are_repeated_over_channels_resized_or_flattened_for_the_model(tmp_path: Path) -> None:
    write_fashion(tmp_path)
    for model in (build("resnet5", image_size=16), build("mlp", features=49)):
        splits = load_splits("fashion-mnist", model, folder=tmp_path)
        ready = splits.prepare(splits.train).inputs[0]
        assert ready.shape == model.example(4)[0].shape
        assert ready.dtype == torch.float32
    half = load_samples("fashion-mnist", build("resnet5", in_channels=3, image_size=8), 4, folder=tmp_path)
    assert torch.equal(half.inputs[0][:, 0], half.inputs[0][:, 2])


@pytest.mark.parametrize("pack", [False, True])
def test_an_idx_file_that_is_cut_off_or_another_is_refused(tmp_path: Path, pack: bool) -> None:
    write_fashion(tmp_path, pack)
    path = tmp_path / ("train-images-idx3-ubyte" + ".gz" * pack)
    whole = path.read_bytes()
    for length in (0, 3, 15, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(FileError, match="fashion-mnist: ") as error:
            load_splits("fashion-mnist", build("snn"), folder=tmp_path)
        assert error.value.where == str(path)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("train-images-idx3-ubyte", struct.pack(">4I", 0x803, 9, 28, 28) + bytes(784), "should hold 9x28x28 = 7,056"),
        ("train-images-idx3-ubyte", struct.pack(">4I", 0x803, *[2**32 - 1] * 3), "at most 1,000,000,000 are read"),
        ("train-images-idx3-ubyte", struct.pack(">4I", 0x803, 4, 28, 28) + bytes(4000), "= 3,136 bytes, holds more"),
        (
            "train-images-idx3-ubyte",
            struct.pack(">4I", 0x803, 4, 2, 2) + bytes(16),
            "images are 2x2 pixels, should be 28x28",
        ),
        ("train-images-idx3-ubyte", struct.pack(">2I", 0x801, 4) + bytes(4), "does not start as an idx file"),
        ("train-labels-idx1-ubyte", struct.pack(">2I", 0x801, 3) + bytes(3), "there are 3 labels for 4 images"),
        ("t10k-labels-idx1-ubyte", struct.pack(">2I", 0x801, 2) + bytes([0, 10]), "there is a class 10"),
    ],
)
def test_idx_files_that_do_not_fit_together_are_refused(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    write_fashion(tmp_path)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(FileError, match=message):
        load_splits("fashion-mnist", build("snn"), folder=tmp_path)


def test_a_packed_file_is_unpacked_as_far_as_its_header_says(tmp_path: Path) -> None:
    write_fashion(tmp_path, pack=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    head = gzip.compress(struct.pack(">4I", 0x803, 4, 28, 28) + bytes(4 * 784))
    path.write_bytes(head + gzip.compress(bytes(1 << 24)) * 64)  # a megabyte that unpacks to a gigabyte
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FileError, match="should hold 4x28x28 = 3,136 bytes, holds more"):
        load_splits("fashion-mnist", build("snn"), folder=tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


def smooth(colour: tuple[int, int, int]) -> Image.Image:
    return Image.new("RGB", (64, 64), colour)


def write_tiny(root: Path) -> None:
    """Two classes in an order that is not the alphabet's; one image is grey."""
    (root / "val" / "images").mkdir(parents=True)
    (root / "wnids.txt").write_text("n02\nn01\n")
    for wnid, colour in (("n02", (200, 10, 10)), ("n01", (10, 10, 200))):
        folder = root / "train" / wnid / "images"
        folder.mkdir(parents=True)
        smooth(colour).save(folder / f"{wnid}_0.JPEG", quality=95)
        Image.new("L", (64, 64), 90).save(folder / f"{wnid}_1.JPEG", quality=95)
    smooth((10, 200, 10)).save(root / "val" / "images" / "val_0.JPEG", quality=95)
    (root / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn01\t0\t0\t62\t62\n")


@pytest.mark.parametrize("inside", ["", "tiny-imagenet-200"])
def test_tiny_imagenet_gives_the_images_of_its_folders_in_the_order_of_wnids(tmp_path: Path, inside: str) -> None:
    root = tmp_path / inside
    write_tiny(root)
    splits = load_splits("tiny-imagenet", build("resnet5", image_size=64), folder=tmp_path)
    assert splits.train.labels.tolist() == [0, 0, 1, 1]
    assert splits.test.labels.tolist() == [1]
    assert splits.classes == 2
    colours = splits.train.inputs[0].float().mean(dim=(2, 3))
    expected = torch.tensor([[200, 10, 10], [90, 90, 90], [10, 10, 200], [90, 90, 90.0]])
    torch.testing.assert_close(colours, expected, atol=3, rtol=0)  # JPEG is lossy
    torch.testing.assert_close(
        splits.test.inputs[0].float().mean(dim=(0, 2, 3)), torch.tensor([10, 200, 10.0]), atol=3, rtol=0
    )
    assert train_batch(splits, 3, 0).inputs[0].shape == (3, 3, 64, 64)


def test_a_damaged_tiny_imagenet_names_the_file(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    model = build("resnet5", image_size=64)
    image = tmp_path / "train" / "n01" / "images" / "n01_0.JPEG"
    whole = image.read_bytes()
    for data, message in ((whole[:300], "is no readable image"), (b"GIF", "is no readable image")):
        image.write_bytes(data)
        with pytest.raises(FileError, match=message) as error:
            load_splits("tiny-imagenet", model, folder=tmp_path)
        assert error.value.where == str(image)
    Image.new("RGB", (32, 32)).save(image)
    with pytest.raises(FileError, match="is 32x32 pixels, should be 64x64"):
        load_splits("tiny-imagenet", model, folder=tmp_path)
    image.write_bytes(whole)
    notes = tmp_path / "val" / "val_annotations.txt"
    for text, message in (
        ("val_0.JPEG\tn77\t0\t0\t62\t62\n", "line 1 is not FILE, WNID"),
        ("val_0.JPEG\tn01", "line 1 is not FILE, WNID"),
        ("", "names no image"),
        ("val_1.JPEG\tn01\t0\t0\t62\t62\n", "a file is missing"),
    ):
        notes.write_text(text)
        with pytest.raises(FileError, match=message):
            load_splits("tiny-imagenet", model, folder=tmp_path)
    (tmp_path / "wnids.txt").write_text("n01\nn03\n")
    with pytest.raises(FileError, match=r"there are no \.JPEG files of class n03"):
        load_splits("tiny-imagenet", model, folder=tmp_path)


NEWS = (
    '"3","Oil, ""black gold""","Oil prices rise as China\'s #39;oil\\nuse grows."\n'
    '"1","Talks","Oil talks in Geneva"\n'
    '"4","Chip","A new chip, and a chip maker (Reuters) Reuters - one two three four five"\n'
)


def news_model(**options: int) -> TorchModel:
    return build("rnn", **{"vocabulary": 6, "sequence": 5, "embedding": 4, "hidden": 4, **options})


def test_ag_news_words_are_numbered_by_how_often_they_are_in_the_training_text(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(NEWS)
    (tmp_path / "test.csv").write_text('"2","Chip","talks, oil!"\n"4","???","..."\n')
    splits = load_splits("ag-news", news_model(), folder=tmp_path)
    # oil 4, chip 3, then twice each: a, reuters, talks; four places after padding and unknown
    oil, chip, a, reuters = 2, 3, 4, 5
    assert splits.train.labels.tolist() == [2, 0, 3]
    assert splits.train.inputs[0].tolist() == [[oil, 1, 1, oil, 1], [1, oil, 1, 1, 1], [chip, a, 1, chip, 1]]
    assert splits.test.labels.tolist() == [1, 3]
    assert splits.test.inputs[0].tolist() == [[0, 0, chip, 1, oil], [0, 0, 0, 0, 0]]
    wide = load_splits("ag-news", news_model(vocabulary=50, sequence=12), folder=tmp_path)
    assert wide.test.inputs[0][0].tolist() == [0] * 9 + [chip, 6, oil]
    assert reuters in wide.train.inputs[0][2].tolist()
    assert torch.equal(
        load_splits("ag-news", news_model(), folder=tmp_path, seed=5).train.inputs[0], splits.train.inputs[0]
    )


def test_tokens_are_words_and_numbers_in_lower_case() -> None:
    assert tokens("It#39;s 3M\\nCorp's \\$5 -- A.B.") == ["it's", "3m", "corp's", "5", "a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no text"),
        ('"1","a"\n', "line 1 is not a class from 1 to 4, title and description"),
        (NEWS + '"5","a","b"\n', "line 4 is not a class"),
        ("Class Index,Title,Description\n" + NEWS, "line 1 is not a class"),
        (NEWS[:-20], "line 3: unexpected end of data"),
    ],
)
def test_a_damaged_csv_names_the_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "train.csv").write_text(text)
    with pytest.raises(FileError, match=message) as error:
        load_splits("ag-news", news_model(), folder=tmp_path)
    assert error.value.where == str(tmp_path / "train.csv")


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_bytes(b'"1","\xff","b"\n')
    with pytest.raises(FileError, match=r"is not UTF-8 text: .* at byte 5"):
        load_splits("ag-news", news_model(), folder=tmp_path)


CONTENT = "31\t0\t1\t1\tTheory\n7\t1\t0\t0\tGenetic\n99\t0\t0\t0\tTheory\n4\t1\t1\t1\tNeural\n"
CITES = "31\t7\n7\t31\n99\t4\n"


def test_cora_of_linqs_gives_words_classes_and_links_by_the_order_of_its_papers(tmp_path: Path) -> None:
    (tmp_path / "cora.content").write_text(CONTENT)
    (tmp_path / "cora.cites").write_text(CITES)
    model = with_graph_of("cora", build("gat", nodes=4, features=3, classes=3, hidden=4, heads=2), tmp_path)
    splits = load_splits("cora", model, folder=tmp_path)
    third = 1 / 3
    torch.testing.assert_close(
        splits.train.inputs[0],
        torch.tensor([[[0, 0.5, 0.5], [1, 0, 0], [0, 0, 0], [third, third, third]]]),
    )
    assert splits.train.labels.tolist() in ([[2, 0, -100, 1]], [[-100, 0, 2, 1]])  # one of every class
    assert torch.where(splits.train.labels < 0, splits.test.labels, splits.train.labels).tolist() == [[2, 0, 2, 1]]
    assert ((splits.train.labels < 0) == (splits.test.labels >= 0)).all()
    expected = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1.0]])
    assert torch.equal(model.module.adjacency, expected)
    loss = torch.nn.functional.cross_entropy(model.module(*splits.train.inputs), splits.train.labels)
    assert torch.isfinite(loss)
    assert load_samples("cora", model, 2, folder=tmp_path).inputs[0].shape == (2, 4, 3)


def test_the_split_of_cora_is_twenty_a_class_500_and_1000_without_a_common_paper() -> None:
    labels = np.arange(2708) % 7
    parts = fixed_split(labels)
    assert [len(part) for part in parts] == [140, 500, 1000]
    assert np.bincount(labels[parts[0]]).tolist() == [20] * 7
    assert len(np.unique(np.concatenate(parts))) == 1640
    assert all(np.array_equal(part, again) for part, again in zip(parts, fixed_split(labels), strict=True))


@pytest.mark.parametrize(
    ("content", "cites", "message"),
    [
        ("", CITES, "holds no paper"),
        (
            CONTENT[: CONTENT.index("99")] + CONTENT[CONTENT.index("4\t") :],
            "31\t7\n",
            "3 papers are too few to train on",
        ),
        (CONTENT + "31\t0\t0\t0\tTheory\n", CITES, "holds a paper twice"),
        (CONTENT[:-10], CITES, "line 4 is not a paper, 3 words as 0 or 1, and a class"),
        (CONTENT.replace("99\t0", "99\t2"), CITES, "line 3 is not a paper"),
        (CONTENT, CITES + "7\t8\n", "line 4 is not two papers of cora.content"),
        (CONTENT, CITES + "7", "line 4 is not two papers of cora.content"),
        (CONTENT, "", "holds no link"),
        (CONTENT, None, "a file is missing"),
    ],
)
def test_damaged_cora_files_name_the_line(tmp_path: Path, content: str, cites: str | None, message: str) -> None:
    (tmp_path / "cora.content").write_text(content)
    if cites is not None:
        (tmp_path / "cora.cites").write_text(cites)
    with pytest.raises(FileError, match=message):
        with_graph_of("cora", build("gcn", nodes=4, features=3, classes=3), tmp_path)


FITTING = {
    "cifar10": ("resnet5", {}),
    "cifar100": ("resnet5", {"classes": 100}),
    "tiny-imagenet": ("resnet5", {}),
    "fashion-mnist": ("snn", {}),
    "ag-news": ("rnn", {}),
    "cora": ("gcn", {"nodes": 5}),
}


@pytest.mark.parametrize("name", [name for name, entry in DATASETS.items() if entry.needs_folder])
def test_an_empty_folder_no_folder_and_a_file_are_refused_with_what_belongs_there(tmp_path: Path, name: str) -> None:
    kind, options = FITTING[name]
    layout = DATASETS[name].layout
    assert layout is not None
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    load = with_graph_of if name == "cora" else lambda name, model, at: load_splits(name, model, folder=at)
    for at, message in (
        (tmp_path / "empty", f"{name}: there is no "),
        (tmp_path / "file", "is a file, not a folder"),
        (tmp_path / "nowhere", "does not exist"),
    ):
        with pytest.raises(FileError, match=message) as error:
            load(name, build(kind, **options), at)
        assert layout.files in error.value.fix
        assert layout.official in error.value.fix
        assert error.value.where == str(at)
