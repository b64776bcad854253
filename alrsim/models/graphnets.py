"""GCN and GAT for node classification on one fixed graph, dense and in plain torch.

A sample is one feature matrix over the graph's nodes, ``(batch, nodes, features)``; logits are
``(batch, classes, nodes)``, the layout of ``torch.nn.functional.cross_entropy`` for many targets per sample.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alrsim.frontend.torch_model import TorchModel, float_input
from alrsim.models.entry import SEED, Option, ZooEntry

DEGREE = 4
"""Mean number of neighbours: Cora has 5,429 links between 2,708 papers, so 4.0 per paper."""

NO_EDGE = -1e9
"""Added to the attention score of a pair without an edge; its softmax is then exactly 0."""


def random_graph(nodes: int, seed: int) -> Tensor:
    """A symmetric 0/1 adjacency ``(nodes, nodes)`` with self-loops and about ``DEGREE`` neighbours per node."""
    generator = torch.Generator().manual_seed(seed)
    chance = min(1.0, DEGREE / max(1, nodes - 1))
    upper = (torch.rand(nodes, nodes, generator=generator) < chance).float().triu(1)
    return upper + upper.T + torch.eye(nodes)


class GCNLayer(nn.Module):
    """``A X W + b`` with ``A = D^-1/2 (adjacency + I) D^-1/2`` (Kipf and Welling 2017, eq. 2)."""

    normalised: Tensor

    def __init__(self, adjacency: Tensor, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=False)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("normalised", torch.empty_like(adjacency))
        self.set_adjacency(adjacency)

    def set_adjacency(self, adjacency: Tensor) -> None:
        """Put the layer on another graph of as many nodes, with self-loops."""
        scale = adjacency.sum(dim=1).rsqrt()
        self.normalised = scale[:, None] * adjacency * scale[None, :]

    def forward(self, features: Tensor) -> Tensor:
        return torch.matmul(self.normalised, self.linear(features)) + self.bias


class NodeClassifier(nn.Module):
    """Two layers on one graph.

    Attributes:
        adjacency: ``(nodes, nodes)``: 0 or 1, symmetric, with self-loops. No buffer: the layers hold what they compute
            with; this is what data sets read.
    """

    def __init__(
        self,
        adjacency: Tensor,
        first: "GCNLayer | GATLayer",
        activation: nn.Module,
        second: "GCNLayer | GATLayer",
    ) -> None:
        super().__init__()
        self.adjacency, self.first = adjacency, first
        self.add_module(type(activation).__name__.lower(), activation)
        self.second = second

    def forward(self, features: Tensor) -> Tensor:
        for layer in self.children():
            features = layer(features)
        return features.transpose(1, 2)

    def set_adjacency(self, adjacency: Tensor) -> None:
        """Put the model on another graph of as many nodes, with self-loops; parameters stay."""
        self.adjacency = adjacency
        self.first.set_adjacency(adjacency)
        self.second.set_adjacency(adjacency)


class GCN(NodeClassifier):
    """Two graph convolutions."""

    def __init__(self, adjacency: Tensor, features: int, hidden: int, classes: int) -> None:
        first = GCNLayer(adjacency, features, hidden)
        super().__init__(adjacency, first, nn.ReLU(), GCNLayer(adjacency, hidden, classes))


class GATLayer(nn.Module):
    """Multi-head attention over neighbours (Velickovic et al. 2018, eq. 3 to 5); heads are concatenated."""

    mask: Tensor

    def __init__(self, adjacency: Tensor, inputs: int, outputs: int, heads: int) -> None:
        super().__init__()
        self.heads, self.outputs = heads, outputs
        self.linear = nn.Linear(inputs, heads * outputs, bias=False)
        self.source = nn.Parameter(torch.randn(heads, 1, outputs) / outputs**0.5)
        self.target = nn.Parameter(torch.randn(heads, 1, outputs) / outputs**0.5)
        self.bias = nn.Parameter(torch.zeros(heads * outputs))
        self.register_buffer("mask", torch.empty_like(adjacency))
        self.set_adjacency(adjacency)

    def set_adjacency(self, adjacency: Tensor) -> None:
        """Put the layer on another graph of as many nodes, with self-loops."""
        self.mask = (1 - adjacency) * NO_EDGE

    def forward(self, features: Tensor) -> Tensor:
        batch, nodes = features.shape[0], features.shape[1]
        values = self.linear(features).reshape(batch, nodes, self.heads, self.outputs).transpose(1, 2)
        from_source = (values * self.source).sum(dim=-1)
        to_target = (values * self.target).sum(dim=-1)
        scores = F.leaky_relu(to_target.unsqueeze(3) + from_source.unsqueeze(2), 0.2) + self.mask
        mixed = torch.matmul(torch.softmax(scores, dim=-1), values)
        return mixed.transpose(1, 2).reshape(batch, nodes, self.heads * self.outputs) + self.bias


class GAT(NodeClassifier):
    """Two attention layers, the second with one head."""

    def __init__(self, adjacency: Tensor, features: int, hidden: int, heads: int, classes: int) -> None:
        first = GATLayer(adjacency, features, hidden, heads)
        super().__init__(adjacency, first, nn.ELU(), GATLayer(adjacency, heads * hidden, classes, 1))


def build_classifier(
    kind: Callable[..., NodeClassifier], *, nodes: int, features: int, classes: int, seed: int, **sizes: int
) -> TorchModel:
    """A node classifier on a random graph from all of its options.

    Args:
        kind: The module's class.
        sizes: Its other options: ``hidden``, and ``heads`` of a GAT.
    """
    module = kind(random_graph(nodes, seed), features=features, classes=classes, **sizes)
    return TorchModel(type(module).__name__.lower(), module, float_input((nodes, features), seed), classes)


_COMMON = {
    "nodes": Option(128, "nodes of the graph (Cora has 2708)", minimum=2),
    "features": Option(1433, "features of a node, as in Cora"),
    "classes": Option(7, "number of logits, as in Cora", minimum=2),
    "seed": SEED,
}
_SOURCE = "sizes of the original paper on Cora; the graph is a smaller random one of Cora's mean degree; no dropout"

GRAPH_NETWORKS = (
    ZooEntry(
        "gat",
        partial(build_classifier, GAT),
        {**_COMMON, "hidden": Option(8, "width of a head"), "heads": Option(8, "heads of the first layer")},
        "two graph attention layers, for Cora",
        "Velickovic et al. 2018 (arXiv:1710.10903): " + _SOURCE,
    ),
    ZooEntry(
        "gcn",
        partial(build_classifier, GCN),
        {**_COMMON, "hidden": Option(16, "width of the hidden layer")},
        "two graph convolutions, for Cora",
        "Kipf and Welling 2017 (arXiv:1609.02907): " + _SOURCE,
    ),
)
