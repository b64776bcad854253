"""ONNX models become operator graphs with static shapes."""

import re
from collections.abc import Collection, Mapping
from itertools import chain, count
from pathlib import Path

import numpy as np
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto

from alrsim.errors import ModelError
from alrsim.frontend.onnx_fold import Folded, fold
from alrsim.frontend.onnx_read import (
    STANDARD,
    bind_dimensions,
    check,
    fx_name,
    prepare,
    read_proto,
    set_nodes,
    subgraphs,
    unknown_operators,
)
from alrsim.frontend.onnx_weights import find_weights
from alrsim.graph.graph import DIFFERENTIABLE, Attribute, Graph, Op, Tensor

_BIASED = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}


def import_onnx(
    source: Path | str | ModelProto,
    *,
    name: str,
    bind: Mapping[str, int] | None = None,
    parameters: Collection[str] | None = None,
    buffers: Collection[str] | None = None,
) -> Graph:
    """Import a model: shapes inferred, constants folded, functions inlined.

    Operators whose value is known before the model runs (shape arithmetic, constants) are not in the graph, nor are
    identities (``Identity``, ``Cast`` to the same type, ``Expand`` to the same shape) and operators that reach no
    output; torch graph nodes that are nothing else appear on no operator.

    Args:
        source: A file, or a model in memory. It is not changed.
        name: The model's name.
        bind: Sizes of dynamic dimensions by name; an unnamed one is called ``input[axis]``.
        parameters: Trainable initializers. ``None``: see :mod:`alrsim.frontend.onnx_weights`.
        buffers: Initializers that are state but are not trained.

    Raises:
        FileError: the file does not exist, is empty, or is not ONNX.
        ModelError: the model is invalid, too new, needs external data that is missing or lies outside its folder,
            has data-dependent sub-graphs, or values without a static shape.
        OptionError: ``bind`` names a dimension that the model does not have.
    """
    folder = None if isinstance(source, ModelProto) else Path(source).resolve().parent
    where = name if isinstance(source, ModelProto) else str(source)
    original = source if isinstance(source, ModelProto) else read_proto(Path(source))
    stored = {tensor.name for tensor in original.graph.initializer}
    inputs = tuple(value.name for value in original.graph.input if value.name not in stored)
    proto = prepare(original, folder, where=where)
    bind_dimensions(proto, bind or {}, where=where)
    proto.ir_version = max(proto.ir_version, 8)  # so that initializers need not be inputs
    _name_nodes(proto)
    unknown = unknown_operators(proto)
    if not any(item.startswith("ai.onnx::") for item in unknown):
        check(proto, where=where)
    dead = _drop_dead(proto)
    if parameters is None and buffers is None:
        parameters, buffers = find_weights(proto, inputs)
    parameters, buffers = tuple(parameters or ()), tuple(buffers or ())
    folded = fold(proto, frozenset((*parameters, *buffers)), where=where)
    _drop_identities(folded)
    _drop_dead(proto)
    _drop_unread_outputs(proto)
    _require_shapes(folded, where, unknown)
    warnings = _warnings(unknown, dead, proto)
    ops = tuple(_op(node, folded) for node in proto.graph.node)
    return _graph(name, ops, folded, inputs, parameters, buffers, warnings)


def _name_nodes(proto: ModelProto) -> None:
    """Give every node a unique name."""
    taken: set[str] = set()
    for position, node in enumerate(proto.graph.node):
        wanted = node.name or f"{node.op_type}_{position}"
        candidates = chain([wanted], (f"{wanted}.{suffix}" for suffix in count(1)))
        node.name = next(name for name in candidates if name not in taken)
        taken.add(node.name)


def _drop_dead(proto: ModelProto) -> list[str]:
    """Remove nodes that reach no output; their names."""
    needed = {value.name for value in proto.graph.output}
    kept: list[NodeProto] = []
    dead: list[str] = []
    for node in reversed(proto.graph.node):
        if needed.isdisjoint(filter(None, node.output)):
            dead.append(node.name)
        else:
            kept.append(node)
            needed.update(filter(None, node.input))
            for _, graph in subgraphs(node):
                needed.update(name for inner in graph.node for name in inner.input)
                needed.update(value.name for value in graph.output)
    if dead:
        set_nodes(proto.graph, reversed(kept))
    return dead[::-1]


def _drop_unread_outputs(proto: ModelProto) -> None:
    """Blank optional outputs that nobody reads (dropout masks, final LSTM states), so that they cost nothing."""
    read = {name for node in proto.graph.node for name in node.input} | {value.name for value in proto.graph.output}
    for node in proto.graph.node:
        node.output[:] = [name if name in read else "" for name in node.output]


def _drop_identities(folded: Folded) -> None:
    """Let readers of a value that is only passed on read its source."""
    outputs = {value.name for value in folded.proto.graph.output}
    alias: dict[str, str] = {}
    kept: list[NodeProto] = []
    for node in folded.proto.graph.node:
        node.input[:] = [alias.get(name, name) for name in node.input]
        if node.output[0] not in outputs and _is_identity(node, folded):
            alias[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    set_nodes(folded.proto.graph, kept)


def _is_identity(node: NodeProto, folded: Folded) -> bool:
    if node.domain not in STANDARD or not node.input:
        return False
    same = folded.shapes.get(node.input[0], 0) == folded.shapes.get(node.output[0], 1)
    if node.op_type in ("Identity", "Cast", "CastLike", "Expand"):
        return same
    if node.op_type != "Dropout" or any(node.output[1:]):
        return False
    attributes = {attribute.name: attribute.f for attribute in node.attribute}
    ratio = _scalar(folded, node, 1, attributes.get("ratio", 0.5))
    training = _scalar(folded, node, 2, 1.0)
    return ratio == 0 or training == 0


def _scalar(folded: Folded, node: NodeProto, position: int, default: float) -> float | None:
    if len(node.input) <= position or not node.input[position]:
        return default
    value = folded.values.get(node.input[position])
    return None if value is None else float(np.asarray(value, dtype=np.float64).reshape(-1)[0])


def _require_shapes(folded: Folded, where: str, unknown: tuple[str, ...]) -> None:
    missing = [
        f"{value} ({node.op_type} {node.name})"
        for node in folded.proto.graph.node
        for value in (*node.input, *node.output)
        if value and value not in folded.shapes and value not in folded.values
    ]
    if missing:
        reason = f"; operators that ONNX does not define: {', '.join(unknown)}" if unknown else ""
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        raise ModelError(
            f"the shapes of these values are not known before the model runs: {', '.join(missing[:8])}{more}{reason}",
            where=where,
            fix="store their shapes in the model (value_info), or export without data-dependent shapes",
        )


def _warnings(unknown: tuple[str, ...], dead: list[str], proto: ModelProto) -> tuple[str, ...]:
    found = []
    for item in unknown:
        domain, kind = item.split("::")
        names = [node.name for node in proto.graph.node if (node.domain or "ai.onnx", node.op_type) == (domain, kind)]
        if names:
            shown = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
            text = f"{item}, {len(names)} times ({shown})"
            attributes = (one.name for node in proto.graph.node if node.op_type == kind for one in node.attribute)
            unknown_cost = f"unknown operator {text}: it has no cost"
            found.append(
                f"custom operator {text}: its FLOPs are unknown and not counted"
                if DIFFERENTIABLE in attributes
                else unknown_cost
            )
    if dead:
        shown = ", ".join(dead[:5]) + (" ..." if len(dead) > 5 else "")
        found.append(f"{len(dead)} operators reach no output and are left out: {shown}")
    return tuple(found)


def _op(node: NodeProto, folded: Folded) -> Op:
    """A node as an operator; module and torch graph node are those of the exporter's own metadata."""
    inputs = list(node.input)
    bias = inputs[_BIASED[node.op_type]] if len(inputs) > _BIASED.get(node.op_type, len(inputs)) else ""
    if bias in folded.values and not np.any(folded.values[bias]):
        inputs[_BIASED[node.op_type]] = ""  # exporters write a missing bias as zeros
    attributes = {item.name: value for item in node.attribute if (value := _attribute(item)) is not None}
    domain = "" if node.domain in STANDARD else node.domain
    fx_nodes = tuple(filter(None, [fx_name(node)]))
    return Op(node.name, node.op_type, tuple(inputs), tuple(node.output), domain, attributes, _module(node), fx_nodes)


def _attribute(item: AttributeProto) -> Attribute | None:
    plain: dict[int, Attribute] = {
        AttributeProto.INT: item.i,
        AttributeProto.FLOAT: item.f,
        AttributeProto.STRING: item.s.decode(errors="replace"),
        AttributeProto.INTS: tuple(item.ints),
        AttributeProto.FLOATS: tuple(item.floats),
        AttributeProto.STRINGS: tuple(text.decode(errors="replace") for text in item.strings),
    }
    return plain.get(item.type)


def _module(node: NodeProto) -> str:
    """``"['', 'layer1', 'layer1.conv', 'conv2d']"`` -> ``'layer1.conv'``."""
    metadata = {item.key: item.value for item in node.metadata_props}
    scopes = re.findall(r"'([^']*)'", metadata.get("pkg.torch.onnx.name_scopes", ""))
    return scopes[-2] if len(scopes) > 1 else ""


def _graph(
    name: str,
    ops: tuple[Op, ...],
    folded: Folded,
    inputs: tuple[str, ...],
    parameters: tuple[str, ...],
    buffers: tuple[str, ...],
    warnings: tuple[str, ...],
) -> Graph:
    outputs = tuple(value.name for value in folded.proto.graph.output)
    read = dict.fromkeys(value for op in ops for value in op.inputs if value)
    written = dict.fromkeys(value for op in ops for value in op.outputs if value)
    used = {**read, **dict.fromkeys(outputs)}
    trained = tuple(value for value in parameters if value in used)
    state = tuple(value for value in buffers if value in used and value not in trained)
    known = {*inputs, *trained, *state, *written}
    constants = tuple(value for value in used if value not in known)
    tensors = {}
    for value in (*inputs, *trained, *state, *constants, *written):
        if value in folded.values:
            array = folded.values[value]
            tensors[value] = Tensor(value, tuple(array.shape), str(array.dtype))
        else:
            shape, kind = folded.shapes[value]
            dtype = "float32" if kind == TensorProto.FLOAT else TensorProto.DataType.Name(kind).lower()
            tensors[value] = Tensor(value, shape, dtype)
    integers = {
        value: tuple(int(item) for item in folded.values[value].reshape(-1).tolist())
        for value in constants
        if value in folded.values and folded.values[value].dtype.kind in "iub" and folded.values[value].size <= 64
    }
    return Graph(name, ops, tensors, inputs, outputs, trained, state, constants, integers, warnings)
