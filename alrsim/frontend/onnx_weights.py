"""Tell the weights of a plain ONNX file from its constants.

ONNX has one kind of initializer. A floating-point initializer is a *parameter* if it reaches, through nothing but
layout operators, a place where an operator keeps weights; the running statistics of a BatchNormalization are *buffers*;
all others are constants. An addend or factor with more than one element counts as a weight (a bias, a scale, a
position embedding), except a mask: one whose values are all 0, 1 or at most -1e4.
"""

from collections.abc import Collection

import numpy as np
import onnx.numpy_helper
from onnx import ModelProto, NodeProto, TensorProto, helper

from alrsim.frontend.onnx_read import set_nodes

_FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}

_LAYOUT = {"Cast", "CastLike", "Concat", "Expand", "Flatten", "Identity", "Pad", "Reshape", "Slice", "Split"} | {
    "Squeeze",
    "Transpose",
    "Unsqueeze",
}

_WEIGHT_INPUTS: dict[str, tuple[int, ...]] = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gemm": (0, 1, 2),
    "MatMul": (0, 1),
    "Einsum": tuple(range(8)),
    "BatchNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "GroupNormalization": (1, 2),
    "RMSNormalization": (1,),
    "LSTM": (1, 2, 3, 7),
    "GRU": (1, 2, 3),
    "RNN": (1, 2, 3),
    "PRelu": (1,),
    "Gather": (0,),
}
_ADDENDS = {"Add": 2, "Mul": 2, "Sum": 64, "Concat": 64}
_STATISTICS = (3, 4)


def find_weights(proto: ModelProto, inputs: Collection[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Classify the initializers of a light model, and turn weights that nodes make into inputs, in place.

    Args:
        inputs: Values fed at run time; all other graph inputs are initializers whose data were left out.

    Returns:
        Names of trainable initializers and of running statistics, in the order of their first use.

    Some files hold weights in ``Constant`` nodes, or make placeholders for them with ``ConstantOfShape``.
    """
    candidates = _candidates(proto, inputs)
    roots: dict[str, tuple[str, ...]] = {name: (name,) for name in candidates}
    parameters: dict[str, None] = {}
    buffers: dict[str, None] = {}
    for node in proto.graph.node:
        held = dict.fromkeys(root for name in node.input for root in roots.get(name, ()))
        data = node.input if node.op_type == "Concat" else node.input[:1]  # without a layout's shape arguments
        if held and node.op_type in _LAYOUT and all(name in roots for name in data):
            roots.update(dict.fromkeys(node.output, tuple(held)))
        elif held:
            _classify(node, roots, candidates, parameters, buffers)
    statistics = tuple(name for name in buffers if name not in parameters)
    _lift(proto, {*parameters, *statistics}, candidates)
    return tuple(parameters), statistics


def _candidates(proto: ModelProto, inputs: Collection[str]) -> dict[str, TensorProto | tuple[int, ...]]:
    """Floating-point initializers and constants: their data, or their shape where there is none."""
    found: dict[str, TensorProto | tuple[int, ...]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for item in proto.graph.input:
        if item.name not in inputs and item.type.tensor_type.elem_type in _FLOATS:
            found[item.name] = tuple(dim.dim_value for dim in item.type.tensor_type.shape.dim)
    for tensor in proto.graph.initializer:
        if tensor.data_type in _FLOATS:
            found[tensor.name] = tensor
        elif tensor.data_type == TensorProto.INT64:
            shapes[tensor.name] = tuple(int(size) for size in onnx.numpy_helper.to_array(tensor).reshape(-1))
    for node in proto.graph.node:
        values = {attribute.name: attribute for attribute in node.attribute}
        if node.op_type == "Constant" and "value" in values and values["value"].t.data_type in _FLOATS:
            found[node.output[0]] = values["value"].t
        if node.op_type == "ConstantOfShape" and node.input[0] in shapes:
            kind = values["value"].t.data_type if "value" in values else TensorProto.FLOAT
            if kind in _FLOATS:
                found[node.output[0]] = shapes[node.input[0]]
    return found


def _classify(
    node: NodeProto,
    roots: dict[str, tuple[str, ...]],
    candidates: dict[str, TensorProto | tuple[int, ...]],
    parameters: dict[str, None],
    buffers: dict[str, None],
) -> None:
    all_held = all(not name or name in roots for name in node.input)
    addends = 0 if all_held else _ADDENDS.get(node.op_type, 0)
    keeps = _WEIGHT_INPUTS.get(node.op_type, ())
    for position, name in enumerate(node.input):
        for root in roots.get(name, ()):
            if node.op_type == "BatchNormalization" and position in _STATISTICS:
                buffers[root] = None
            elif position in keeps or (position < addends and _is_trained(candidates[root])):
                parameters[root] = None


def _is_trained(data: TensorProto | tuple[int, ...]) -> bool:
    """Whether an addend or factor looks like a weight: several elements, and not a mask."""
    if isinstance(data, tuple):
        return int(np.prod(data)) > 1
    array = np.asarray(onnx.numpy_helper.to_array(data), dtype=np.float64)
    if array.size <= 1:
        return False
    mask = ((array == 0) | (array == 1) | (array <= -1e4)).all() and not (array == array.reshape(-1)[0]).all()
    return not bool(mask)


def _lift(proto: ModelProto, weights: set[str], candidates: dict[str, TensorProto | tuple[int, ...]]) -> None:
    for name in (node.output[0] for node in proto.graph.node if node.output[0] in weights):
        data = candidates[name]
        shape = data if isinstance(data, tuple) else tuple(data.dims)
        kind = TensorProto.FLOAT if isinstance(data, tuple) else data.data_type
        proto.graph.input.append(helper.make_tensor_value_info(name, kind, shape))
    set_nodes(proto.graph, (node for node in proto.graph.node if node.output[0] not in weights))
