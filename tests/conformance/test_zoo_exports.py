"""Every model of the zoo, in every normalisation: exported, mapped back to torch and evaluated by independent means."""

from dataclasses import dataclass
from functools import cache

import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from alrsim.frontend.torch_export import Exported, export_model
from alrsim.frontend.torch_model import TorchModel, output_shape
from alrsim.models import ZOO, build

BATCH = 3
SMALL: dict[str, dict[str, int]] = {
    "resnet5": {"width": 4, "image_size": 16},
    "resnet9": {"width": 4},
    "resnet12": {"width": 4, "image_size": 32, "classes": 20},
    "vgg8": {"width": 4},
    "mlp": {"hidden": 16},
    "lstm": {"hidden": 8, "embedding": 6, "sequence": 4, "layers": 2, "vocabulary": 30},
    "gru": {"hidden": 8, "embedding": 6, "sequence": 4, "layers": 2, "vocabulary": 30},
    "rnn": {"hidden": 8, "embedding": 6, "sequence": 4, "layers": 2, "vocabulary": 30},
    "gat": {"nodes": 9, "features": 12, "hidden": 4, "heads": 2},
    "gcn": {"nodes": 9, "features": 12, "hidden": 4},
    "snn": {"image_size": 6, "hidden": 12, "steps": 3},
}
CASES = [
    (name, norm)
    for name, entry in ZOO.items()
    for norm in (entry.options["norm"].choices if "norm" in entry.options else ("-",))
]
every_model = pytest.mark.parametrize(("name", "norm"), CASES, ids=[f"{name}-{norm}" for name, norm in CASES])


@dataclass(frozen=True)
class Case:
    model: TorchModel
    exported: Exported


def small(name: str, norm: str) -> TorchModel:
    return build(name, **SMALL[name], **({} if norm == "-" else {"norm": norm}))


@cache
def case(name: str, norm: str) -> Case:
    model = small(name, norm)
    return Case(model, export_model(model, BATCH))


def fresh_output(name: str, norm: str) -> tuple[nn.Module, Tensor]:
    """The module's own answer in training mode, on a copy, because BatchNorm would update its statistics."""
    model = small(name, norm)
    output: Tensor = model.module(*model.example(BATCH))
    return model.module, output


def interpret(exported: Exported, module: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """Run the exported torch graph functionally on the parameters of ``module``."""
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    signature = exported.program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    given = iter(inputs)
    values = [
        state[names[node.name]] if node.name in names else next(given)
        for node in exported.program.graph.nodes
        if node.op == "placeholder"
    ]
    outputs = torch.fx.Interpreter(exported.program.graph_module).run(*values)
    kinds = [spec.kind.name for spec in signature.output_specs]
    result: Tensor = outputs[kinds.index("USER_OUTPUT")]
    return result


@every_model
def test_the_exported_program_computes_what_the_module_computes(name: str, norm: str) -> None:
    module, expected = fresh_output(name, norm)
    actual = interpret(case(name, norm).exported, small(name, norm).module, case(name, norm).model.example(BATCH))
    torch.testing.assert_close(actual, expected)
    assert module.training


@every_model
def test_the_onnx_model_computes_what_the_module_computes_in_training_mode(name: str, norm: str) -> None:
    found = case(name, norm)
    feeds = zip(found.exported.graph.inputs, found.model.example(BATCH), strict=True)
    result = ReferenceEvaluator(found.exported.proto).run(None, {key: value.numpy() for key, value in feeds})
    _, expected = fresh_output(name, norm)
    torch.testing.assert_close(torch.from_numpy(result[0]), expected, rtol=1e-4, atol=1e-5)


@every_model
def test_gradients_of_the_program_are_those_of_the_module(name: str, norm: str) -> None:
    module, expected = fresh_output(name, norm)
    weights = torch.linspace(-1, 1, expected.numel()).reshape(expected.shape)
    (expected * weights).sum().backward()
    other = small(name, norm).module
    (interpret(case(name, norm).exported, other, case(name, norm).model.example(BATCH)) * weights).sum().backward()
    for (key, left), right in zip(module.named_parameters(), other.parameters(), strict=True):
        assert (left.grad is None) == (right.grad is None), key
        if left.grad is not None:
            torch.testing.assert_close(right.grad, left.grad, msg=key)


@every_model
def test_parameters_and_buffers_are_told_apart_by_their_torch_names(name: str, norm: str) -> None:
    model, graph = case(name, norm).model, case(name, norm).exported.graph
    expected = {key: tuple(value.shape) for key, value in model.module.named_parameters()}
    assert {key: graph.tensors[key].shape for key in graph.parameters} == expected
    assert graph.parameter_elements == model.parameter_count
    counters = {key for key, _ in model.module.named_buffers() if key.endswith("num_batches_tracked")}
    assert set(graph.buffers) == {key for key, _ in model.module.named_buffers()} - counters


@every_model
def test_every_operator_and_every_torch_node_find_each_other(name: str, norm: str) -> None:
    model, exported = case(name, norm).model, case(name, norm).exported
    calls = {node.name for node in exported.program.graph.nodes if node.op == "call_function"}
    claimed = [set(op.fx_nodes) for op in exported.graph.ops]
    assert all(claimed)
    assert set().union(*claimed) == calls
    modules = {path for path, _ in model.module.named_modules()}
    assert {op.module for op in exported.graph.ops} <= modules
    assert exported.graph.warnings == ()


@every_model
def test_a_parameter_is_read_by_an_operator_of_the_module_that_owns_it(name: str, norm: str) -> None:
    graph = case(name, norm).exported.graph
    for parameter in graph.parameters:
        owner = parameter.rpartition(".")[0]
        assert owner in {op.module for op in graph.ops if parameter in op.inputs}, parameter


@every_model
def test_logits_have_the_batch_in_front_and_the_classes_behind_it(name: str, norm: str) -> None:
    found = case(name, norm)
    (output,) = found.exported.graph.outputs
    shape = found.exported.graph.tensors[output].shape
    assert shape[:2] == (BATCH, found.model.classes)
    assert shape == output_shape(found.model, BATCH)


@pytest.mark.parametrize("name", [name for name, norm in CASES if norm == "batch"])
def test_batch_norm_stays_in_training_mode(name: str) -> None:
    exported = case(name, "batch").exported
    kinds = [op for op in exported.graph.ops if op.kind == "BatchNormalization"]
    norms = [part for part in case(name, "batch").model.module.modules() if isinstance(part, nn.BatchNorm2d)]
    assert len(kinds) == len(norms) > 0
    assert all(op.attributes["training_mode"] == 1 for op in kinds)
    mutated = set(exported.program.graph_signature.buffers_to_mutate.values())
    assert mutated == {key for key, _ in case(name, "batch").model.module.named_buffers()}


@pytest.mark.parametrize("name", ZOO)
def test_the_same_options_give_the_same_model_and_leave_the_random_state_alone(name: str) -> None:
    before = torch.get_rng_state()
    first, second, third = (build(name, **SMALL[name], seed=seed) for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), before)
    pairs = zip(first.module.parameters(), second.module.parameters(), strict=True)
    assert all(torch.equal(left, right) for left, right in pairs)
    pairs = zip(first.module.parameters(), third.module.parameters(), strict=True)
    assert not all(torch.equal(left, right) for left, right in pairs)
    assert all(torch.equal(a, b) for a, b in zip(first.example(2), second.example(2), strict=True))


@pytest.mark.parametrize("name", ZOO)
def test_every_entry_says_what_it_is(name: str) -> None:
    entry = ZOO[name]
    assert entry.name == name == build(name, **SMALL[name]).name
    assert entry.description
    assert entry.source
    assert all(option.help for option in entry.options.values())
    assert "seed" in entry.options
    assert "classes" in entry.options
