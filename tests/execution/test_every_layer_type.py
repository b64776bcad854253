"""Every layer type of the zoo, and the usual ones that it lacks, run in the executor as torch runs them."""

from functools import cache

import pytest
import torch
from torch import nn

from alrsim.cost.cut import cut_graph
from alrsim.cost.stages import build_stages
from alrsim.errors import ExecutionError
from alrsim.estimators.vjp import local_vjp
from alrsim.execution.executor import Batch, execute_prepared, prepare, sequential
from alrsim.execution.programs.program import build_program
from alrsim.frontend.torch_export import export_model
from alrsim.frontend.torch_model import TorchModel
from alrsim.models import ZOO, build
from alrsim.rules import RULES, RuleOptions
from alrsim.schedulers.registry import schedule

TEXT = {"vocabulary": 50, "embedding": 6, "hidden": 8, "sequence": 5}
IMAGE = {"width": 4, "image_size": 16}
SMALL = {
    "mlp": {"features": 12, "hidden": 8},
    "resnet5": {**IMAGE, "norm": "group"},
    "resnet9": {"width": 2, "norm": "group"},
    "resnet12": {"width": 2, "image_size": 16},
    "vgg8": {"width": 2, "image_size": 16},
    "lstm": {**TEXT, "layers": 2, "sequence": 3},
    "gru": TEXT,
    "rnn": TEXT,
    "gcn": {"nodes": 12, "features": 6, "hidden": 4},
    "gat": {"nodes": 12, "features": 6, "hidden": 4, "heads": 2},
    "snn": {"image_size": 6, "hidden": 12, "steps": 3},
}
NEW = ("lstm", "gru", "rnn", "gcn", "gat", "snn")


class Attention(nn.Module):
    """Causal self-attention with heads, batch first throughout."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.into, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        batch, time, width = x.shape
        query, key, value = self.into(x).view(batch, time, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = torch.einsum("bhid,bhjd->bhij", query, key) * (width / self.heads) ** -0.5
        mask = torch.full((time, time), float("-inf")).triu(1)
        mixed = torch.softmax(scores + mask, dim=-1) @ value
        return self.out(mixed.transpose(1, 2).reshape(batch, time, width))


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(8), nn.LayerNorm(8)
        self.attention = Attention(8, 2)
        self.wide, self.narrow, self.head = nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = x + self.attention(self.first(x))
        x = x + self.narrow(nn.functional.gelu(self.wide(self.second(x))))
        return self.head(x.amax(dim=1))


class Norms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(8, 3)
        self.instance, self.group, self.layer = nn.InstanceNorm2d(4, affine=True), nn.GroupNorm(2, 4), nn.LayerNorm(8)

    def forward(self, x):
        x = self.group(self.instance(self.conv(x)))
        parts = torch.cat([x.mean((2, 3)), x.square().sum((2, 3)).clamp(min=1e-3).rsqrt()], dim=1)
        return self.head(self.layer(parts.exp().maximum(parts.pow(2))))


class MergedAttention(nn.Module):
    """torch's own attention, which is time first inside."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        mask = torch.triu(torch.full((5, 5), float("-inf")), 1)
        return self.head((x + self.inside(x, x, x, attn_mask=mask, need_weights=False)[0]).mean(1))


MODULES = {"transformer": (Transformer, (5, 8)), "norms": (Norms, (3, 6, 6)), "attention": (MergedAttention, (5, 8))}


def model_of(name: str) -> TorchModel:
    if name in SMALL:
        return build(name, **SMALL[name])
    kind, shape = MODULES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        module = kind()

    def example(batch):
        return (torch.randn(batch, *shape, generator=torch.Generator().manual_seed(5)),)

    return TorchModel(name, module, example, 3)


@cache
def exported_of(name: str, batch: int):
    model = model_of(name)
    return model, export_model(model, batch)


@cache
def staged(name: str, cut: str, batch: int):
    model, exported = exported_of(name, batch)
    stages = build_stages(exported.graph, cut_graph(exported.graph, cut), batch=batch)
    return model, stages, build_program(exported.graph, exported.program, stages)


def held_by(program, code) -> list[list[torch.Tensor]]:
    """Parameters and buffers that a stage reads."""
    return [[program.parameters[name] for name in code.parameters], [program.buffers[name] for name in code.buffers]]


def data(model: TorchModel, samples: int) -> Batch:
    inputs = model.example(samples)
    with torch.no_grad():
        shape = model.module(*inputs).shape
    targets = torch.randint(0, model.classes, (samples, *shape[2:]), generator=torch.Generator().manual_seed(3))
    return Batch(inputs, targets)


def autograd_of(model: TorchModel, batch: Batch):
    parameters = dict(model.module.named_parameters())
    loss = nn.functional.cross_entropy(model.module(*batch.inputs), batch.targets)
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    pairs = zip(parameters.items(), found, strict=True)
    return {name: torch.zeros_like(value) if gradient is None else gradient for (name, value), gradient in pairs}


def test_this_file_knows_every_model_of_the_zoo() -> None:
    assert set(SMALL) == set(ZOO)


@pytest.mark.parametrize("cut", ["layer", "balanced:2"])
@pytest.mark.parametrize("name", [*SMALL, *MODULES])
def test_backpropagation_equals_autograd_of_the_module(name: str, cut: str) -> None:
    model, stages, program = staged(name, cut, 2)
    batch, options = data(model, 6), RuleOptions(microbatches=3)
    expected = autograd_of(model, batch)
    scale = max(float(value.abs().max()) for value in expected.values())
    for rule in ("bp", "bp-split"):
        if rule == "bp-split" and name in ("lstm", "gru", "rnn"):
            continue  # a cell's weights are read at every step, which the rule refuses to split
        result = sequential(program, RULES[rule](stages, options), batch, options)
        assert set(result.gradients) == set(expected)
        for parameter, value in expected.items():
            torch.testing.assert_close(
                result.gradients[parameter], value, rtol=1e-5, atol=2e-6 * scale, msg=f"{rule} {parameter}"
            )


@pytest.mark.parametrize(
    ("name", "group", "scope"),
    [
        (name, group, scope)
        for name in (*NEW, "transformer", "norms")
        for group, scope in ((None, "joint"), (2, "layerwise"))
    ]
    + [("gru", 2, "joint"), ("gru", None, "layerwise")],
)
def test_lr_scheduled_equals_lr_sequential_bit_for_bit(problem_of, name: str, group: int | None, scope: str) -> None:
    model, stages, program = staged(name, "layer", 2)
    options = RuleOptions(microbatches=2, copies=4, group=group, scope=scope)
    graph, batch = RULES["lr"](stages, options), data(model, 4)
    prepared = prepare(program, graph, batch, options)
    problem = problem_of(graph, 2)
    reference = sequential(program, graph, batch, options)
    assert set(reference.gradients) == {name for name, _ in model.module.named_parameters()}
    assert any(bool(value.abs().sum() > 0) for value in reference.gradients.values())
    for chosen in ("lr-fixed", "list"):
        result = execute_prepared(
            prepared, problem, schedule(problem, chosen), repeats=1, warmup=0, dispatch_overhead_ns=0
        )
        assert all(torch.equal(result.gradients[key], value) for key, value in reference.gradients.items())


def test_lr_trains_the_layers_in_front_of_spikes_where_bp_says_that_it_cannot() -> None:
    model, stages, program = staged("snn", "layer", 2)
    batch, options = data(model, 4), RuleOptions(microbatches=2, copies=4)
    exact = RULES["bp"](stages, RuleOptions(microbatches=2))
    dead = sequential(program, exact, batch, RuleOptions(microbatches=2)).gradients
    alive = sequential(program, RULES["lr"](stages, options), batch, options).gradients
    for stage in (0, 1):
        assert any(text.startswith(f"stage {stage} (") and "BP does not train them" in text for text in exact.notes)
    assert not dead["linears.0.weight"].any()
    assert not dead["linears.1.weight"].any()
    assert alive["linears.0.weight"].any()
    assert alive["linears.1.weight"].any()


def test_lr_with_its_noise_behind_the_spikes_is_refused() -> None:
    model, stages, program = staged("snn", "balanced:2", 2)
    options = RuleOptions(copies=4)
    with pytest.raises(ExecutionError, match=r"only step functions lead from parameter linears\.0"):
        prepare(program, RULES["lr"](stages, options), data(model, 2), options)


@pytest.mark.parametrize(
    ("name", "batch"), [(name, 5) for name in (*NEW, "transformer", "norms")] + [("rnn", 1), ("transformer", 1)]
)
def test_stacked_copies_of_different_data_are_single_runs(name: str, batch: int) -> None:
    """Batches of 5 and 1 are the odd ones: nothing but the numbers tells 5 samples from 5 time steps."""
    model, _, program = staged(name, "layer", batch)
    runs = [model.example(3 * batch)[0][index * batch : (index + 1) * batch] for index in range(3)]
    values = [{program.inputs[0]: run} for run in runs]
    with torch.no_grad():
        for single, stacked in zip(program.at(1), program.at(3), strict=True):
            held = [
                [program.parameters[key] for key in single.parameters],
                [program.buffers[k] for k in single.buffers],
            ]
            for known in values:
                outputs = single.run([known[key] for key in single.inputs], *held)[0]
                known.update(zip(single.outputs, outputs, strict=True))
            joint = [torch.cat([known[key] for known in values]) for key in stacked.inputs]
            for key, value in zip(stacked.outputs, stacked.run(joint, *held)[0], strict=True):
                torch.testing.assert_close(value, torch.cat([known[key] for known in values]), rtol=1e-4, atol=1e-5)
        for run, known in zip(runs, values, strict=True):
            torch.testing.assert_close(known[program.output], model.module(run), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "stage"), [("rnn", 0), ("lstm", 2), ("gru", 2), ("gat", 0), ("norms", 0), ("transformer", 1)]
)
def test_a_stages_local_gradient_is_its_slope(name: str, stage: int) -> None:
    """Against central differences of the stage's own function along random directions, for a random cotangent."""
    model, _, program = staged(name, "layer", 2)
    code = program.at(1)[stage]
    generator = torch.Generator().manual_seed(9)
    known = {program.inputs[0]: model.example(2)[0]}
    for single in program.at(1)[: stage + 1]:
        held = held_by(program, single)
        inputs = [known[key] for key in single.inputs]
        outputs = single.run(inputs, *held)[0]
        known.update(zip(single.outputs, [value.detach() for value in outputs], strict=True))
    parameters = [program.parameters[key] for key in code.parameters]
    buffers = [program.buffers[key] for key in code.buffers]
    signals = [torch.randn(value.shape, generator=generator) for value in outputs]
    found, _ = local_vjp(lambda v, w: code.run(v, w, buffers)[0], inputs, parameters, signals)
    for index, gradient in enumerate(found):
        direction = torch.randn(gradient.shape, generator=generator)

        def along(step: float, at: int = index, way: torch.Tensor = direction) -> float:
            moved = [value + step * way if one == at else value for one, value in enumerate(parameters)]
            with torch.no_grad():
                values = code.run(inputs, moved, buffers)[0]
            return sum(float((a.double() * b.double()).sum()) for a, b in zip(values, signals, strict=True))

        slope = (along(1e-2) - along(-1e-2)) / 2e-2
        assert slope == pytest.approx(float((gradient * direction).sum()), rel=2e-2, abs=2e-2)


class MeanOverBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        hidden = self.inner(x)
        return self.outer(hidden - hidden.mean(dim=0, keepdim=True))


def test_samples_that_depend_on_each_other_are_found_by_numbers_where_shapes_fit() -> None:
    model = TorchModel("centred", MeanOverBatch(), lambda size: (torch.ones(size, 4),), 3)
    exported = export_model(model, 2)
    stages = build_stages(exported.graph, cut_graph(exported.graph, "layer"), batch=2)
    program = build_program(exported.graph, exported.program, stages)
    with pytest.raises(ExecutionError, match="of a stacked micro-batch depends on the other copy's samples"):
        program.at(3)


def test_a_time_first_value_between_stages_cannot_be_stacked_and_is_named() -> None:
    _, _, program = staged("attention", "layer", 2)
    with pytest.raises(ExecutionError, match=r"linear has shape .*, not the batch in front"):
        program.at(2)


def test_torchs_attention_is_stacked_where_it_is_inside_a_stage() -> None:
    model, _, program = staged("attention", "balanced:1", 2)
    inputs = model.example(6)[0]
    code = program.at(3)[0]
    held = held_by(program, code)
    with torch.no_grad():
        (stacked,) = code.run([inputs], *held)[0]
        torch.testing.assert_close(stacked, model.module(inputs), rtol=1e-5, atol=1e-6)
