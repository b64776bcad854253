"""The exporter: training mode, silence, splits, shared weights and files."""

from pathlib import Path

import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from alrsim.errors import FileError, ModelError, OptionError
from alrsim.frontend.onnx_import import import_onnx
from alrsim.frontend.torch_export import export_model, save_onnx
from alrsim.frontend.torch_model import TorchModel
from alrsim.models import build


def model_of(module: nn.Module, *shape: int) -> TorchModel:
    def example(batch: int) -> tuple[Tensor, ...]:
        return (torch.randn(batch, *shape, generator=torch.Generator().manual_seed(1)),)

    return TorchModel("m", module, example, 2)


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.frozen = nn.BatchNorm1d(4).eval()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.frozen(self.norm(x))
        return result


def test_a_frozen_batch_norm_inside_a_training_model_stays_frozen() -> None:
    graph = export_model(model_of(Normed(), 4), 3).graph
    modes = {op.module: op.attributes.get("training_mode", 0) for op in graph.ops}
    assert modes == {"norm": 1, "frozen": 0}


def test_a_model_in_evaluation_mode_is_traced_in_training_mode_and_put_back() -> None:
    module = Normed().eval()
    graph = export_model(model_of(module, 4), 3).graph
    assert {op.attributes["training_mode"] for op in graph.ops} == {1}
    assert not any(part.training for part in module.modules())


def test_exporting_changes_no_value_no_mode_and_no_random_state() -> None:
    module = Normed()
    state = {key: value.clone() for key, value in module.state_dict().items()}
    before = torch.get_rng_state()
    export_model(model_of(module, 4), 3)
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())
    assert (module.training, module.norm.training, module.frozen.training) == (True, True, False)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_exporter_says_nothing(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    export_model(build("mlp", hidden=4), 2)
    assert capfd.readouterr() == ("", "")
    # torch's structured trace is a logger of its own, which only TORCH_TRACE turns into a file
    assert [record for record in caplog.records if record.name != "torch.__trace"] == []


class Splits(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        a, b, c = x.chunk(3, dim=-1)
        d, e = torch.split(x, [4, 8], dim=1)
        (f,) = x.split(12, dim=1)
        unread = x.chunk(2, dim=1)[1]
        return torch.cat([a * b - c, d + e[:, :4], f, unread], dim=1)


def test_chunk_and_split_become_one_split_each() -> None:
    model = model_of(Splits(), 12)
    exported = export_model(model, 2)
    splits = [op for op in exported.graph.ops if op.kind == "Split"]
    assert len(splits) == 4
    assert not any("Sequence" in op.kind for op in exported.graph.ops)
    assert exported.graph.warnings == ()
    sizes = [[exported.graph.tensors[name].shape for name in op.outputs if name] for op in splits]
    assert sizes == [[(2, 4)] * 3, [(2, 4), (2, 8)], [(2, 12)], [(2, 6)]]
    (x,) = model.example(2)
    (result,) = ReferenceEvaluator(exported.proto).run(None, {exported.graph.inputs[0]: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(result), model.module(x))
    assert {name for op in splits for name in op.fx_nodes} >= {"split", "split_with_sizes", "getitem", "getitem_1"}


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(4, 4, bias=False)
        self.decode = nn.Linear(4, 4, bias=False)
        self.decode.weight = self.encode.weight
        self.fixed = nn.Parameter(torch.ones(4), requires_grad=False)
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.unused = nn.Parameter(torch.ones(3))
        self.register_buffer("shift", torch.arange(4.0))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.decode(torch.relu(self.encode(x))) * self.scale + self.fixed + self.get_buffer("shift")
        return result


def test_shared_frozen_scalar_and_unread_parameters_are_what_torch_says_they_are() -> None:
    graph = export_model(model_of(Tied(), 4), 2).graph
    assert set(graph.parameters) == {"encode.weight", "scale"}
    assert set(graph.buffers) == {"fixed", "shift"}
    assert graph.warnings == ("the forward pass never reads parameters unused",)
    readers = [op.module for op in graph.ops if op.kind in ("MatMul", "Gemm")]
    assert readers == ["encode", "decode"]


def test_a_shared_parameter_has_its_first_name_in_every_form() -> None:
    exported = export_model(model_of(Tied(), 4), 2)
    used = {node.name for node in exported.program.graph.nodes if node.op == "placeholder" and node.users}
    names = exported.program.graph_signature.inputs_to_parameters
    assert {names[node] for node in used if node in names} == {"encode.weight", "scale", "fixed"}
    assert {item.name for item in exported.proto.graph.initializer} == {"encode.weight", "scale", "fixed", "shift"}


class Dropped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.dropout(x.contiguous().clone()) + 1
        return result


def test_dropout_stays_and_nodes_that_vanish_go_with_their_neighbours() -> None:
    exported = export_model(model_of(Dropped(), 4), 2)
    assert [op.kind for op in exported.graph.ops] == ["Dropout", "Add"]
    calls = {node.name for node in exported.program.graph.nodes if node.op == "call_function"}
    assert {name for op in exported.graph.ops for name in op.fx_nodes} == calls


def test_a_saved_model_reads_back_as_the_same_operators(tmp_path: Path) -> None:
    exported = export_model(build("resnet5", width=2, norm="batch"), 2)
    save_onnx(exported, tmp_path / "m.onnx")
    again = import_onnx(tmp_path / "m.onnx", name="resnet5", bind={})
    assert [(op.name, op.kind, op.inputs, op.module) for op in again.ops] == [
        (op.name, op.kind, op.inputs, op.module) for op in exported.graph.ops
    ]
    assert set(again.parameters) == set(exported.graph.parameters)
    assert set(again.buffers) == set(exported.graph.buffers)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_a_model_that_cannot_be_saved_leaves_nothing_behind(tmp_path: Path) -> None:
    exported = export_model(build("mlp", hidden=4), 2)
    with pytest.raises(FileError, match="cannot write"):
        save_onnx(exported, tmp_path / "nowhere" / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_no_sample_is_made_for_an_export_so_that_a_batch_of_any_size_has_a_graph() -> None:
    made = []

    def example(batch: int) -> tuple[Tensor, ...]:
        made.append(batch)
        return (torch.zeros(batch, 4),)

    model = TorchModel("m", nn.Linear(4, 2), example, 2)
    small, large = (export_model(model, batch).graph for batch in (6, 10**12))
    assert set(made) == {2}
    assert [large.tensors[name].shape for name in (*large.inputs, *large.outputs)] == [(10**12, 4), (10**12, 2)]
    assert [(op.kind, op.inputs, op.outputs) for op in large.ops] == [
        (op.kind, op.inputs, op.outputs) for op in small.ops
    ]


@pytest.mark.parametrize("batch", [10**18, 10**24])
def test_a_batch_whose_bytes_64_bits_cannot_number_is_refused(batch: int) -> None:
    with pytest.raises(OptionError, match="are larger than 64 bits can number") as caught:
        export_model(model_of(nn.Linear(4, 2), 4), batch)
    assert caught.value.field == "batch"


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(OptionError, match="a batch of 0 samples cannot be traced"):
        export_model(build("mlp"), 0)


def test_a_model_that_does_not_fit_its_input_is_refused() -> None:
    with pytest.raises(ModelError, match="torch cannot export the model"):
        export_model(model_of(nn.Linear(3, 2), 4), 2)


def test_only_a_module_is_a_model() -> None:
    with pytest.raises(ModelError, match="got function"):
        model_of(lambda x: x, 4)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["mlp", "resnet5", "gcn"])
def test_what_is_only_traced_is_not_allocated(name):
    """A batch that no memory holds has the graph of a small one, with another first dimension."""
    model = build(name)
    small, large = (export_model(model, batch).graph for batch in (7, 10**12))
    assert [(op.kind, op.inputs, op.outputs) for op in small.ops] == [
        (op.kind, op.inputs, op.outputs) for op in large.ops
    ]
    assert large.tensors[large.inputs[0]].shape[0] == 10**12
    for tensor, same in zip(small.tensors.values(), large.tensors.values(), strict=True):
        assert tensor.elements in (same.elements, same.elements * 7 / 10**12)
