"""The exported torch graph with the stage of every node."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.fx import Node

from alrsim.errors import ExecutionError
from alrsim.execution.programs.operators import is_filled, refuse_unsupported
from alrsim.graph.graph import Graph
from alrsim.graph.stages import MODEL_INPUT, Edge, StageGraph

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Source:
    """The torch graph with the stage of every node."""

    model: str
    body: tuple[Node, ...]
    inputs: tuple[Node, ...]
    output: Node
    parameters: dict[Node, str]
    buffers: dict[Node, str]
    mutated: dict[Node, str]
    tensors: dict[str, Tensor]
    stage: dict[Node, int]
    count: int
    device: torch.device = CPU

    def to(self, device: torch.device) -> "Source":
        """The same graph with its tensors on a device, and made to run there."""
        return replace(self, tensors={name: value.to(device) for name, value in self.tensors.items()}, device=device)

    @classmethod
    def read(cls, graph: Graph, program: ExportedProgram, stages: StageGraph) -> "Source":
        nodes = {node.name: node for node in program.graph.nodes}
        signature, inputs = program.graph_signature, []
        parameters: dict[Node, str] = {}
        buffers: dict[Node, str] = {}
        tensors: dict[str, Tensor] = {}
        for spec in signature.input_specs:
            node = nodes[spec.arg.name]
            if spec.kind is InputKind.USER_INPUT:
                inputs.append(node)
                continue
            name = str(spec.target)
            value = program.state_dict[name] if name in program.state_dict else program.constants[name]
            tensors[name] = value.detach()
            trained = spec.kind is InputKind.PARAMETER and value.requires_grad
            (parameters if trained else buffers)[node] = name
        outputs = [spec for spec in signature.output_specs if spec.kind is OutputKind.USER_OUTPUT]
        if len(outputs) != 1:
            raise ExecutionError(f"the model has {len(outputs)} outputs, the executor needs one", where=graph.name)
        mutated = {
            nodes[spec.arg.name]: str(spec.target)
            for spec in signature.output_specs
            if spec.kind is OutputKind.BUFFER_MUTATION
        }
        body = tuple(node for node in program.graph.nodes if node.op == "call_function")
        refuse_unsupported(body, graph.name)
        stage = _assign(graph, stages, body, {*parameters, *buffers})
        return cls(
            graph.name,
            body,
            tuple(inputs),
            nodes[outputs[0].arg.name],
            parameters,
            buffers,
            mutated,
            tensors,
            stage,
            len(stages.stages),
        )

    def reads(self, index: int) -> list[Node]:
        """Values from outside that a stage reads, in graph order."""
        found = [value for node in self.body if self.stage.get(node) == index for value in node.all_input_nodes]
        outside = (value for value in found if value in self.inputs or self.stage.get(value, index) != index)
        return list(dict.fromkeys(outside))

    def crossing(self, index: int) -> list[Node]:
        """Values that a stage hands to other stages or to the loss, in graph order."""
        return [
            node
            for node in self.body
            if self.stage.get(node) == index
            and (node is self.output or any(self.stage.get(user, index) != index for user in node.users))
        ]

    def edges(self, stages: StageGraph) -> tuple[Edge, ...]:
        """The stage graph's edges, named by torch nodes.

        Raises:
            ExecutionError: if torch's graph connects other stages than the operator graph does.
        """
        edges = []
        for index in range(self.count):
            for value in self.reads(index):
                source = MODEL_INPUT if value in self.inputs else self.stage[value]
                edges.append(Edge(source, index, value.name, _elements(value)))
        edges.append(Edge(self.stage[self.output], self.count, self.output.name, _elements(self.output)))
        ours = {(edge.source, edge.target) for edge in edges}
        theirs = {(edge.source, edge.target) for edge in stages.edges}
        if ours != theirs:
            odd = ", ".join(f"{source}->{target}" for source, target in sorted(ours ^ theirs))
            raise ExecutionError(
                f"the torch graph and the operator graph connect stages differently: {odd}",
                where=self.model,
                fix="cut at other operators",
            )
        return tuple(edges)


def _assign(graph: Graph, stages: StageGraph, body: Sequence[Node], constant: set[Node]) -> dict[Node, int]:
    """The stage of every node that depends on data; nodes on parameters or shapes alone are copied where they are
    used."""
    position = {op: stage.index for stage in stages.stages for op in stage.ops}
    claimed = {name: position[op.name] for op in graph.ops if op.name in position for name in op.fx_nodes}
    stage: dict[Node, int] = {}
    for node in body:
        sources = [value for value in node.all_input_nodes if value not in constant]
        if not sources or is_filled(node):
            constant.add(node)
            continue
        behind = max((stage.get(value, 0) for value in sources), default=0)
        stage[node] = claimed.get(node.name, behind)
        if stage[node] < behind:
            raise ExecutionError(
                f"torch node {node.name} of stage {stage[node]} reads a value of stage {behind}",
                where=graph.name,
                fix="cut at other operators",
            )
    return stage


def _elements(node: Node) -> int:
    return int(node.meta["val"].numel())
