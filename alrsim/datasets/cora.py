"""Cora, the citation graph: as LINQS distributes it (cora.content, cora.cites) or as Planetoid does (ind.cora.*).

Sen et al. 2008; the fixed split by Yang, Cohen and Salakhutdinov 2016 (arXiv:1603.08861). Features of a paper (which of
1,433 words it has) are divided by their sum, as Kipf and Welling do. The whole graph is one sample; training,
validation and test are masks: a node outside of the mask has the label -100.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alrsim.datasets.folders import Layout, corrupt, read_text, root_with
from alrsim.datasets.matching import graph_shape, require_classes
from alrsim.datasets.pickles import read_pickle
from alrsim.datasets.samples import UNLABELLED, Samples, Splits
from alrsim.errors import OptionError
from alrsim.frontend.torch_model import TorchModel

PER_CLASS, VALIDATION, TEST = 20, 500, 1000
SPLIT_SEED = 0
MOST_NODES = 20_000
"""Seven times the data set; the adjacency is a full matrix."""
LAYOUT = Layout(
    "cora",
    "Cora (LINQS, or the Planetoid version)",
    "cora.content and cora.cites, or ind.cora.y, .tx, .ty, .allx, .ally, .graph and .test.index",
    ("cora", "Cora", "raw", "data"),
)

Array = NDArray[Any]


@dataclass(frozen=True)
class Cora:
    """The graph as it is in the files.

    Attributes:
        features: ``(nodes, words)`` float32, rows that sum to 1 (or 0 for a paper without words).
        labels: ``(nodes,)`` int64, all of them.
        adjacency: ``(nodes, nodes)`` float32: 0 or 1, symmetric, with self-loops.
        parts: Node numbers of training, validation and test.
        classes: Number of classes.
    """

    features: Tensor
    labels: Tensor
    adjacency: Tensor
    parts: tuple[Array, Array, Array]
    classes: int


def load_cora(model: TorchModel, folder: Path | None, _seed: int) -> Splits:
    """The graph as one sample, with the labels of 20 papers per class to train on, 500 to validate, 1,000 to test.

    Planetoid's files carry that split. For LINQS's it is drawn by a fixed permutation (numpy's RandomState(0)), the
    same for every seed; of a smaller graph at most a third of a class is trained on, and a third of the rest validates.

    Raises:
        OptionError: no folder, a model of another size, or one whose graph is not Cora's: see
            :func:`alrsim.datasets.with_graph_of`.
        FileError: a file is missing, damaged or not what it should be.
    """
    data = read_cora(folder)
    adjacency = _require_size(model, data)
    if not torch.equal(adjacency.cpu(), data.adjacency):
        raise OptionError(
            f"{model.name} was built on another graph than cora's",
            field="dataset",
            fix="put the data's graph into the model before it is exported: alrsim.datasets.with_graph_of",
        )
    features = data.features.unsqueeze(0)
    train, validation, test = (Samples((features,), _masked(data.labels, part)) for part in data.parts)
    sizes = ", ".join(
        f"{len(part)} to {verb}" for part, verb in zip(data.parts, ("train on", "validate", "test"), strict=True)
    )
    text = f"one graph of {len(data.labels)} papers: {sizes}; words divided by their number"
    return Splits(LAYOUT.dataset, train, test, data.classes, text, validation=validation)


def cora_adjacency(model: TorchModel, folder: Path | None) -> Tensor:
    """Cora's adjacency ``(nodes, nodes)`` with self-loops, for a model of its size.

    Raises:
        OptionError, FileError: as :func:`load_cora`.
    """
    data = read_cora(folder)
    _require_size(model, data)
    return data.adjacency


def read_cora(folder: Path | None) -> Cora:
    """The graph from either kind of files.

    Raises:
        OptionError: no folder.
        FileError: a file is missing, damaged or not what it should be.
    """
    root, mark = root_with(folder, LAYOUT, "cora.content", "ind.cora.allx")
    data = _linqs(root) if mark == "cora.content" else _planetoid(root)
    if not len(data.parts[0]) or not len(data.parts[2]):
        raise corrupt(root / mark, LAYOUT, f"{len(data.labels)} papers are too few to train on some and test others")
    return data


def _require_size(model: TorchModel, data: Cora) -> Tensor:
    nodes, features, adjacency = graph_shape(LAYOUT.dataset, model)
    wanted = tuple(data.features.shape)
    if (nodes, features) != wanted:
        raise OptionError(
            f"cora has {wanted[0]} nodes of {wanted[1]} features, {model.name} takes {nodes} of {features}",
            field="dataset",
            fix=f"build it with `option=nodes={wanted[0]}` `option=features={wanted[1]}`",
        )
    require_classes(LAYOUT.dataset, model, data.classes)
    return adjacency


def _masked(labels: Tensor, part: Array) -> Tensor:
    masked = torch.full_like(labels, UNLABELLED)
    rows = torch.from_numpy(part)
    masked[rows] = labels[rows]
    return masked.unsqueeze(0)


def _assemble(features: Array, labels: Array, links: Array, parts: tuple[Array, Array, Array], classes: int) -> Cora:
    """Args: links ``(n, 2)`` node numbers in either direction, repeated or not."""
    sums = features.sum(axis=1, keepdims=True, dtype=np.float64)
    scaled = (features / np.where(sums == 0, 1, sums)).astype(np.float32)
    adjacency = torch.eye(len(labels))
    ends = torch.from_numpy(links)
    adjacency[ends[:, 0], ends[:, 1]] = 1
    adjacency[ends[:, 1], ends[:, 0]] = 1
    return Cora(torch.from_numpy(scaled), torch.from_numpy(labels), adjacency, parts, classes)


def _linqs(root: Path) -> Cora:
    path = root / "cora.content"
    lines = [line.split("\t") for line in read_text(path, LAYOUT).splitlines()]
    width = len(lines[0]) if lines else 0
    for index, fields in enumerate(lines, start=1):
        if len(fields) != width or width < 3 or not set(fields[1:-1]) <= {"0", "1"}:
            raise corrupt(
                path, LAYOUT, f"line {index} is not a paper, {max(1, width - 2)} words as 0 or 1, and a class"
            )
    papers = {fields[0]: index for index, fields in enumerate(lines)}
    if not lines or len(papers) != len(lines):
        raise corrupt(path, LAYOUT, "holds no paper" if not lines else "holds a paper twice")
    _require_few(path, len(lines))
    names = sorted({fields[-1] for fields in lines})
    labels = np.array([names.index(fields[-1]) for fields in lines], dtype=np.int64)
    digits = "".join("".join(fields[1:-1]) for fields in lines).encode()
    features = (np.frombuffer(digits, np.uint8).reshape(len(lines), -1) - ord("0")).astype(np.float32)
    return _assemble(features, labels, _links(root / "cora.cites", papers), fixed_split(labels), len(names))


def _require_few(path: Path, nodes: int) -> None:
    if nodes > MOST_NODES:
        raise corrupt(path, LAYOUT, f"holds {nodes:,} papers, at most {MOST_NODES:,} are read")


def _links(path: Path, papers: dict[str, int]) -> Array:
    links = []
    for index, line in enumerate(read_text(path, LAYOUT).splitlines(), start=1):
        ends = line.split()
        if len(ends) != 2 or not set(ends) <= papers.keys():
            raise corrupt(path, LAYOUT, f"line {index} is not two papers of cora.content: {line[:60]!r}")
        links.append([papers[ends[0]], papers[ends[1]]])
    if not links:
        raise corrupt(path, LAYOUT, "holds no link")
    return np.array(links, dtype=np.int64)


def fixed_split(labels: Array) -> tuple[Array, Array, Array]:
    """Node numbers to train (20 a class, at most a third), validate (500) and test (1,000), ascending and disjoint."""
    order = np.random.RandomState(SPLIT_SEED).permutation(len(labels))
    chosen = []
    for label in np.unique(labels):
        members = order[labels[order] == label]
        chosen.append(members[: min(PER_CLASS, max(1, len(members) // 3))])
    train = np.concatenate(chosen)
    rest = order[~np.isin(order, train)]
    validation = rest[: min(VALIDATION, len(rest) // 3)]
    test = rest[len(validation) :][:TEST]
    return np.sort(train), np.sort(validation), np.sort(test)


def _planetoid(root: Path) -> Cora:
    """``y``: labels of the training papers; ``allx``, ``ally``: all papers but test, training first; ``tx``, ``ty``:
    test, in the order of ``test.index``, whose numbers follow those of ``allx``. Labels are one-hot rows."""
    parts = {key: read_pickle(root / f"ind.cora.{key}", LAYOUT) for key in ("y", "tx", "ty", "allx", "ally", "graph")}
    index_path = root / "ind.cora.test.index"
    try:
        test = np.array([int(line) for line in read_text(index_path, LAYOUT).split()], dtype=np.int64)
    except ValueError:
        raise corrupt(index_path, LAYOUT, "holds something else than node numbers") from None
    for key in ("y", "tx", "ty", "allx", "ally"):
        if not isinstance(parts[key], np.ndarray) or parts[key].ndim != 2:
            raise corrupt(root / f"ind.cora.{key}", LAYOUT, "does not hold a matrix")
    known, nodes = len(parts["allx"]), len(parts["allx"]) + len(parts["tx"])
    sizes_agree = len(parts["ally"]) == known and len(parts["ty"]) == len(parts["tx"]) and len(parts["y"]) <= known
    sizes_agree &= parts["tx"].shape[1] == parts["allx"].shape[1]
    if not sizes_agree or not np.array_equal(np.sort(test), np.arange(known, nodes)):
        raise corrupt(index_path, LAYOUT, f"test.index, tx, ty, allx, ally and y do not fit together ({nodes} nodes)")
    _require_few(index_path, nodes)
    features = np.empty((nodes, parts["allx"].shape[1]), dtype=np.float32)
    labels = np.empty(nodes, dtype=np.int64)
    features[:known], labels[:known] = parts["allx"], parts["ally"].argmax(axis=1)
    features[test], labels[test] = parts["tx"], parts["ty"].argmax(axis=1)
    train = np.arange(len(parts["y"]))
    validation = np.arange(len(train), min(len(train) + VALIDATION, known))
    links = _neighbours(root / "ind.cora.graph", parts["graph"], nodes)
    return _assemble(features, labels, links, (train, validation, np.sort(test)), parts["ally"].shape[1])


def _neighbours(path: Path, graph: Any, nodes: int) -> Array:
    if not isinstance(graph, dict) or not all(isinstance(ends, list) for ends in graph.values()):
        raise corrupt(path, LAYOUT, "does not hold a list of neighbours for each node")
    pairs = [(start, end) for start, ends in graph.items() for end in ends]
    if not pairs or not all(type(node) is int and 0 <= node < nodes for pair in pairs for node in pair):
        raise corrupt(path, LAYOUT, f"names nodes that are not numbers below {nodes}, or none")
    return np.array(pairs, dtype=np.int64)
