"""A node classification task on the model's own graph: neighbours tend to agree, features are noisy."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alrsim.datasets.fitting import graph_shape
from alrsim.datasets.samples import Samples, Splits
from alrsim.datasets.synthetic import sample_count
from alrsim.errors import OptionError
from alrsim.frontend.source import TorchModel

COUPLING = 3.0
"""Log-odds that a node takes a class, per neighbour that has it."""
BALANCE = 6.0
"""Log-odds lost by a class of twice its fair share, so that no class takes the whole graph."""
SWEEPS = 12
SIGNAL = 3.0
"""Distance of a class's mean feature vector from the origin, in standard deviations of the noise."""
MOST = 128


def planted_classes(model: TorchModel, _folder: Path | None, seed: int) -> Splits:
    """Graph signals drawn from the seed: every sample has its own classes of the nodes and its own features.

    The graph is the model's (``module.adjacency``), so nothing is to be put into it. Classes are drawn so that
    neighbours tend to agree: Gibbs sampling of a Potts model on the graph, the planted partition seen from a graph that
    is given. A node's features are its class's direction (a random unit vector times ``SIGNAL``) plus standard normal
    noise; all are divided by the square root of their mean square. Up to 128 training samples (fewer of large graphs),
    half as many to test; every node has a label.

    Raises:
        OptionError: the model does not classify the nodes of a graph of its own.
    """
    nodes, width, adjacency = graph_shape("synthetic-graph", model)
    if model.classes < 2:
        raise OptionError("synthetic-graph needs two classes", where="--data", fix="build it with --option classes=2")
    train = sample_count(nodes * width, MOST)
    test = train // 2
    random = np.random.default_rng(seed)
    labels = potts(adjacency.cpu().numpy(), model.classes, train + test, random)
    directions = random.standard_normal((model.classes, width))
    directions *= SIGNAL / np.linalg.norm(directions, axis=1, keepdims=True)
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

    ``P(class c) ~ exp(COUPLING * neighbours of c - BALANCE * share of c in the graph * classes)``, node after node, all
    samples at once, ``SWEEPS`` times over the graph from uniform random classes.
    """
    nodes = len(adjacency)
    links = adjacency - np.diag(np.diag(adjacency))
    near = [np.flatnonzero(row) for row in links]
    state = random.integers(classes, size=(samples, nodes))
    hot = np.eye(classes, dtype=np.float32)[state]
    counts = hot.sum(axis=1)
    for _ in range(SWEEPS):
        for node in range(nodes):
            counts -= hot[:, node]
            odds = COUPLING * hot[:, near[node]].sum(axis=1) - BALANCE * classes / nodes * counts
            # the largest of odds plus Gumbel noise is a draw from their softmax
            state[:, node] = (odds + random.gumbel(size=odds.shape)).argmax(axis=1)
            hot[:, node] = np.eye(classes, dtype=np.float32)[state[:, node]]
            counts += hot[:, node]
    return state


def agreement(adjacency: Tensor, labels: Tensor) -> float:
    """Share of links whose ends have the same class, over all samples; 1 for a graph without links."""
    starts, ends = adjacency.cpu().triu(1).nonzero(as_tuple=True)
    return float((labels[:, starts] == labels[:, ends]).float().mean()) if len(starts) else 1.0
