"""Noise weighed only with the losses that it can reach: the same mean, much less variance."""

import math

import pytest
import torch
from torch import nn

from alrsim.cost.cut import cut_graph
from alrsim.cost.stages import build_stages
from alrsim.errors import ExecutionError
from alrsim.execution.executor import Batch, execute_prepared, prepare, sequential
from alrsim.execution.job import Settings
from alrsim.execution.programs.program import build_program
from alrsim.frontend.inject import inject
from alrsim.frontend.torch_export import export_model
from alrsim.frontend.torch_model import TorchModel
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.rules import RULES, RuleOptions
from alrsim.schedulers.registry import schedule

GCN = {"nodes": 40, "features": 5, "hidden": 4, "classes": 3}
TIMES = 7


def graph_batch(one, microbatches=1, samples=None):
    generator = torch.Generator().manual_seed(7)
    samples = samples or one.program.batch * microbatches
    inputs = torch.randn(samples, GCN["nodes"], GCN["features"], generator=generator)
    return Batch((inputs,), torch.randint(0, GCN["classes"], (samples, GCN["nodes"]), generator=generator))


class Causal(nn.Module):
    """Every step reads the steps up to itself, through a spike without a derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)
        self.register_buffer("past", torch.ones(TIMES, TIMES).tril() / TIMES)

    def forward(self, values):
        mixed = torch.matmul(self.past, (self.first(values) > 0).float() + self.first(values))
        return self.second(torch.tanh(mixed)).transpose(1, 2)


class Recurrent(nn.Module):
    """A recurrence with marked states and an output at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.Linear(5, 3), nn.Linear(3, 2)

    def forward(self, values):
        state, states = values.new_zeros(values.shape[0], 3), []
        for time in range(values.shape[1]):
            state = inject(torch.tanh(self.cell(torch.cat([values[:, time], state], 1))))
            states.append(state)
        return self.head(torch.stack(states, 1)).transpose(1, 2)


def program_of(module, width, cut="layer", batch=2):
    torch.manual_seed(1)
    model = TorchModel("sequence", module, lambda size: (torch.ones(size, TIMES, width),), 2)
    exported = export_model(model, batch)
    stages = build_stages(exported.graph, cut_graph(exported.graph, cut), batch=batch)
    generator = torch.Generator().manual_seed(2)
    data = torch.randn(batch, TIMES, width, generator=generator)
    targets = torch.randint(0, 2, (batch, TIMES), generator=generator)
    return stages, build_program(exported.graph, exported.program, stages), Batch((data,), targets)


def fields(program, stages, batch):
    """Of every noised value, by stage."""
    options = RuleOptions(copies=2)
    return prepare(program, RULES["lr"](stages, options), batch, options, Settings(mask="reach")).job.receptive_fields


def test_nodes_reach_the_nodes_that_the_layers_behind_them_connect(subject):
    """Noise behind the first aggregation reaches neighbours, in front of it theirs, too, and logits only themselves."""
    near = subject("gcn", "layer", 2, **GCN).model.module.adjacency > 0
    far = (near.float() @ near.float()) > 0
    assert not far.all()
    one = subject("gcn", "layer", 2, **GCN)
    behind, logits = (values[0] > 0 for values in fields(one.program, one.stages, graph_batch(one)).values())
    assert torch.equal(behind, near)
    assert torch.equal(logits, torch.eye(len(near)) > 0)
    one = subject("gcn", "operator", 2, **GCN)
    first = next(iter(fields(one.program, one.stages, graph_batch(one)).values()))[0] > 0
    assert torch.equal(first, far)


def test_steps_reach_their_future_even_through_spikes():
    stages, program, batch = program_of(Causal(), 3)
    found = fields(program, stages, batch)
    first = next(value for value in found[0])
    assert torch.equal(first, torch.ones(TIMES, TIMES).triu())


def test_a_marked_state_reaches_its_own_step_and_those_behind_it():
    torch.manual_seed(3)
    stages, program, batch = program_of(Recurrent(), 2)
    (marked,) = [stage.index for stage in stages.stages if stage.points]
    found = fields(program, stages, batch)[marked]
    assert torch.equal(torch.cat(found), torch.ones(TIMES, TIMES).triu())


def estimates(one, batch, options, mask, seeds):
    graph = RULES["lr"](one.stages, options)
    prepared = prepare(one.program, graph, batch, options, Settings(sigma=0.01, mask=mask))
    assert bool(prepared.job.receptive_fields) == (mask == "reach")
    found = []
    for seed in range(seeds):
        done = sequential(one.program, graph, batch, options, Settings(sigma=0.01, seed=seed, mask=mask)).gradients
        found.append(torch.cat([done[name].flatten() for name in one.program.parameters]).double())
    return torch.stack(found)


@pytest.mark.parametrize(
    "case",
    [
        {},
        {"reduction": "accumulate", "precision": PrecisionPlan(noise=Precision.REGENERATED)},
        {"scope": "layerwise", "baseline": "antithetic", "noise": "rademacher"},
    ],
    ids=str,
)
def test_masked_and_unmasked_estimates_share_their_mean_and_masked_ones_scatter_less(subject, case):
    one = subject("gcn", "layer", 1, **GCN)
    batch, seeds = graph_batch(one), 30
    leaf = {name: value.clone().requires_grad_() for name, value in one.program.parameters.items()}
    logits = torch.func.functional_call(one.model.module, leaf, batch.inputs)
    gradients = torch.autograd.grad(nn.functional.cross_entropy(logits, batch.targets), list(leaf.values()))
    truth = torch.cat([value.flatten() for value in gradients]).double()
    options = RuleOptions(copies=20, **case)
    scatter = {}
    for mask in ("none", "reach"):
        found = estimates(one, batch, options, mask, seeds)
        along = found @ truth / (truth @ truth)
        assert abs(float(along.mean()) - 1) < 4 * float(along.std()) / math.sqrt(seeds)
        z = (found.mean(0) - truth) / (found.std(0) / math.sqrt(seeds))
        assert float(z.abs().max()) < 4.5
        scatter[mask] = float(found.var(0).sum())
    assert scatter["reach"] < 0.6 * scatter["none"]


def test_schedules_agree_bit_for_bit(subject, problem_of):
    one = subject("gcn", "layer", 2, **GCN)
    options, settings = RuleOptions(microbatches=2, copies=4, group=2, noise_code="sign"), Settings(mask="reach")
    graph, batch = RULES["lr"](one.stages, options), graph_batch(one, 2)
    reference = sequential(one.program, graph, batch, options, settings)
    prepared, problem = prepare(one.program, graph, batch, options, settings), problem_of(graph, 2)
    for name in ("lr-free", "list"):
        done = execute_prepared(prepared, problem, schedule(problem, name), repeats=1, warmup=0, dispatch_overhead_ns=0)
        assert all(torch.equal(value, done.gradients[key]) for key, value in reference.gradients.items())


def test_one_loss_per_sample_has_no_positions_to_mask(subject):
    one = subject("mlp", "layer", hidden=8, features=12)
    options = RuleOptions(copies=2)
    with pytest.raises(ExecutionError, match="one loss per sample"):
        prepare(one.program, RULES["lr"](one.stages, options), one.batch(1), options, Settings(mask="reach"))
