"""Which torch graph nodes, and which module, every operator came from."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

import onnx
from torch.export import ExportedProgram
from torch.fx import Node

from alrsim.frontend.onnx_read import fx_name
from alrsim.graph.graph import Graph, Op

_CALL_COUNT = re.compile(r"@\d+")


def attach_origins(graph: Graph, proto: onnx.ModelProto, program: ExportedProgram) -> Graph:
    """Fill in ``module`` and ``fx_nodes`` of every operator.

    An operator has the torch node that the exporter recorded, and besides it the nodes that the translation made
    disappear: a tuple's ``getitem``, an alias, a counter of batches. Such a node goes with the operator
    that writes its input, else with the first operator that reads its output, else with an operator of the same
    module. An operator without a torch node is listed in the graph's warnings.
    """
    nodes = {node.name: node for node in program.graph.nodes if node.op == "call_function"}
    recorded = {node.name: fx_name(node) for node in proto.graph.node}
    claims = {op.name: [name] for op in graph.ops if (name := recorded.get(op.name, "")) in nodes}
    owners = {names[0]: op for op, names in claims.items()}
    for name, owner in _adopt(nodes, owners).items():
        claims[owner].append(name)
    ops = tuple(_with_origin(op, claims.get(op.name, ()), nodes) for op in graph.ops)
    orphans = tuple(f"operator {op.name} ({op.kind}) came from no torch node" for op in ops if not op.fx_nodes)
    return replace(graph, ops=ops, warnings=(*graph.warnings, *orphans))


def _with_origin(op: Op, names: Iterable[str], nodes: Mapping[str, Node]) -> Op:
    fx_nodes = tuple(names)
    return replace(op, fx_nodes=fx_nodes, module=module_path(nodes[fx_nodes[0]]) if fx_nodes else op.module)


def module_path(node: Node) -> str:
    """Dotted path of the innermost torch module whose forward made the node; ``""`` is the model itself."""
    stack = node.meta.get("nn_module_stack")
    if not stack:
        return ""
    path, _ = list(stack.values())[-1]
    return _CALL_COUNT.sub("", path)


def _adopt(nodes: Mapping[str, Node], owners: Mapping[str, str]) -> dict[str, str]:
    """Operator for every torch node that no operator came from, where there is one."""
    owner, adopted = dict(owners), dict[str, str]()

    def claim(node: Node, sources: Iterable[Node]) -> None:
        if node.name in owner:
            return
        found = next((owner[source.name] for source in sources if source.name in owner), None)
        if found is not None:
            owner[node.name] = adopted[node.name] = found

    ordered = list(nodes.values())
    for node in ordered:
        claim(node, node.all_input_nodes)
    for node in reversed(ordered):
        claim(node, node.users)
    for node in ordered:
        path = module_path(node)
        claim(node, [other for other in ordered if module_path(other) == path] if node.name not in owner else ())
    return adopted
