"""Read an ONNX file and make sure that it is one: format, versions, inputs, external data, sub-graphs, dimensions."""

import re
from collections.abc import Iterable, Iterator, Mapping
from math import prod
from pathlib import Path

import onnx
import onnx.checker
import onnx.defs
import onnx.inliner
import onnx.shape_inference
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto
from onnx.external_data_helper import load_external_data_for_tensor

from alrsim.errors import FileError, ModelError, OptionError
from alrsim.files import read_bytes

SMALL = 4096
"""Initializers of at most this many elements are read; of larger ones only the shape is needed."""

STANDARD = ("", "ai.onnx")

OWN = ("alrsim::Inject",)
"""Operators of our own, which the standard does not define either (see :mod:`alrsim.frontend.inject`)."""


def read_proto(path: Path) -> ModelProto:
    """Parse a file.

    Raises:
        FileError: it does not exist, is empty, or is not ONNX.
    """
    path = Path(path)
    data = read_bytes(path)
    if not data:
        raise FileError("is empty", where=str(path), fix="export the model again")
    try:
        proto = onnx.load_model_from_string(data)
    except DecodeError:
        raise FileError(
            "is not an ONNX model, or is cut off", where=str(path), fix="export the model again, or copy it whole"
        ) from None
    if not proto.ir_version or not proto.graph.ByteSize():
        raise FileError("holds no ONNX graph", where=str(path), fix="export the model again, or copy it whole")
    return proto


def prepare(proto: ModelProto, folder: Path | None, *, where: str) -> ModelProto:
    """A light copy in which functions are inlined, and large initializers are inputs without data.

    Args:
        folder: The model's folder, for external data; ``None`` if it was never a file.

    Raises:
        ModelError: unsupported versions, external data that is missing or outside the folder, an empty graph.
    """
    _check_versions(proto, where)
    for tensor in _all_tensors(proto.graph):
        if folder is not None and tensor.data_location == TensorProto.EXTERNAL:
            _check_external(tensor, folder, where)
    graph = proto.graph
    if not graph.output:
        raise ModelError("the graph has no outputs", where=where)
    if graph.sparse_initializer:
        names = ", ".join(item.values.name for item in graph.sparse_initializer)
        raise ModelError(f"sparse initializers are not supported: {names}", where=where, fix="store them dense")
    weights = {tensor.name for tensor in graph.initializer}
    target = GraphProto(
        name=graph.name or "graph",
        node=graph.node,
        input=[item for item in graph.input if item.name not in weights],
        output=graph.output,
        value_info=graph.value_info,
    )
    for tensor in graph.initializer:
        _add_initializer(target, tensor, folder)
    versions = proto.opset_import
    light = ModelProto(ir_version=proto.ir_version, opset_import=versions, functions=proto.functions, graph=target)
    if light.functions:
        try:
            light = onnx.inliner.inline_local_functions(light)
        except Exception as error:  # the inliner raises whatever its C++ does
            raise ModelError(f"a local function cannot be inlined: {_first_line(error)}", where=where) from None
    return light


def check(proto: ModelProto, *, where: str) -> None:
    """Let ONNX's own checker judge the structure: order, duplicates, attributes.

    Raises:
        ModelError: with the checker's reason.
    """
    try:
        shaped = onnx.shape_inference.infer_shapes(proto)  # the checker wants outputs to say their shape
    except Exception:  # whatever is wrong, the checker says it better
        shaped = proto
    if not all(value.type.tensor_type.HasField("shape") for value in shaped.graph.output):
        return  # reported as a missing shape, with the operator's name
    try:
        onnx.checker.check_model(shaped)
    except onnx.checker.ValidationError as error:
        raise ModelError(
            f"is not a valid ONNX model: {_first_line(error)}", where=where, fix="export the model again"
        ) from None


def unknown_operators(proto: ModelProto) -> tuple[str, ...]:
    """Operators that the ONNX standard does not define in the model's opset: ``domain::kind``, each once."""
    versions = {item.domain: item.version for item in proto.opset_import}
    default = versions.get("", versions.get("ai.onnx", 1))
    found: dict[str, None] = {}
    for node in proto.graph.node:
        if node.domain in STANDARD:
            known = onnx.defs.has(node.op_type, max_inclusive_version=default)
        else:
            known = node.domain.startswith("ai.onnx") and onnx.defs.has(node.op_type, domain=node.domain)
        full = f"{node.domain or 'ai.onnx'}::{node.op_type}"
        if not known and full not in OWN:
            found[full] = None
    return tuple(found)


def fx_name(node: NodeProto) -> str:
    """The torch graph node that the exporter recorded for an ONNX node; ``""`` if it recorded none.

    ``"%conv2d : [num_users=1] = ..."`` -> ``'conv2d'``.
    """
    recorded = {entry.key: entry.value for entry in node.metadata_props}.get("pkg.torch.onnx.fx_node", "")
    match = re.match(r"\s*%([^\s:]+)", recorded)
    return match[1] if match else ""


def bind_dimensions(proto: ModelProto, bind: Mapping[str, int], *, where: str) -> None:
    """Replace dynamic dimensions in place. An unnamed one is called ``input[axis]``.

    Raises:
        OptionError: a binding that the model does not know, or that is not positive.
        ModelError: a dimension that stays unbound, or an input that is not a tensor.
    """
    for key, size in bind.items():
        if size < 1:
            raise OptionError(f"dimension {key!r} is bound to {size}, must be at least 1", field="bind")
    known: dict[str, None] = {}
    for value in proto.graph.input:
        if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
            raise ModelError(
                f"input {value.name!r} is not a tensor with a known rank", where=where, fix="give it a shape"
            )
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.HasField("dim_value"):
                if dim.dim_value < 1:
                    raise ModelError(
                        f"input {value.name!r} has {dim.dim_value} elements along axis {axis}", where=where
                    )
                continue
            key = dim.dim_param or f"{value.name}[{axis}]"
            known[key] = None
            if key in bind:
                dim.dim_value = bind[key]
    extra = [key for key in bind if key not in known]
    if extra:
        has = f"its dynamic dimensions are: {', '.join(known)}" if known else "it has no dynamic dimensions"
        raise OptionError(f"{where} has no dimension {', '.join(map(repr, extra))}", field="bind", fix=has)
    missing = [key for key in known if key not in bind]
    if missing:
        raise ModelError(
            f"dynamic dimensions are not bound: {', '.join(missing)}",
            where=where,
            fix=" ".join(f"`bind={key}=N`" for key in missing),
        )
    for value in (*proto.graph.output, *proto.graph.value_info):
        _bind_written(value, bind)


def subgraphs(node: NodeProto) -> Iterator[tuple[str, GraphProto]]:
    """The sub-graphs among a node's attributes, by attribute name."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.name, attribute.g
        for graph in attribute.graphs:
            yield attribute.name, graph


def set_nodes(graph: GraphProto, nodes: Iterable[NodeProto]) -> None:
    """Let a graph have these nodes, which may be some of its own, and no others."""
    kept = list(nodes)
    del graph.node[:]
    graph.node.extend(kept)


def _bind_written(value: ValueInfoProto, bind: Mapping[str, int]) -> None:
    """Bind a written value's dimensions; forget those that inference will fill in."""
    for dim in value.type.tensor_type.shape.dim if value.type.HasField("tensor_type") else ():
        if dim.dim_param and dim.dim_param in bind:
            dim.dim_value = bind[dim.dim_param]
        elif not dim.HasField("dim_value"):
            dim.Clear()


def _check_versions(proto: ModelProto, where: str) -> None:
    newest = onnx.defs.onnx_opset_version()
    if not proto.opset_import:
        raise ModelError("names no operator set", where=where, fix="export the model again")
    for item in proto.opset_import:
        if item.domain in STANDARD and item.version > newest:
            raise ModelError(
                f"uses operator set {item.version}; the installed onnx knows up to {newest}",
                where=where,
                fix=f"export with opset_version={newest} or lower, or install a newer onnx",
            )
    if proto.ir_version > onnx.IR_VERSION:
        raise ModelError(
            f"uses ONNX IR version {proto.ir_version}; the installed onnx knows up to {onnx.IR_VERSION}",
            where=where,
            fix="install a newer onnx, or export for an older one",
        )


def _all_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t
        for _, inner in subgraphs(node):
            yield from _all_tensors(inner)


def _check_external(tensor: TensorProto, folder: Path, where: str) -> None:
    """External data must be a file inside the model's folder that is long enough."""
    entries = {item.key: item.value for item in tensor.external_data}
    location = entries.get("location", "")
    root = folder.resolve()
    file = (root / location).resolve()
    if not location or not file.is_relative_to(root) or file == root:
        raise ModelError(
            f"the data of {tensor.name!r} is in {location!r}, outside the model's folder",
            where=where,
            fix="move the data file next to the model and refer to it by a relative path",
        )
    if not file.is_file():
        raise ModelError(
            f"the data file {location!r} of {tensor.name!r} is missing", where=where, fix="copy it next to the model"
        )
    try:
        need = int(entries.get("offset", "0") or 0) + int(entries.get("length", "0") or 0)
    except ValueError:
        raise ModelError(f"the data of {tensor.name!r} has no valid offset or length", where=where) from None
    if file.stat().st_size < need:
        raise ModelError(
            f"the data file {location!r} is cut off: {tensor.name!r} ends at byte {need}, it has {file.stat().st_size}",
            where=where,
            fix="copy the file whole",
        )


def _add_initializer(target: GraphProto, tensor: TensorProto, folder: Path | None) -> None:
    external = tensor.data_location == TensorProto.EXTERNAL
    if prod(tensor.dims) <= SMALL and not (external and folder is None):
        target.initializer.append(tensor)
        if external:
            load_external_data_for_tensor(target.initializer[-1], str(folder))
            target.initializer[-1].data_location = TensorProto.DEFAULT
            del target.initializer[-1].external_data[:]
    else:
        target.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
