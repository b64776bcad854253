"""A user's custom operator between layers: LR runs it as it is, BP needs a derivative of it."""

from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from alrsim.cost.cut import cut_graph
from alrsim.cost.operators import cost_graph
from alrsim.cost.stages import build_stages
from alrsim.errors import ExecutionError
from alrsim.execution.executor import Batch, prepare, sequential
from alrsim.execution.job import Settings
from alrsim.execution.programs.program import build_program
from alrsim.frontend.factory import load_factory
from alrsim.frontend.onnx_import import import_onnx
from alrsim.frontend.torch_export import export_model, save_onnx
from alrsim.rules import RULES, RuleOptions

FILE = Path(__file__).with_name("quantiser_model.py")


@cache
def exported_of(factory: str):
    model = load_factory(f"{FILE}:{factory}")
    return model, export_model(model, 4)


def staged(factory: str, cut: str):
    model, exported = exported_of(factory)
    stages = build_stages(exported.graph, cut_graph(exported.graph, cut), batch=4)
    return model, stages, build_program(exported.graph, exported.program, stages)


def data(model, samples: int) -> Batch:
    generator = torch.Generator().manual_seed(2)
    return Batch((torch.randn(samples, 6, generator=generator),), torch.arange(samples) % 3)


def test_the_graph_has_the_operator_with_its_domain_arguments_and_a_warning(tmp_path) -> None:
    _, exported = exported_of("black_box")
    (box,) = [op for op in exported.graph.ops if op.domain]
    assert (box.domain, box.kind, box.fx_nodes) == ("quantiser", "ternary", ("ternary",))
    assert box.attributes["level"] == pytest.approx(0.3)
    assert exported.graph.tensors[box.outputs[0]].shape == (4, 8)
    warning = "custom operator quantiser::ternary, 1 times (node_ternary): its FLOPs are unknown and not counted"
    assert exported.graph.warnings == (warning,)
    work = cost_graph(exported.graph)[box.name].forward
    assert (work.macs, work.elementwise, work.activation_reads, work.activation_writes) == (0, 0, 32, 32)
    save_onnx(exported, tmp_path / "box.onnx")
    assert import_onnx(tmp_path / "box.onnx", name="box").warnings == (warning,)


def test_a_stage_ends_in_front_of_a_black_box_so_that_no_gradient_has_to_pass_it() -> None:
    _, exported = exported_of("black_box")
    cut = cut_graph(exported.graph, "layer")
    assert cut == (
        ("node_linear",),
        ("node_relu", "node_linear_1"),
        ("node_tanh", "node_ternary", "node_layer_norm"),
        ("node_linear_2",),
    )


def test_lr_trains_every_layer_around_a_black_box() -> None:
    """Behind the box the truth is autograd; in front of it there is none, but a gradient all the same."""
    model, stages, program = staged("black_box", "layer")
    options = RuleOptions(copies=4096, group=512, reduction="accumulate")
    batch = data(model, 4)
    graph = RULES["lr"](stages, options)
    result = sequential(program, graph, batch, options, Settings(sigma=0.05))
    loss = nn.functional.cross_entropy(model.module(*batch.inputs), batch.targets)
    for name in ("norm.weight", "head.weight"):
        (truth,) = torch.autograd.grad(loss, [model.module.get_parameter(name)], retain_graph=True)
        cosine = nn.functional.cosine_similarity(result.gradients[name].flatten(), truth.flatten(), dim=0)
        assert cosine > 0.95, name
    assert all(bool(result.gradients[name].any()) for name, _ in model.module.named_parameters())


@pytest.mark.parametrize("rule", ["bp", "bp-split"])
def test_bp_through_a_black_box_is_refused_by_name(rule: str) -> None:
    model, stages, program = staged("black_box", "layer")
    options = RuleOptions()
    graph = RULES[rule](stages, options)
    with pytest.raises(ExecutionError, match=r"operator quantiser\.ternary\.default has no derivative") as caught:
        prepare(program, graph, data(model, 4), options)
    assert "use an lr method" in str(caught.value)
    assert [note.split(":")[0] for note in graph.notes] == ["stage 0 (first)", "stage 1 (second)"]


@pytest.mark.parametrize("cut", ["balanced:1", "block"])
def test_lr_whose_local_gradient_would_pass_the_box_is_refused_too(cut: str) -> None:
    model, stages, program = staged("black_box", cut)
    options = RuleOptions(copies=2)
    with pytest.raises(ExecutionError, match="the gradient of a parameter would have to pass it"):
        prepare(program, RULES["lr"](stages, options), data(model, 4), options)


def test_a_custom_operator_with_a_derivative_of_its_own_is_trained_through_by_bp() -> None:
    model, stages, program = staged("straight_through", "layer")
    batch, options = data(model, 8), RuleOptions(microbatches=2)
    result = sequential(program, RULES["bp"](stages, options), batch, options)
    loss = nn.functional.cross_entropy(model.module(*batch.inputs), batch.targets)
    for name, parameter in model.module.named_parameters():
        (truth,) = torch.autograd.grad(loss, [parameter], retain_graph=True)
        torch.testing.assert_close(result.gradients[name], truth, rtol=1e-5, atol=1e-7)
