"""Make the ONNX file say what torch meant, in three places where the unoptimised translation does not.

* A BatchNorm in training mode becomes a ``BatchNormalization`` WITHOUT ``training_mode``, which ONNX defines as
  inference on the running statistics. The node is the right one, only its mode and two further outputs are missing.
* ``chunk`` and ``split`` become a ``SplitToSequence`` and a ``SequenceAt`` for each part: sequences have no static
  shape. One ``Split`` says the same.
* ``torch.export`` traces a shared parameter under the LAST of its names, ``named_parameters`` lists the first.
  Everybody else (optimisers, executors, reports) knows parameters by ``named_parameters``.
"""

import operator
from collections.abc import Mapping

import onnx
from onnx import NodeProto, TensorProto, helper
from torch import nn
from torch.export import ExportedProgram
from torch.fx import Node

from alrsim.frontend.onnx_read import fx_name, set_nodes

_TRAINING_NORM = "_native_batch_norm_legit_functional"
_STATISTICS = {1: 3, 2: 4}
"""ONNX output -> output of torch's operator: running mean, running variance."""


def repair(proto: onnx.ModelProto, program: ExportedProgram) -> None:
    """Set the training mode of BatchNorms and turn sequences of parts into ``Split``, in place."""
    nodes = {node.name: node for node in program.graph.nodes}
    for node in proto.graph.node:
        origin = nodes.get(fx_name(node))
        if node.op_type == "BatchNormalization" and origin is not None and _in_training(origin):
            _mark_training(proto, node, origin)
    _replace_sequences(proto, nodes)


def _mark_training(proto: onnx.ModelProto, node: NodeProto, origin: Node) -> None:
    """Batch statistics, and the new running statistics as outputs.

    ONNX updates the running variance with the biased batch variance, torch with the unbiased one; the normalised
    output, and so the loss and every gradient, is the same.
    """
    node.attribute.append(helper.make_attribute("training_mode", 1))
    del node.output[1:]
    for slot, index in _STATISTICS.items():
        default = f"{node.output[0]}_statistics_{slot}"
        readers = (user for user in origin.users if user.target is operator.getitem and user.args[1] == index)
        name = next((user.name for user in readers), default)
        node.output.append(name)
        channels = [int(size) for size in origin.meta["val"][index].shape]
        proto.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, channels))


def _in_training(node: Node) -> bool:
    return _TRAINING_NORM in str(node.target) and node.args[5] is True


def _replace_sequences(proto: onnx.ModelProto, nodes: Mapping[str, Node]) -> None:
    """``SplitToSequence`` with its ``SequenceAt`` readers -> ``Split``, where torch knows every part's size."""
    readers: dict[str, list[NodeProto]] = {}
    for node in proto.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    gone: set[str] = set()
    for node in proto.graph.node:
        origin = nodes.get(fx_name(node))
        picks = readers.get(node.output[0], []) if node.op_type == "SplitToSequence" else []
        if origin is not None and picks and all(pick.op_type == "SequenceAt" for pick in picks):
            gone.update(pick.name for pick in picks)
            _split(proto, node, origin, picks, nodes)
    if gone:
        kept = [node for node in proto.graph.node if node.name not in gone]
        read = {name for node in kept for name in node.input} | {value.name for value in proto.graph.output}
        # Without the indices, which only the SequenceAt read.
        set_nodes(proto.graph, (node for node in kept if node.op_type != "Constant" or node.output[0] in read))


def _split(
    proto: onnx.ModelProto, node: NodeProto, origin: Node, picks: list[NodeProto], nodes: Mapping[str, Node]
) -> None:
    axis = next((item.i for item in node.attribute if item.name == "axis"), 0)
    parts = [part.shape for part in origin.meta["val"]]
    outputs = [f"{node.output[0]}_part_{index}" for index in range(len(parts))]
    for pick in picks:
        outputs[int(str(nodes[fx_name(pick)].args[1]))] = pick.output[0]
    sizes = f"{node.output[0]}_sizes"
    values = [int(shape[axis]) for shape in parts]
    proto.graph.initializer.append(helper.make_tensor(sizes, TensorProto.INT64, [len(values)], values))
    node.op_type = "Split"
    del node.input[1:], node.output[:], node.attribute[:]
    node.input.append(sizes)
    node.output.extend(outputs)
    node.attribute.append(helper.make_attribute("axis", axis))


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
