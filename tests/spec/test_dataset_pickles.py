"""CIFAR and Planetoid's Cora as their authors wrote them, pickles of Python 2; hostile pickles are refused."""

import os
import pickle
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alrsim.datasets import Samples, load_splits, train_batch, with_graph_of
from alrsim.datasets.cifar import CIFAR10
from alrsim.datasets.pickles import read_pickle
from alrsim.errors import AlrsimError, FileError, OptionError
from alrsim.models import build


class Sparse:
    """To be written as a scipy.sparse.csr_matrix of Python 2."""

    def __init__(self, dense: "np.ndarray[Any, Any]") -> None:
        rows, columns = dense.nonzero()
        starts = np.searchsorted(rows, np.arange(len(dense) + 1)).astype(np.int32)
        self.state = {
            b"_shape": dense.shape,
            b"indptr": starts,
            b"indices": columns.astype(np.int32),
            b"data": dense[rows, columns],
            b"maxprint": 50,
        }


def python2(value: Any) -> bytes:
    """The opcodes that cPickle of Python 2 writes for protocol 2 (without memo): ``bytes`` stand for its ``str``."""
    if isinstance(value, bytes):
        return (b"U" + bytes([len(value)]) if len(value) < 256 else b"T" + struct.pack("<i", len(value))) + value
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, tuple):
        return b"(" + b"".join(map(python2, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(python2, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(python2(key) + python2(item) for key, item in value.items()) + b"u"
    if isinstance(value, Sparse):
        return b"cscipy.sparse.csr\ncsr_matrix\n)\x81" + python2(value.state) + b"b"
    assert isinstance(value, np.ndarray)
    code = f"{value.dtype.kind}{value.dtype.itemsize}".encode()
    order = b"|" if value.dtype.itemsize == 1 else b"<"
    dtype = b"cnumpy\ndtype\n" + python2((code, 0, 1)) + b"R"
    dtype += python2((3, order, None, None, None, -1, -1, 0)) + b"b"
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + python2((0,)) + python2(b"b") + b"tR"
    state = python2(1) + python2(value.shape) + dtype + python2(False) + python2(value.tobytes())
    return empty + b"(" + state + b"tb"


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x80\x02" + python2(value) + b".")


def pixels(count: int, seed: int) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)


def write_cifar10(root: Path) -> None:
    for number in range(1, 6):
        content = {b"batch_label": b"training", b"labels": [number, 0], b"data": pixels(2, number)}
        write(root / f"data_batch_{number}", {**content, b"filenames": [b"a.png", b"b.png"]})
    write(root / "test_batch", {b"labels": [9, 8, 7], b"data": pixels(3, 9), b"filenames": [b"c.png"] * 3})


def test_the_files_that_these_tests_write_are_pickles_that_python_reads_as_the_authors_files(tmp_path: Path) -> None:
    write(tmp_path / "batch", {b"labels": [3], b"data": pixels(1, 0), b"wide": np.arange(6.0).reshape(2, 3)})
    content = pickle.loads((tmp_path / "batch").read_bytes(), encoding="bytes")
    assert content[b"labels"] == [3]
    assert np.array_equal(content[b"data"], pixels(1, 0))
    assert np.array_equal(content[b"wide"], np.arange(6.0).reshape(2, 3))
    dense = np.array([[0, 2.0, 0], [1, 0, 3]], dtype=np.float32)
    write(tmp_path / "sparse", Sparse(dense))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy has moved the module since
        read = pickle.loads((tmp_path / "sparse").read_bytes(), encoding="latin1")
    assert np.array_equal(read.toarray(), dense)


def test_the_restricted_reader_reads_what_pickle_reads_whoever_wrote_it(tmp_path: Path) -> None:
    matrix = np.arange(12, dtype=np.int64).reshape(3, 4)
    dense = np.array([[0, 2.0, 0], [1, 0, 3]], dtype=np.float32)
    path = tmp_path / "file"
    for content in (matrix, matrix.T, np.asfortranarray(matrix), matrix.astype(">f4"), matrix > 5, np.zeros((0, 3))):
        for protocol in range(6):
            path.write_bytes(pickle.dumps({"data": content, "labels": [1, 2], "text": b"x"}, protocol))
            found = read_pickle(path, CIFAR10.layout)
            assert np.array_equal(found["data"], content)
            assert (found["data"].dtype, found["labels"], found["text"]) == (content.dtype, [1, 2], b"x")
    write(path, Sparse(dense))
    assert np.array_equal(read_pickle(path, CIFAR10.layout), dense)
    old = b"ccopy_reg\n_reconstructor\n(cscipy.sparse.csr\ncsr_matrix\nc__builtin__\nobject\nNtR"
    path.write_bytes(old + python2(Sparse(dense).state) + b"b.")
    assert np.array_equal(read_pickle(path, CIFAR10.layout), dense)


@pytest.mark.parametrize("inside", ["", "cifar-10-batches-py"])
def test_cifar10_python_files_give_their_pixels_labels_and_official_parts(tmp_path: Path, inside: str) -> None:
    write_cifar10(tmp_path / inside)
    splits = load_splits("cifar10", build("resnet5"), folder=tmp_path)
    expected = np.concatenate([pixels(2, number) for number in range(1, 6)]).reshape(-1, 3, 32, 32)
    assert np.array_equal(splits.train.inputs[0].numpy(), expected)
    assert splits.train.labels.tolist() == [1, 0, 2, 0, 3, 0, 4, 0, 5, 0]
    assert splits.test.labels.tolist() == [9, 8, 7]
    assert splits.train.inputs[0].dtype == torch.uint8
    ready = splits.prepare(splits.train).inputs[0]
    mean, deviation = expected.mean(axis=(0, 2, 3)), expected.std(axis=(0, 2, 3))
    standard = (expected - mean[:, None, None]) / deviation[:, None, None]
    torch.testing.assert_close(ready, torch.from_numpy(standard).float())
    of_test = (pixels(3, 9).reshape(-1, 3, 32, 32) - mean[:, None, None]) / deviation[:, None, None]
    torch.testing.assert_close(splits.prepare(splits.test).inputs[0], torch.from_numpy(of_test).float())


def test_the_python_and_the_binary_version_are_the_same_data(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "py")
    for path in (tmp_path / "py").iterdir():
        content = pickle.loads(path.read_bytes(), encoding="bytes")
        rows = zip(content[b"labels"], content[b"data"], strict=True)
        (tmp_path / f"{path.name}.bin").write_bytes(b"".join(bytes([label]) + row.tobytes() for label, row in rows))
    one, other = (load_splits("cifar10", build("resnet5"), folder=tmp_path / at) for at in ("py", ""))
    for part in ("train", "test"):
        first, second = getattr(one, part), getattr(other, part)
        assert torch.equal(first.inputs[0], second.inputs[0])
        assert torch.equal(first.labels, second.labels)


def test_cifar100_takes_the_fine_label_in_either_version(tmp_path: Path) -> None:
    model = build("mlp", features=3 * 16 * 16, classes=100)
    for name, fine in (("train", [99, 0]), ("test", [42])):
        data = pixels(len(fine), len(fine))
        content = {b"fine_labels": fine, b"coarse_labels": [5] * len(fine), b"data": data}
        write(tmp_path / "cifar-100-python" / name, content)
        raw = b"".join(bytes([5, label]) + row.tobytes() for label, row in zip(fine, data, strict=True))
        (tmp_path / f"{name}.bin").write_bytes(raw)
    one, other = (load_splits("cifar100", model, folder=at) for at in (tmp_path, tmp_path / "cifar-100-python"))
    assert one.train.labels.tolist() == other.train.labels.tolist() == [99, 0]
    assert one.test.labels.tolist() == other.test.labels.tolist() == [42]
    samples: Samples = train_batch(one, 4, 0)
    assert samples.inputs[0].shape == (4, 768)


HOSTILE = {
    "os.system": b"\x80\x02cos\nsystem\nU\x10touch %s\x85R.",
    "__builtin__.eval": b"\x80\x02c__builtin__\neval\nU\x031+1\x85R.",
    "posix.system": b"\x80\x02cposix\nsystem\nU\x04true\x85R.",
    "builtins.getattr": b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93.",
    "numpy.load": b"\x80\x02cnumpy\nload\nU\x01x\x85R.",
    "os.popen": b"(S'true'\nios\npopen\n.",  # the old way to make an instance
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_pickle_that_asks_for_anything_but_plain_data_is_refused(tmp_path: Path, name: str) -> None:
    write_cifar10(tmp_path)
    (tmp_path / "data_batch_3").write_bytes(HOSTILE[name])
    with pytest.raises(FileError) as error:
        load_splits("cifar10", build("resnet5"), folder=tmp_path)
    assert f"the pickle asks for {name}" in str(error.value)
    assert error.value.where == str(tmp_path / "data_batch_3")


def test_a_pickle_that_calls_the_shell_is_refused_and_not_run(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path / 'owned'}",)

    write_cifar10(tmp_path)
    for protocol in range(6):
        (tmp_path / "data_batch_1").write_bytes(pickle.dumps({"data": Attack(), "labels": [1]}, protocol))
        with pytest.raises(AlrsimError, match=r"asks for .*\.system.* nothing of it was run"):
            load_splits("cifar10", build("resnet5"), folder=tmp_path)
    assert not (tmp_path / "owned").exists()
    pickle.loads((tmp_path / "data_batch_1").read_bytes())  # it is a working attack
    assert (tmp_path / "owned").exists()


def test_an_array_of_objects_is_refused(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    (tmp_path / "test_batch").write_bytes(pickle.dumps({"data": np.array([{}, []], dtype=object), "labels": [1, 2]}, 2))
    with pytest.raises(FileError, match="an array that is not plain numbers"):
        load_splits("cifar10", build("resnet5"), folder=tmp_path)


def test_a_sparse_matrix_that_would_fill_the_memory_is_refused_unmade(tmp_path: Path) -> None:
    sparse = Sparse(np.zeros((2, 2), dtype=np.float32))
    sparse.state[b"_shape"] = (10**6, 10**6)
    write(tmp_path / "file", sparse)
    with pytest.raises(FileError, match="a matrix of 1000000x1000000 elements, at most 100,000,000 are made"):
        read_pickle(tmp_path / "file", CIFAR10.layout)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({b"labels": [1]}, "should hold data and labels, holds labels"),
        ([1, 2], "should hold data and labels, holds list"),
        ({b"labels": [1], b"data": pixels(2, 0)}, "labels are not one number for each of 2 images"),
        ({b"labels": [1, None], b"data": pixels(2, 0)}, "labels are not one number for each of 2 images"),
        ({b"labels": [1, 10], b"data": pixels(2, 0)}, "image 1 has class 10, there are 10"),
        ({b"labels": [1, 2], b"data": pixels(2, 0)[:, :9]}, "data are not rows of 3,072 bytes"),
        ({b"labels": [1, 2], b"data": [1, 2]}, "data are not rows of 3,072 bytes"),
    ],
)
def test_a_batch_of_something_else_says_what_is_wrong(tmp_path: Path, content: Any, message: str) -> None:
    write_cifar10(tmp_path)
    write(tmp_path / "data_batch_2", content)
    with pytest.raises(FileError) as error:
        load_splits("cifar10", build("resnet5"), folder=tmp_path)
    assert message in str(error.value)
    assert "get CIFAR-10" in error.value.fix


def test_a_pickle_cut_off_or_changed_anywhere_gives_one_clear_error_or_other_data(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    path, model = tmp_path / "data_batch_5", build("resnet5")
    whole = path.read_bytes()
    header = len(whole) - 2 * 3072
    for length in (*range(0, header, 7), header + 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(FileError, match="cifar10: "):
            load_splits("cifar10", model, folder=tmp_path)
    random, refused = np.random.default_rng(0), 0
    for at in random.integers(0, header, 60):
        path.write_bytes(whole[:at] + bytes([int(random.integers(256))]) + whole[at + 1 :])
        try:
            splits = load_splits("cifar10", model, folder=tmp_path)
        except FileError:
            refused += 1
        else:
            assert splits.train.inputs[0].shape[1:] == (3, 32, 32)
    assert refused > 20


def test_a_missing_file_says_which_files_are_expected(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    (tmp_path / "data_batch_4").unlink()
    with pytest.raises(FileError) as error:
        load_splits("cifar10", build("resnet5"), folder=tmp_path)
    assert error.value.where == str(tmp_path / "data_batch_4")
    assert "data_batch_1 to data_batch_5 and test_batch" in error.value.fix


LINKS = {0: [1, 4], 1: [0, 2], 2: [1], 3: [5], 4: [0, 6], 5: [3], 6: [4]}
WORDS = np.random.default_rng(3).integers(0, 2, (7, 5)).astype(np.float32)
CLASSES = [0, 1, 2, 0, 1, 2, 0]


def write_planetoid(root: Path) -> None:
    """Seven papers: 0 and 1 to train on, 2 and 3 known, 4 to 6 to test, written in the order 6, 4, 5."""
    hot = np.eye(3, dtype=np.int32)[CLASSES]
    test = [6, 4, 5]
    for name, value in (
        ("x", Sparse(WORDS[:2])),
        ("y", hot[:2]),
        ("allx", Sparse(WORDS[:4])),
        ("ally", hot[:4]),
        ("tx", Sparse(WORDS[test])),
        ("ty", hot[test]),
    ):
        write(root / f"ind.cora.{name}", value)
    graph = b"ccollections\ndefaultdict\nc__builtin__\nlist\n\x85R" + python2(LINKS)[1:]
    (root / "ind.cora.graph").write_bytes(b"\x80\x02" + graph + b".")
    (root / "ind.cora.test.index").write_text("".join(f"{number}\n" for number in test))


def test_planetoids_cora_puts_every_paper_words_class_and_link_in_its_place(tmp_path: Path) -> None:
    write_planetoid(tmp_path)
    small = build("gcn", nodes=7, features=5, classes=3, hidden=4)
    model = with_graph_of("cora", small, tmp_path)
    splits = load_splits("cora", model, folder=tmp_path)
    sums = WORDS.sum(axis=1, keepdims=True)
    torch.testing.assert_close(splits.train.inputs[0][0], torch.from_numpy(WORDS / np.maximum(sums, 1)))
    assert splits.validation is not None
    assert splits.train.labels.tolist() == [[0, 1, -100, -100, -100, -100, -100]]
    assert splits.validation.labels.tolist() == [[-100, -100, 2, 0, -100, -100, -100]]
    assert splits.test.labels.tolist() == [[-100, -100, -100, -100, 1, 2, 0]]
    expected = torch.eye(7)
    for start, ends in LINKS.items():
        expected[start, ends] = 1
    assert torch.equal(model.module.adjacency, expected)
    assert not torch.equal(small.module.adjacency, expected)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("graph", {0: [9]}, "names nodes that are not numbers below 7"),
        ("graph", {0: 1}, "does not hold a list of neighbours"),
        ("ally", [1, 2], "does not hold a matrix"),
        ("ty", np.eye(3, dtype=np.int32)[[0]], "do not fit together"),
    ],
)
def test_planetoid_files_that_contradict_each_other_are_refused(
    tmp_path: Path, name: str, value: Any, message: str
) -> None:
    write_planetoid(tmp_path)
    write(tmp_path / f"ind.cora.{name}", value)
    with pytest.raises(FileError, match=message):
        with_graph_of("cora", build("gcn", nodes=7, features=5, classes=3), tmp_path)


def test_a_graph_whose_full_matrix_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    lines = "".join(f"{number}\t1\t{number % 2}\n" for number in range(20_001))
    (tmp_path / "cora.content").write_text(lines)
    (tmp_path / "cora.cites").write_text("0\t1\n")
    with pytest.raises(FileError, match="holds 20,001 papers, at most 20,000 are read"):
        load_splits("cora", build("gcn"), folder=tmp_path)


def test_cora_needs_a_model_of_its_size_on_its_graph(tmp_path: Path) -> None:
    write_planetoid(tmp_path)
    with pytest.raises(OptionError) as error:
        with_graph_of("cora", build("gcn", nodes=8, features=5, classes=3), tmp_path)
    assert "build it with option=nodes=7 option=features=5" in str(error.value)
    with pytest.raises(OptionError, match="built on another graph than cora's"):
        load_splits("cora", build("gat", nodes=7, features=5, classes=3), folder=tmp_path)
    with pytest.raises(OptionError, match="cora needs a model for features of the nodes of a graph, mlp takes"):
        load_splits("cora", build("mlp"), folder=tmp_path)
