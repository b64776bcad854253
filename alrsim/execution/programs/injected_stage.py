"""A stage with marked values (``alrsim::inject``) as two more functions: with noise on them, and cut behind them."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.fx import Graph as FxGraph
from torch.fx import GraphModule, Node

from alrsim.execution.programs.operators import aten
from alrsim.frontend.inject import inject


@dataclass(frozen=True)
class PointCode:
    """Both functions take ``(*inputs, *parameters, *buffers, *one tensor per mark)``, which is added to the mark.

    Attributes:
        shapes: Shape of every mark at one micro-batch, in the order of the graph.
        noisy: Returns the stage's outputs.
        cut: Returns the marked values without what was added. Whatever reads a mark reads it, with what was added, as a
            constant: a marked value's gradient ends at the marks before it.
    """

    shapes: tuple[tuple[int, ...], ...]
    noisy: Callable[..., tuple[Tensor, ...]] = field(repr=False)
    cut: Callable[..., tuple[Tensor, ...]] = field(repr=False)


def point_code(graph: FxGraph, parameters: Collection[str], outputs: int) -> PointCode | None:
    """From a stage's graph; ``None`` if nothing in it is marked.

    Args:
        parameters: Names of the placeholders that are parameters: a mark that depends on none of them tells nothing of
            the stage and gets no noise.
        outputs: How many of the graph's results are the stage's outputs; they come first.
    """
    behind = _depending(graph, parameters)
    marks = [node for node in graph.nodes if is_mark(node) and node in behind]
    if not marks:
        return None
    shapes = tuple(tuple(node.meta["val"].shape) for node in marks)
    noisy, cut = (_variant(graph, marks, outputs, held=held) for held in (False, True))
    return PointCode(shapes, noisy, cut)


def is_mark(node: Node) -> bool:
    """Whether a node marks its value."""
    return node.target is inject._opoverload


def _depending(graph: FxGraph, parameters: Collection[str]) -> set[Node]:
    found: set[Node] = set()
    for node in graph.nodes:
        own = node.op == "placeholder" and node.name in parameters
        if own or any(value in found for value in node.all_input_nodes):
            found.add(node)
    return found


def _variant(graph: FxGraph, marks: list[Node], outputs: int, *, held: bool) -> Callable[..., tuple[Tensor, ...]]:
    """The graph with one more placeholder per mark; ``held``: the marked values themselves, cut behind each mark."""
    made = FxGraph()
    mapped: dict[Node, Node] = {}
    first = next(node for node in graph.nodes if node.op != "placeholder")
    noise: list[Node] = []
    raw: list[Node] = []
    for node in graph.nodes:
        if node is first:
            noise = [made.placeholder(f"noise_{index}") for index in range(len(marks))]
        if node in marks:
            value = mapped[node.args[0]]
            raw.append(value)
            moved = made.call_function(aten("add").Tensor, (value, noise[len(raw) - 1]))
            mapped[node] = made.call_function(torch.detach, (moved,)) if held else moved
        elif node.op == "output":
            results = node.args[0][:outputs]
            made.output(tuple(raw) if held else tuple(mapped[value] for value in results))
        else:
            mapped[node] = made.node_copy(node, lambda value: mapped[value])
    made.eliminate_dead_code()
    made.lint()
    name = "Cut" if held else "Noisy"
    function: Callable[..., tuple[Tensor, ...]] = GraphModule(torch.nn.Module(), made, name).forward
    return function
