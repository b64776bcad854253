"""ONNX models in: dimensions, constants, functions, branches and weights, and every way in which a file can be bad."""

import contextlib
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from alrsim.cost.operators import cost_graph
from alrsim.errors import AlrsimError, FileError, ModelError, OptionError
from alrsim.frontend.onnx_import import import_onnx

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def value(name, shape, kind=FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def weight(name, *shape):
    return numpy_helper.from_array(np.full(shape, 0.5, np.float32), name)


def model(nodes, inputs, outputs, weights=(), infos=(), opset=20, **options) -> ModelProto:
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(weights), value_info=list(infos))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset), *options.pop("more", [])], **options)


def linear(batch="batch") -> ModelProto:
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"])
    return model([node], [value("x", [batch, 4])], [value("y", [batch, 3])], [weight("w", 4, 3), weight("b", 3)])


def test_a_dynamic_dimension_is_bound_by_name_and_priced():
    graph = import_onnx(linear(), name="m", bind={"batch": 8})
    assert graph.tensors["y"].shape == (8, 3)
    assert cost_graph(graph)["Gemm_0"].forward.macs == 8 * 4 * 3
    assert graph.parameters == ("w", "b")


def test_an_unnamed_dimension_is_called_by_input_and_axis():
    graph = import_onnx(linear(None), name="m", bind={"x[0]": 2})
    assert graph.tensors["y"].shape == (2, 3)


def test_shape_arithmetic_is_folded_away():
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Constant", [], ["zero"], value_ints=[0]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Constant", [], ["rest"], value_ints=[-1]),
        helper.make_node("Concat", ["n", "rest"], ["to"], axis=0),
        helper.make_node("Reshape", ["x", "to"], ["y"]),
    ]
    graph = import_onnx(model(nodes, [value("x", ["n", 2, 3])], [value("y", None)]), name="m", bind={"n": 5})
    assert [op.kind for op in graph.ops] == ["Reshape"]
    assert graph.constant_values["to"] == (5, -1)
    assert graph.tensors["y"].shape == (5, 6)


def test_a_branch_with_a_known_condition_is_taken():
    then = helper.make_graph([helper.make_node("Relu", ["x"], ["a"])], "t", [], [value("a", [2])])
    other = helper.make_graph([helper.make_node("Exp", ["x"], ["b"])], "e", [], [value("b", [2])])
    nodes = [
        helper.make_node("Size", ["x"], ["n"]),
        helper.make_node("Constant", [], ["two"], value_int=2),
        helper.make_node("Equal", ["n", "two"], ["is"]),
        helper.make_node("If", ["is"], ["y"], then_branch=then, else_branch=other),
    ]
    graph = import_onnx(model(nodes, [value("x", [2])], [value("y", [2])]), name="m")
    assert [op.kind for op in graph.ops] == ["Relu", "Identity"]


def test_local_functions_are_inlined():
    body = helper.make_function(
        "local", "Twice", ["a"], ["c"], [helper.make_node("Add", ["a", "a"], ["c"])], [helper.make_opsetid("", 20)]
    )
    node = helper.make_node("Twice", ["x"], ["y"], domain="local")
    proto = model(
        [node], [value("x", [2])], [value("y", [2])], more=[helper.make_opsetid("local", 1)], functions=[body]
    )
    assert [op.kind for op in import_onnx(proto, name="m").ops] == ["Add"]


def test_weights_are_told_from_constants():
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["a"]),
        helper.make_node("Conv", ["a", "w"], ["b"]),
        helper.make_node("BatchNormalization", ["b", "scale", "shift", "mu", "var"], ["c"]),
        helper.make_node("Transpose", ["t"], ["tt"]),
        helper.make_node("MatMul", ["c", "tt"], ["d"]),
        helper.make_node("Add", ["d", "mask"], ["e"]),
        helper.make_node("Mul", ["e", "two"], ["y"]),
    ]
    mask = numpy_helper.from_array(np.array([0.0, -1e9, 0.0], np.float32), "mask")
    weights = [
        weight("mean", 2, 1, 1),
        weight("w", 2, 2, 1, 1),
        *(weight(n, 2) for n in ("scale", "shift", "mu", "var")),
    ]
    weights += [weight("t", 3, 5), mask, weight("two")]
    graph = import_onnx(model(nodes, [value("x", [1, 2, 4, 5])], [value("y", [1, 2, 4, 3])], weights), name="m")
    assert set(graph.parameters) == {"w", "scale", "shift", "t"}
    assert set(graph.buffers) == {"mu", "var"}
    assert set(graph.constants) == {"mean", "mask", "two"}


def test_the_model_in_memory_is_not_changed():
    proto = linear()
    before = proto.SerializeToString()
    import_onnx(proto, name="m", bind={"batch": 3})
    assert proto.SerializeToString() == before


def test_operators_that_reach_no_output_are_listed_and_left_out():
    proto = linear(2)
    proto.graph.node.append(helper.make_node("Relu", ["x"], ["unused"], name="dead"))
    graph = import_onnx(proto, name="m")
    assert [op.kind for op in graph.ops] == ["Gemm"]
    assert "dead" in graph.warnings[0]


def test_an_unknown_operator_is_a_listed_warning_and_an_error_when_priced():
    node = helper.make_node("Magic", ["x"], ["h"], domain="acme", name="m1")
    last = helper.make_node("Relu", ["h"], ["y"])
    proto = model(
        [node, last], [value("x", [2])], [value("y", [2])], (), [value("h", [2])], more=[helper.make_opsetid("acme", 1)]
    )
    graph = import_onnx(proto, name="m")
    assert graph.warnings == ("unknown operator acme::Magic, 1 times (m1): it has no cost",)
    with pytest.raises(ModelError, match="without a known cost: acme::Magic"):
        cost_graph(graph)


def with_external(path: Path, location: str, length: int = 48) -> Path:
    proto = linear(2)
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in (("location", location), ("offset", "0"), ("length", str(length))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, text
    path.write_bytes(proto.SerializeToString())
    return path


def test_external_data_beside_the_model_is_read(tmp_path):
    (tmp_path / "w.bin").write_bytes(np.ones(12, np.float32).tobytes())
    graph = import_onnx(with_external(tmp_path / "m.onnx", "w.bin"), name="m")
    assert graph.parameters == ("w", "b")


def one(kind, *inputs, outputs=("y",), shape=(2,), **attributes) -> ModelProto:
    return model([helper.make_node(kind, inputs, outputs, **attributes)], [value("x", [2])], [value("y", shape)])


def loop() -> ModelProto:
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Relu", ["v"], ["v2"])],
        "body",
        [value("i", [], INT64), value("c", [], TensorProto.BOOL), value("v", [2])],
        [value("c2", [], TensorProto.BOOL), value("v2", [2])],
    )
    node = helper.make_node("Loop", ["n", "", "x"], ["y"], body=body)
    return model([node], [value("x", [2]), value("n", [], INT64)], [value("y", [2])])


def data_branch() -> ModelProto:
    then = helper.make_graph([helper.make_node("Relu", ["x"], ["a"])], "t", [], [value("a", [2])])
    other = helper.make_graph([helper.make_node("Exp", ["x"], ["b"])], "e", [], [value("b", [2])])
    node = helper.make_node("If", ["is"], ["y"], name="choose", then_branch=then, else_branch=other)
    return model([node], [value("x", [2]), value("is", [], TensorProto.BOOL)], [value("y", [2])])


def unsorted() -> ModelProto:
    nodes = [helper.make_node("Relu", ["h"], ["y"]), helper.make_node("Exp", ["x"], ["h"])]
    return model(nodes, [value("x", [2])], [value("y", [2])])


def clashing() -> ModelProto:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return model([node], [value("x", [2, 5])], [value("y", [2, 3])], [weight("w", 4, 3)])


def new_ir() -> ModelProto:
    proto = linear(2)
    proto.ir_version = 999
    return proto


def sequence() -> ModelProto:
    proto = linear(2)
    proto.graph.input[0].type.CopyFrom(helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, None)))
    return proto


def nonzero() -> ModelProto:
    return model([helper.make_node("NonZero", ["x"], ["y"])], [value("x", [2])], [value("y", None, INT64)])


def without_opset() -> ModelProto:
    proto = linear(2)
    del proto.opset_import[:]
    return proto


def without_outputs() -> ModelProto:
    proto = linear(2)
    del proto.graph.output[:]
    return proto


def damaged() -> ModelProto:
    proto = linear(2)
    proto.graph.initializer[1].raw_data = b"\0\0\0"
    return proto


BAD = {
    "unbound": (linear(), {}, ModelError, "not bound: batch"),
    "unbound says how": (linear(), {}, ModelError, "bind=batch=N"),
    "unknown dimension": (linear(), {"batch": 2, "time": 3}, OptionError, "no dimension 'time'"),
    "unknown dimension says which": (linear(), {"time": 3}, OptionError, "are: batch"),
    "nothing to bind": (linear(2), {"batch": 3}, OptionError, "has no dynamic dimensions"),
    "zero": (linear(), {"batch": 0}, OptionError, "must be at least 1"),
    "empty axis": (linear(0), {}, ModelError, "has 0 elements along axis 0"),
    "loop": (loop(), {}, ModelError, "Loop .* has a sub-graph"),
    "branch": (data_branch(), {}, ModelError, "If 'choose' has a sub-graph"),
    "unsorted": (unsorted(), {}, ModelError, "not a valid ONNX model"),
    "shapes clash": (clashing(), {}, ModelError, "shapes do not fit"),
    "new opset": (model([], [value("x", [2])], [value("x", [2])], opset=999), {}, ModelError, "operator set 999"),
    "new ir": (new_ir(), {}, ModelError, "IR version 999"),
    "no opset": (without_opset(), {}, ModelError, "names no operator set"),
    "no outputs": (without_outputs(), {}, ModelError, "no outputs"),
    "sequence": (sequence(), {}, ModelError, "not a tensor"),
    "data-dependent": (nonzero(), {}, ModelError, "not known before the model runs: y"),
    "unknown kind": (one("Foo", "x", shape=None), {}, ModelError, "does not define: ai.onnx::Foo"),
    "damaged": (damaged(), {}, ModelError, "m: "),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_model_is_refused_with_its_reason(case):
    proto, bind, error, message = BAD[case]
    with pytest.raises(error) as caught:
        import_onnx(proto, name="m", bind=bind)
    assert re.search(message, str(caught.value)), str(caught.value)


FILES = {
    "missing": (None, "no such file"),
    "empty": (b"", "is empty"),
    "text": (b"this is not a model\n" * 20, "is not an ONNX model"),
    "cut off": (linear(2).SerializeToString()[:60], "is not an ONNX model, or is cut off"),
    "json": (b'{"format": "alrsim.graph/1"}', "ONNX"),
    "no graph": (ModelProto(ir_version=8).SerializeToString(), "holds no ONNX graph"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_bad_file_is_refused_with_its_name(case, tmp_path):
    data, message = FILES[case]
    path = tmp_path / "bad.onnx"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(FileError, match=message) as caught:
        import_onnx(path, name="m")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("location", "length", "message"),
    [
        ("../outside.bin", 48, "outside the model's folder"),
        ("/etc/hostname", 48, "outside the model's folder"),
        ("", 48, "outside the model's folder"),
        ("gone.bin", 48, "is missing"),
        ("w.bin", 480, "is cut off"),
        ("link.bin", 48, "outside the model's folder"),
    ],
)
def test_external_data_outside_the_folder_missing_or_cut_off_is_refused(tmp_path, location, length, message):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "outside.bin").write_bytes(b"\0" * 48)
    (folder / "w.bin").write_bytes(b"\0" * 48)
    (folder / "link.bin").symlink_to(tmp_path / "outside.bin")
    with pytest.raises(ModelError, match=message):
        import_onnx(with_external(folder / "m.onnx", location, length), name="m")


@pytest.mark.parametrize("step", [7, 23])
def test_a_file_cut_or_damaged_anywhere_never_gives_a_traceback(tmp_path, step):
    data = (Path(onnx.__file__).parent / "backend/test/data/light/light_squeezenet.onnx").read_bytes()
    path = tmp_path / "cut.onnx"
    for share in range(1, 12):
        broken = bytearray(data[: len(data) * share // 12])
        broken[len(broken) // step] ^= 0xFF
        path.write_bytes(bytes(broken))
        with pytest.raises(AlrsimError):
            import_onnx(path, name="cut")


CONVERTED = Path(onnx.__file__).parent / "backend" / "test" / "data"


@pytest.mark.parametrize("folder", ["pytorch-converted", "pytorch-operator", "simple"])
def test_every_model_of_the_onnx_wheel_is_priced_or_refused_in_words(folder):
    files = sorted(CONVERTED.glob(f"{folder}/*/model.onnx"))
    priced = 0
    for path in files:
        with contextlib.suppress(AlrsimError):
            cost_graph(import_onnx(path, name=path.parent.name))
            priced += 1
    assert priced == {"pytorch-converted": len(files), "pytorch-operator": len(files), "simple": 7}[folder]
    assert len(files) > 20
