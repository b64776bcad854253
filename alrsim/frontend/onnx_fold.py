"""Shape inference and constant folding, in turns, until nothing more can be known before the model runs.

Exporters write shape arithmetic into the graph (``Shape``, ``Gather``, ``Concat`` ...). Once every input dimension is
bound it is constant, and so is the branch of an ``If`` that tests it.
"""

from dataclasses import dataclass, field
from math import prod

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.shape_inference
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper
from onnx.reference import ReferenceEvaluator

from alrsim.errors import ModelError
from alrsim.frontend.onnx_read import SMALL, STANDARD, set_nodes, subgraphs

LARGEST = 1 << 22
"""Constants of more elements stay operators."""

_RANDOM = {"Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"} | {
    "RandomUniformLike"
}
_GROWING = {"ConstantOfShape", "Expand", "OneHot", "Pad", "Range", "Resize", "Tile"}

Array = NDArray[np.generic]


@dataclass
class Folded:
    """What is known before the model runs.

    Attributes:
        proto: The model with only the nodes that remain; constants and weights are initializers or inputs.
        values: Every constant.
        shapes: Static shape and ONNX element type of every value for which they are known.
    """

    proto: ModelProto
    values: dict[str, Array] = field(default_factory=dict)
    shapes: dict[str, tuple[tuple[int, ...], int]] = field(default_factory=dict)


def fold(proto: ModelProto, weights: frozenset[str], *, where: str) -> Folded:
    """Infer shapes and fold constants to a fixed point, in place.

    Args:
        weights: Initializers that are never constant: parameters and buffers.

    Raises:
        ModelError: contradictory shapes, or a sub-graph whose condition depends on data.
    """
    constants = (tensor for tensor in proto.graph.initializer if tensor.name not in weights)
    state = Folded(proto, {tensor.name: _to_array(tensor, where) for tensor in constants})
    failed: set[str] = set()
    changed = True
    while changed:
        state.shapes = _infer(proto, where)
        _resolve_casts(state)
        changed = _fold_constants(state, failed) | _splice_branches(state, where)
    for node in proto.graph.node:
        for attribute, _ in subgraphs(node):
            raise ModelError(
                f"{node.op_type} {node.name!r} has a sub-graph ({attribute}) that depends on data",
                where=where,
                fix="export the model without data-dependent control flow (unroll loops, fix conditions)",
            )
    return state


def _to_array(tensor: TensorProto, where: str) -> Array:
    try:
        return onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(f"the data of {tensor.name!r} is damaged: {error}", where=where) from None


def _infer(proto: ModelProto, where: str) -> dict[str, tuple[tuple[int, ...], int]]:
    try:
        graph = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"shapes do not fit: {reason[:300]}", where=where, fix="check the bound dimensions and the model"
        ) from None
    found = {tensor.name: (tuple(tensor.dims), tensor.data_type) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shape = _static_shape(value)
        if shape is not None:
            found[value.name] = (shape, value.type.tensor_type.elem_type)
    return found


def _static_shape(value: ValueInfoProto) -> tuple[int, ...] | None:
    if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
        return None
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value for dim in dims) if all(dim.HasField("dim_value") for dim in dims) else None


def _resolve_casts(state: Folded) -> None:
    """``CastLike(constant, activation)`` is a ``Cast`` to a known type, and then a constant."""
    for node in state.proto.graph.node:
        if node.op_type == "CastLike" and node.domain in STANDARD and node.input[1] in state.shapes:
            kind = state.shapes[node.input[1]][1]
            del node.input[1:]
            node.op_type = "Cast"
            node.attribute.append(helper.make_attribute("to", kind))


def _fold_constants(state: Folded, failed: set[str]) -> bool:
    """Evaluate every node that reads constants only, in one go."""
    known = set(state.values)
    ready: list[NodeProto] = []
    for node in state.proto.graph.node:
        if node.output[0] not in failed and _is_constant(node, known, state):
            ready.append(node)
            known.update(filter(None, node.output))
    if not ready:
        return False
    fresh = _evaluate(ready, state, failed)
    state.values.update(fresh)
    set_nodes(state.proto.graph, (node for node in state.proto.graph.node if node.output[0] not in fresh))
    for name, array in fresh.items():
        tensor = onnx.numpy_helper.from_array(np.asarray(array), name)
        if array.size <= SMALL:
            state.proto.graph.initializer.append(tensor)
        else:
            state.proto.graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, array.shape))
    return bool(fresh)


def _is_constant(node: NodeProto, known: set[str], state: Folded) -> bool:
    if node.domain not in STANDARD or node.op_type in _RANDOM or any(True for _ in subgraphs(node)):
        return False
    if node.op_type in ("Shape", "Size"):
        return node.input[0] in state.shapes
    if any(name and name not in known for name in node.input):
        return False
    sizes = [prod(state.shapes[name][0]) if name in state.shapes else None for name in node.output if name]
    if all(size is not None and size <= LARGEST for size in sizes):
        return True
    small = sum(state.values[name].size for name in node.input if name in state.values) <= 64
    return None in sizes and small and node.op_type not in _GROWING


def _evaluate(nodes: list[NodeProto], state: Folded, failed: set[str]) -> dict[str, Array]:
    asked = [node for node in nodes if node.op_type in ("Shape", "Size")]
    plain = [node for node in nodes if node.op_type not in ("Shape", "Size")]
    fresh = {node.output[0]: _shape_value(node, state.shapes[node.input[0]][0]) for node in asked}
    try:
        fresh.update(_run(plain, state, fresh))
    except Exception:  # one node in the batch cannot be evaluated; the reference raises whatever numpy does
        for node in plain:
            try:
                fresh.update(_run([node], state, fresh))
            except Exception:
                failed.add(node.output[0])
    return fresh


def _run(nodes: list[NodeProto], state: Folded, fresh: dict[str, Array]) -> dict[str, Array]:
    if not nodes:
        return {}
    written = [name for node in nodes for name in node.output if name]
    inside = set(written)
    read = dict.fromkeys(name for node in nodes for name in node.input if name and name not in inside)
    feeds = {name: fresh[name] if name in fresh else state.values[name] for name in read}
    inputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in feeds]
    outputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in written]
    graph = helper.make_graph(nodes, "constants", inputs, outputs)
    model = helper.make_model(graph, opset_imports=list(state.proto.opset_import))
    results = ReferenceEvaluator(model).run(None, feeds)
    return {name: np.asarray(value) for name, value in zip(written, results, strict=True)}


def _shape_value(node: NodeProto, shape: tuple[int, ...]) -> Array:
    if node.op_type == "Size":
        return np.asarray(prod(shape), dtype=np.int64)
    limits = {attribute.name: attribute.i for attribute in node.attribute}
    return np.asarray(shape[limits.get("start", 0) : limits.get("end", len(shape))], dtype=np.int64)


def _splice_branches(state: Folded, where: str) -> bool:
    """Replace every ``If`` whose condition is known by the branch it takes."""
    nodes: list[NodeProto] = []
    changed = False
    for position, node in enumerate(state.proto.graph.node):
        if node.op_type == "If" and node.input[0] in state.values:
            nodes.extend(_branch(state, node, f"{node.name or 'If'}.{position}.", where))
            changed = True
        else:
            nodes.append(node)
    if changed:
        set_nodes(state.proto.graph, nodes)
    return changed


def _branch(state: Folded, node: NodeProto, prefix: str, where: str) -> list[NodeProto]:
    taken = "then_branch" if bool(np.asarray(state.values[node.input[0]]).reshape(-1)[0]) else "else_branch"
    graph = dict(subgraphs(node))[taken]
    names = {name: prefix + name for inner in graph.node for name in inner.output if name}
    for tensor in graph.initializer:
        names[tensor.name] = prefix + tensor.name
        state.values[names[tensor.name]] = _to_array(tensor, where)
        copy = state.proto.graph.initializer.add()
        copy.CopyFrom(tensor)
        copy.name = names[tensor.name]
    nodes = []
    for inner in graph.node:
        if any(True for _ in subgraphs(inner)):
            raise ModelError(f"{inner.op_type} inside the sub-graph of {node.name!r} is not supported", where=where)
        nodes.append(
            NodeProto(
                name=prefix + (inner.name or inner.op_type),
                op_type=inner.op_type,
                domain=inner.domain,
                input=[names.get(name, name) for name in inner.input],
                output=[names.get(name, name) for name in inner.output],
                attribute=inner.attribute,
                metadata_props=inner.metadata_props,
            )
        )
    for value, output in zip(graph.output, node.output, strict=True):
        nodes.append(helper.make_node("Identity", [names.get(value.name, value.name)], [output]))
    return nodes
