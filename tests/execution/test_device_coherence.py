"""A step's tensors all live where its program lives: every kind of task, on a device that is pretended.

An operator that mixes the device with a stray CPU tensor raises; the numbers must be those of the CPU, bit for bit.
"""

import pytest
import torch

from alrsim.execution.executor import Batch, new_run, prepare, task_body
from alrsim.execution.job import Settings
from alrsim.execution.kernels.noise_scales import relative_sigmas, value_spreads
from alrsim.execution.results import results_of
from alrsim.execution.step import step_gradients
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.rules import RULES, RuleOptions

DEVICE = torch.device("meta", 1)
MLP = ("mlp", "layer", {"hidden": 6, "features": 8})
CONVOLUTIONS = ("resnet5", "balanced:3", {"width": 4, "image_size": 16, "norm": "group"})
NORMS = ("resnet5", "layer", {"width": 4, "image_size": 16, "norm": "batch"})


def plan(saved, kept_noise):
    return PrecisionPlan(saved=Precision(saved), noise=Precision(kept_noise))


def kept(saved, kept_noise, **options):
    return {"copies": 4, "precision": plan(saved, kept_noise), **options}


CASES = {
    "bp": (MLP, "bp", {"loss_gradient": True, "loss_update": True, "optimizer": "adam"}),
    "bp-split": (MLP, "bp-split", {"first_input_gradient": True}),
    "convolutions": (CONVOLUTIONS, "bp", {}),
    "convolutions-split": (CONVOLUTIONS, "bp-split", {}),
    "batch-norm": (NORMS, "bp", {"optimizer": "momentum"}),
    "convolutions-lr": (CONVOLUTIONS, "lr", {"copies": 2}),
    "rademacher": (MLP, "lr", {"copies": 4, "noise": "rademacher", "group": 2}),
    "gauss-antithetic": (MLP, "lr", {"copies": 4, "noise": "gauss", "baseline": "antithetic"}),
    "hadamard-copy-mean": (MLP, "lr", {"copies": 4, "noise": "hadamard", "baseline": "copy-mean", "group": 2}),
    "sobol-accumulate": (MLP, "lr", {"copies": 4, "noise": "sobol", "reduction": "accumulate"}),
    "laplace-layerwise": (MLP, "lr", {"copies": 4, "noise": "laplace", "scope": "layerwise"}),
    "regenerated": (MLP, "lr", kept("int8", "regenerated", noise="rademacher", scope="layerwise")),
    "regenerated-signs": (MLP, "lr", kept("fp32", "regenerated", noise_code="sign", reduction="accumulate")),
    "signs": (MLP, "lr", kept("int8", "int8", input_code="sign", noise_code="sign")),
    "bits": (MLP, "lr", kept("sign1", "sign1", input_code="threshold", noise_code="sign", baseline="antithetic")),
    "halves": (MLP, "lr", kept("bf16", "fp16")),
    "segments": (MLP, "segments", {"copies": 4, "segments": (2,), "exact_head": True}),
    "evolution": (MLP, "lr", {"copies": 4, "weight_noise": (0, 1, 2)}),
    "evolution-regenerated": (MLP, "lr", kept("fp32", "regenerated", weight_noise=(0, 1, 2))),
}


TEXT = {"vocabulary": 20, "embedding": 4, "hidden": 5, "sequence": 3}
OTHERS = {
    "lstm": ("lstm", TEXT, "lr", {"copies": 2}, Settings()),
    "marked": ("rnn", {**TEXT, "noise": "state"}, "lr", {"copies": 2}, Settings()),
    "gru-bp": ("gru", TEXT, "bp", {}, Settings()),
    "masked": ("gcn", {"nodes": 8, "features": 4, "hidden": 3}, "lr", {"copies": 2}, Settings(mask="reach")),
    "attention": ("gat", {"nodes": 8, "features": 4, "hidden": 3, "heads": 2}, "bp", {}, Settings()),
    "spikes": ("snn", {"image_size": 4, "hidden": 6, "steps": 2}, "lr", {"copies": 2}, Settings()),
}


@pytest.fixture(autouse=True)
def _pretend(pretended):
    with pretended.pretending():
        yield


def computed(program, graph, batch, options, settings):
    prepared = prepare(program, graph, batch, options, settings)
    run = new_run(prepared, recording=False)
    body = task_body(prepared, run)
    for index in range(len(graph.tasks)):
        body(index)
    return results_of(run)


@pytest.mark.parametrize("case", CASES)
def test_every_task_stays_on_its_device_and_computes_the_same_bits(subject, pretended, monkeypatch, case):
    (model, cut, sizes), rule, chosen = CASES[case]
    one = subject(model, cut, **sizes)
    options = RuleOptions(microbatches=2, **chosen)
    settings = Settings(sigma_gradient=case == "gauss-antithetic")
    graph = RULES[rule](one.stages, options)
    # The kernels on codes are machine code; another device decodes and multiplies, which the reference then does, too.
    monkeypatch.setattr("alrsim.execution.job.stage_products", lambda *_: {})
    expected = computed(one.program, graph, one.batch(2), options, settings)
    monkeypatch.undo()
    found = computed(one.program.to(DEVICE), graph, one.batch(2).to(DEVICE), options, settings)
    assert found.sigma_gradients == expected.sigma_gradients
    for what in ("gradients", "buffers", "parameters", "losses"):
        ours, theirs = getattr(found, what), getattr(expected, what)
        assert set(ours) == set(theirs)
        for name, value in theirs.items():
            assert isinstance(ours[name], pretended.Pretended), f"{what} {name} is on {ours[name].device}"
            assert torch.equal(ours[name].inner, value), f"{what} {name}"
    assert any(bool(value.abs().sum() > 0) for value in expected.gradients.values())


@pytest.mark.parametrize("case", OTHERS)
def test_other_layers_masks_and_marks_too(subject, pretended, case):
    model, sizes, rule, chosen, settings = OTHERS[case]
    one = subject(model, "layer", 2, **sizes)
    options = RuleOptions(microbatches=2, **chosen)
    graph = RULES[rule](one.stages, options)
    batch = any_batch(one)
    expected = computed(one.program, graph, batch, options, settings)
    found = computed(one.program.to(DEVICE), graph, batch.to(DEVICE), options, settings)
    for what in ("gradients", "losses"):
        for name, value in getattr(expected, what).items():
            ours = getattr(found, what)[name]
            assert isinstance(ours, pretended.Pretended)
            assert torch.equal(ours.inner, value), f"{what} {name}"


def any_batch(one):
    """Two micro-batches for a model of tokens, of nodes or of images."""
    generator = torch.Generator().manual_seed(7)
    samples, classes, *positions = one.program.shapes[one.program.output]
    inputs = tuple(
        torch.randn(2 * samples, *value.shape[1:], generator=generator)
        if value.is_floating_point()
        else torch.randint(0, 20, (2 * samples, *value.shape[1:]), generator=generator)
        for value in one.model.example(1)
    )
    return Batch(inputs, torch.randint(0, classes, (2 * samples, *positions), generator=generator))


def test_training_steps_take_parameters_on_the_device(subject):
    one = subject(*MLP[:2], **MLP[2])
    options = RuleOptions(microbatches=2, copies=4, noise="rademacher")
    graph = RULES["lr"](one.stages, options)
    there = one.program.to(DEVICE)
    results = []
    for program, batch in ((one.program, one.batch(2)), (there, one.batch(2).to(DEVICE))):
        prepared = prepare(program, graph, batch, options)
        moved = {name: value * 1.5 for name, value in program.parameters.items()}
        results.append(
            step_gradients(prepared, None, parameters=moved, buffers=program.buffers, batch=batch, step=3, stream=1)
        )
    assert torch.equal(results[1].losses.inner, results[0].losses)
    for name, value in results[0].gradients.items():
        assert torch.equal(results[1].gradients[name].inner, value)


def test_scales_of_noise_are_measured_on_the_device(subject):
    one = subject(*MLP[:2], **MLP[2])
    there, batch = one.program.to(DEVICE), one.batch(1).to(DEVICE)
    assert value_spreads(there, there.parameters, batch) == value_spreads(
        one.program, one.program.parameters, one.batch(1)
    )
    assert len(relative_sigmas(there, there.parameters, batch, 0.02)) == len(one.stages.stages)


def test_moving_a_program_gives_a_new_one(subject):
    one = subject(*MLP[:2], **MLP[2])
    there = one.program.to(DEVICE)
    assert there.device == DEVICE
    assert one.program.device.type == "cpu"
    assert one.program.to("cpu") is one.program
    assert all(value.device == DEVICE for value in there.parameters.values())
    assert all(value.device.type == "cpu" for value in one.program.parameters.values())


def test_the_pretended_device_finds_a_stray_tensor(pretended):
    """The instrument itself: without this the tests above could pass on anything."""
    value = torch.ones(3, device=DEVICE)
    assert torch.equal((value + 1).inner, torch.full((3,), 2.0))
    with pytest.raises(pretended.StrayError, match="mixes"):
        value + torch.zeros(3)
    with pytest.raises(pretended.StrayError, match="mixes"):
        value + torch.ones(3, device=torch.device("meta", 2))
    with pytest.raises(RuntimeError, match="numpy"):
        value.numpy()
    assert type(value.cpu()) is torch.Tensor


def test_a_stray_tensor_in_a_kernel_is_found(subject, monkeypatch):
    """A mutation: totals made on the default device, as they were before steps could live elsewhere."""
    one = subject(*MLP[:2], **MLP[2])
    options = RuleOptions(microbatches=1, copies=2, reduction="accumulate")
    graph = RULES["lr"](one.stages, options)
    zeros = torch.zeros
    monkeypatch.setattr(
        "alrsim.execution.kernels.noising.torch.zeros",
        lambda *shape, **options: zeros(*shape, **{**options, "device": "cpu"}),
    )
    with pytest.raises(Exception, match="mixes tensors"):
        prepare(one.program.to(DEVICE), graph, one.batch(1).to(DEVICE), options)


def test_batches_move_whole():
    batch = Batch((torch.ones(2, 3),), torch.zeros(2, dtype=torch.int64)).to(DEVICE)
    assert batch.inputs[0].device == batch.targets.device == DEVICE
