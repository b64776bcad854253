"""One stage as a function: its nodes copied into a graph of their own, at any stacked batch size."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.fx import Graph as FxGraph
from torch.fx import GraphModule, Node

from alrsim.errors import ExecutionError
from alrsim.execution.programs.injected_stage import PointCode, point_code
from alrsim.execution.programs.operators import (
    BATCH_NORM,
    LinearMap,
    aten,
    fill_value,
    is_filled,
    linear_map,
    operator_name,
)
from alrsim.execution.programs.pooling import max_pool2d
from alrsim.execution.programs.stacking import CannotStackError, Sizes, stackable, stacked_sizes
from alrsim.execution.programs.staged_graph import Source
from alrsim.frontend.fx_map import module_path


@dataclass(frozen=True, slots=True)
class Product:
    """A parametrised operator inside a stage.

    Attributes:
        values: Names of its differentiable results (one, or the first item of a tuple).
        parameters: Names of the parameters that it multiplies.
    """

    values: tuple[str, ...]
    parameters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BufferUpdate:
    """A running statistic: ``buffer = keep * buffer + term``, terms in ascending micro-batch order."""

    buffer: str
    keep: float
    constant: float | None


@dataclass(frozen=True)
class StageCode:
    """One stage as a function.

    Attributes:
        index: Stage index.
        inputs: Values it reads from other stages or the model's input, by torch node name.
        outputs: Values it hands to others, in the order of the graph.
        parameters: Names of its parameters, as torch names them.
        buffers: Names of the buffers and constants it reads.
        products: Its parametrised operators.
        direct: The linear map that the whole stage ends in, if it does.
        interior: What ``run`` returns besides the outputs: for the products' results their edges in autograd's graph,
            which keep no value alive (``None`` where nothing is recorded), then the value ``direct.value``.
        updates: Running statistics that it moves.
        function: ``function(*inputs, *parameters, *buffers) -> (outputs..., interior..., update terms...)``.
        points: The stage with noise on its marked values, if it has any.
    """

    index: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: tuple[str, ...]
    buffers: tuple[str, ...]
    products: tuple[Product, ...]
    direct: LinearMap | None
    interior: tuple[str, ...]
    updates: tuple[BufferUpdate, ...]
    function: Callable[..., tuple[Tensor, ...]] = field(repr=False)
    points: PointCode | None = None

    def run(
        self, inputs: Sequence[Tensor], parameters: Sequence[Tensor], buffers: Sequence[Tensor]
    ) -> tuple[Sequence[Tensor], Mapping[str, Any], Sequence[Tensor]]:
        """Outputs, interior edges and value by name, and the terms of the running statistics."""
        results = self.function(*inputs, *parameters, *buffers)
        first, second = len(self.outputs), len(self.outputs) + len(self.interior)
        return results[:first], dict(zip(self.interior, results[first:second], strict=True)), results[second:]


def compile_stages(source: Source, copies: int) -> tuple[StageCode, ...]:
    """Every stage as a function at ``copies`` times the exported batch."""
    owner: dict[str, int] = {}
    codes = []
    for index in range(source.count):
        code = _StageBuilder(source, index, copies).build()
        for name in code.parameters:
            if owner.setdefault(name, index) != index:
                raise ExecutionError(
                    f"stages {owner[name]} and {index} share parameter {name}",
                    where=source.model,
                    fix="cut the model so that a shared parameter stays in one stage",
                )
        codes.append(code)
    return tuple(codes)


class _StageBuilder:
    """Copies one stage's nodes into a graph of its own."""

    def __init__(self, source: Source, index: int, copies: int) -> None:
        self.source, self.index, self.copies = source, index, copies
        self.nodes = [node for node in source.body if source.stage.get(node) == index]
        self.inputs = source.reads(index)
        self.outputs = source.crossing(index)
        self.graph = FxGraph()
        self.map: dict[Node, Node] = {}
        self.parameters: dict[Node, str] = {}
        self.buffers: dict[Node, str] = {}
        self.constants: dict[Node, None] = {}
        self.sizes: Sizes = {}

    def build(self) -> StageCode:
        for node in self.nodes:
            self._gather(node)
        mutated = self._mutated()
        if self.copies > 1:
            self.sizes = self._stacked()
        for value in (*self.inputs, *self.parameters, *self.buffers):
            self.map[value] = self.graph.placeholder(value.name)
        for node in self.nodes:
            self._copy(node)
        products, direct = self._products()
        interior = list(dict.fromkeys(name for product in products for name in product.values))
        by_name = {node.name: node for node in (*self.nodes, *self.inputs)}
        held = [self._edge(self.map[by_name[name]]) for name in interior]
        if direct is not None:
            interior.append(direct.value)
            held.append(self.map[by_name[direct.value]])
        terms = [self.map[node] for node, update in mutated if update.constant is None]
        self.graph.output((*(self.map[node] for node in self.outputs), *held, *terms))
        self.graph.lint()
        module = GraphModule(torch.nn.Module(), self.graph, f"Stage{self.index}")
        return StageCode(
            self.index,
            tuple(node.name for node in self.inputs),
            tuple(node.name for node in self.outputs),
            tuple(self.parameters.values()),
            tuple(self.buffers.values()),
            products,
            direct,
            tuple(interior),
            tuple(update for _, update in sorted(mutated, key=lambda pair: pair[1].constant is not None)),
            module.forward,
            point_code(self.graph, {self.map[value].name for value in self.parameters}, len(self.outputs)),
        )

    def _gather(self, node: Node) -> None:
        for value in node.all_input_nodes:
            if value in self.source.parameters:
                self.parameters[value] = self.source.parameters[value]
            elif value in self.source.buffers:
                self.buffers[value] = self.source.buffers[value]
            elif value not in self.source.stage and value not in self.source.inputs:
                if not is_filled(value):
                    self._gather(value)
                self.constants[value] = None

    def _copy(self, node: Node) -> Node:
        if is_filled(node):
            return self._fill(node)
        for value in node.all_input_nodes:
            if value not in self.map:
                self._copy(value)
        made = self.graph.node_copy(node, lambda value: self.map[value])
        if node in self.sizes:
            made.args = (made.args[0], list(self.sizes[node]), *made.args[2:])
            made.target = stackable(node)
        if node.target is aten("max_pool2d").default:
            made.target = max_pool2d
        if self.source.device.type != "cpu":
            made.kwargs = {name: self._place(value) for name, value in made.kwargs.items()}
            made.args = tuple(self._place(value) for value in made.args)
        self.map[node] = made
        return made

    def _edge(self, made: Node) -> Node:
        """Right behind a value its edge, so that the value itself need not live until the stage is through."""
        with self.graph.inserting_after(made):
            return self.graph.call_function(edge_of, (made,))

    def _fill(self, node: Node) -> Node:
        """A fresh tensor: without the data that it took its shape from."""
        value = node.meta["val"]
        options = {"dtype": value.dtype, "device": self._place(value.device)}
        sizes = list(self.sizes.get(node, tuple(value.shape)))
        made = self.graph.call_function(aten("full").default, (sizes, fill_value(node)), options)
        self.map[node] = made
        return made

    def _place(self, value: Any) -> Any:
        """The exporter wrote its own device into the graph."""
        return self.source.device if isinstance(value, torch.device) else value

    def _products(self) -> tuple[tuple[Product, ...], LinearMap | None]:
        """Operators that combine parameters with data, and the linear map that the stage ends in, if any."""
        products, makers = [], []
        for node in self.nodes:
            names = self._parameters_of(node)
            if not names:
                continue
            first = [user for user in node.users if operator_name(user) == "getitem" and user.args[1] == 0]
            results = (node,) if not first else tuple(first)
            products.append(Product(tuple(value.name for value in results), names))
            makers.append(node)
        ends = len(makers) == 1 and [makers[0]] == self.outputs and not any(u in self.nodes for u in makers[0].users)
        return tuple(products), linear_map(makers[0], self.source.parameters) if ends else None

    def _parameters_of(self, node: Node) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for value in node.all_input_nodes:
            if value in self.source.parameters:
                found[self.source.parameters[value]] = None
            elif value not in self.source.stage and value not in self.source.inputs and not is_filled(value):
                found.update(dict.fromkeys(self._parameters_of(value)))
        return tuple(found)

    def _mutated(self) -> list[tuple[Node, BufferUpdate]]:
        """Running statistics of the stage's batch norms; their counters have no node that depends on data."""
        found: list[tuple[Node, BufferUpdate]] = []
        norms = {node for node in self.nodes if operator_name(node) == BATCH_NORM}
        modules = {module_path(node) for node in norms}
        for node, buffer in self.source.mutated.items():
            maker = node.args[0] if operator_name(node) == "getitem" else None
            if maker in norms:
                momentum = float(maker.args[6])  # type: ignore[union-attr, arg-type]
                found.append((node, BufferUpdate(buffer, 1 - momentum, None)))
            elif maker is None and module_path(node) in modules and operator_name(node) == "add":
                found.append((node, BufferUpdate(buffer, 1.0, float(node.args[1]))))  # type: ignore[arg-type]
            elif node in self.nodes and maker not in norms:
                raise ExecutionError(
                    f"buffer {buffer} is updated by {node.target}, which cannot be executed",
                    where=f"{self.source.model}, node {node.name}",
                    fix="only the running statistics of batch norm can be updated",
                )
        return found

    def _stacked(self) -> Sizes:
        """The literal sizes that the copies multiply."""
        nodes = [*self.constants, *self.nodes]
        try:
            return stacked_sizes(nodes, self.inputs, (*self.parameters, *self.buffers), self.outputs, self.copies)
        except CannotStackError as error:
            raise cannot_stack(self.source, self.index, self.copies, str(error)) from None


def edge_of(value: Tensor) -> GradientEdge | None:
    """A value's edge in autograd's graph, ``None`` if it is in none."""
    return get_gradient_edge(value) if value.requires_grad else None


def cannot_stack(source: Source, stage: int, copies: int, why: str) -> ExecutionError:
    """The error for a stage that copies cannot be stacked in."""
    return ExecutionError(
        f"stage {stage} cannot run {copies} stacked copies: {why}",
        where=source.model,
        fix="use copy groups of 1, cut where values have the batch in front, or keep samples apart in the model",
    )
