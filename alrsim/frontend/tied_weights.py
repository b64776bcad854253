"""Shared parameters under one name: the one that ``module.named_parameters()`` uses.

``torch.export`` traces a shared parameter under the LAST of its names, ``named_parameters`` lists the first. Everybody
else (optimisers, executors, reports) knows parameters by ``named_parameters``.
"""

from collections.abc import Mapping

import onnx
from torch import nn
from torch.export import ExportedProgram


def find_aliases(module: nn.Module) -> dict[str, str]:
    """Every further name of a shared parameter, with its first name."""
    first = {id(parameter): name for name, parameter in module.named_parameters()}
    every = module.named_parameters(remove_duplicate=False)
    return {name: first[id(parameter)] for name, parameter in every if first[id(parameter)] != name}


def use_first_names(proto: onnx.ModelProto, program: ExportedProgram, aliases: Mapping[str, str]) -> None:
    """Let every node that reads an alias read the parameter's first name, in both graphs, in place."""
    if not aliases:
        return
    _rename_in_onnx(proto, aliases)
    inputs = {name: node for node, name in program.graph_signature.inputs_to_parameters.items()}
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    for alias, name in aliases.items():
        if alias in inputs and name in inputs:
            nodes[inputs[alias]].replace_all_uses_with(nodes[inputs[name]])
    program.graph_module.recompile()


def _rename_in_onnx(proto: onnx.ModelProto, aliases: Mapping[str, str]) -> None:
    stored = {tensor.name for tensor in proto.graph.initializer}
    for tensor in list(proto.graph.initializer):
        name = aliases.get(tensor.name, tensor.name)
        if name != tensor.name and name in stored:
            proto.graph.initializer.remove(tensor)
        else:
            tensor.name = name
            stored.add(name)
    for node in proto.graph.node:
        node.input[:] = [aliases.get(name, name) for name in node.input]
