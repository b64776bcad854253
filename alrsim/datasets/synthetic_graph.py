"""A node classification task on the model's own graph: neighbours tend to agree, features are noisy."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alrsim.datasets.matching import graph_shape
from alrsim.datasets.samples import Samples, Splits
from alrsim.datasets.synthetic import sample_count
from alrsim.errors import OptionError
from alrsim.frontend.torch_model import TorchModel

COUPLING = 0.5, 4.0
"""Log-odds that a node takes a class, per neighbour that has it: in the first sweep and in the last."""
BALANCE = 1.5
"""Log-odds that a class loses where it has its fair share of the nodes (twice that at twice the share, ...)."""
SWEEPS = 40
SIGNAL = 2.75
"""Distance of a class's mean feature vector from the origin, in standard deviations of the noise."""
MOST = 128


def planted_classes(model: TorchModel, _folder: Path | None, seed: int) -> Splits:
    """Graph signals drawn from the seed: every sample has its own classes of the nodes and its own features.

    The graph is the model's (``module.adjacency``), so nothing is to be put into it. Classes are drawn so that
    neighbours tend to agree (:func:`potts`): the planted partition, seen from a graph that is given. A node's features
    are its class's direction (random vectors of length ``SIGNAL``, orthogonal where they are as wide as the classes)
    plus standard normal noise, all divided by the root of their mean square. A node's own features tell its class to
    about 90 %; a network that looks at the neighbours gets to 92 to 95 %. Up to 128 training samples (fewer of large
    graphs), half as many to test; every node has a label.

    Raises:
        OptionError: the model does not classify the nodes of a graph of its own.
    """
    nodes, width, adjacency = graph_shape("synthetic-graph", model)
    if model.classes < 2:
        raise OptionError("synthetic-graph needs two classes", field="dataset", fix="build it with `option=classes=2`")
    train = sample_count(nodes * width, MOST)
    test = train // 2
    random = np.random.default_rng(seed)
    labels = potts(adjacency.cpu().numpy(), model.classes, train + test, random)
    directions = SIGNAL * _directions(model.classes, width, random)
    features = directions.astype(np.float32)[labels]
    features += random.standard_normal(features.shape, dtype=np.float32)
    features /= np.sqrt(1 + SIGNAL**2 / width)
    values, targets = torch.from_numpy(features), torch.from_numpy(labels)
    text = (
        f"{train} training and {test} test signals on the model's graph of {nodes} nodes from seed {seed}: noisy "
        f"features of {model.classes} classes; {agreement(adjacency, targets):.0%} of neighbours agree"
    )
    first, last = Samples((values[:train],), targets[:train]), Samples((values[train:],), targets[train:])
    return Splits("synthetic-graph", first, last, model.classes, text)


def potts(adjacency: NDArray[np.float32], classes: int, samples: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Classes ``(samples, nodes)`` that neighbours tend to share.

    Gibbs sampling of a Potts model: ``P(class c) ~ exp(coupling * neighbours of c - BALANCE * classes * share of c in
    the graph)``, node after node, all samples at once, from uniform random classes. The coupling grows from sweep to
    sweep, so that classes form few large regions; without balance one would take the whole graph.
    """
    nodes = len(adjacency)
    links = adjacency - np.diag(np.diag(adjacency))
    near = [np.flatnonzero(row) for row in links]
    state = random.integers(classes, size=(samples, nodes))
    one_hot = np.eye(classes, dtype=np.float32)
    hot = one_hot[state]
    counts = hot.sum(axis=1)
    for coupling in np.linspace(*COUPLING, SWEEPS):
        for node in range(nodes):
            counts -= hot[:, node]
            odds = coupling * hot[:, near[node]].sum(axis=1) - BALANCE * classes / nodes * counts
            # the largest of odds plus Gumbel noise is a draw from their softmax
            state[:, node] = (odds + random.gumbel(size=odds.shape)).argmax(axis=1)
            hot[:, node] = one_hot[state[:, node]]
            counts += hot[:, node]
    return state


def _directions(classes: int, width: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Random unit vectors ``(classes, width)``."""
    drawn = random.standard_normal((classes, width))
    unit: NDArray[np.float64] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    if width >= classes:
        unit = np.linalg.qr(drawn.T)[0].T
    return unit


def agreement(adjacency: Tensor, labels: Tensor) -> float:
    """Share of links whose ends have the same class, over all samples; 1 for a graph without links."""
    starts, ends = adjacency.cpu().triu(1).nonzero(as_tuple=True)
    return float((labels[:, starts] == labels[:, ends]).float().mean()) if len(starts) else 1.0
