"""Noise on marked states and gates of recurrent cells: unbiased for the smoothed loss, no gradient through time."""

import math

import pytest
import torch
from torch.nn import functional as F

from alrsim.errors import OptionError
from alrsim.execution.executor import Batch, execute_prepared, prepare, sequential
from alrsim.execution.job import Settings
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.models import recurrent
from alrsim.rules import RULES, RuleOptions
from alrsim.schedulers.registry import schedule

SIZES = {"vocabulary": 20, "embedding": 4, "hidden": 3, "sequence": 4, "classes": 3}
SEEDS = 24


def texts(one, microbatches=1):
    generator = torch.Generator().manual_seed(7)
    samples = one.program.batch * microbatches
    tokens = torch.randint(0, SIZES["vocabulary"], (samples, SIZES["sequence"]), generator=generator)
    return Batch((tokens,), torch.randint(0, SIZES["classes"], (samples,), generator=generator))


def estimates(one, batch, options, sigma, seeds=SEEDS):
    graph = RULES["lr"](one.stages, options)
    found = []
    for seed in range(seeds):
        done = sequential(one.program, graph, batch, options, Settings(sigma=sigma, seed=seed)).gradients
        found.append(torch.cat([done[name].flatten() for name in recurrent_names(one)]))
    return torch.stack(found).double()


def recurrent_names(one):
    """Parameters of the cell: the stage that has marks."""
    (stage,) = [stage.index for stage in one.stages.stages if stage.points]
    return one.program.at(1)[stage].parameters


def flat(one, gradients):
    return torch.cat([gradients[name].flatten() for name in recurrent_names(one)]).double()


@pytest.mark.parametrize(
    ("model", "case"),
    [
        ("rnn", {"noise": "state"}),
        ("gru", {"noise": "state", "scope": "layerwise", "microbatches": 2}),
        ("lstm", {"noise": "state"}),
        ("gru", {"noise": "gates"}),
        ("lstm", {"noise": "gates", "reduction": "accumulate", "baseline": "antithetic"}),
        ("rnn", {"noise": "state", "scope": "layerwise", "reduction": "accumulate", "group": 64}),
        # c is open, but reaches what leaves the cell through marked values only; its own path is inside the local VJP.
        ("lstm", {"noise": "hidden"}),
    ],
    ids=str,
)
def test_at_small_sigma_the_mean_is_the_gradient(subject, autograd, model, case):
    case = dict(case)
    marks = {key: case.pop(key) for key in ("noise",) if key in case}
    one = subject(model, "layer", 3, **SIZES, **marks)
    batch = texts(one, case.get("microbatches", 1))
    expected, _ = autograd(one.model, batch, 1)
    truth = flat(one, expected)
    found = estimates(one, batch, RuleOptions(copies=128, **case), 0.003)
    along = found @ truth / (truth @ truth)
    error = float(along.std()) / math.sqrt(SEEDS)
    assert abs(float(along.mean()) - 1) < 4 * error < 1
    z = (found.mean(0) - truth) / (found.std(0) / math.sqrt(SEEDS))
    assert float(z.abs().max()) < 5


def smoothed_gradient(one, batch, sigma, monkeypatch, draws=12_000):
    """By autograd through the cell with noise added at its marks, on many copies of the batch at once."""
    generator = torch.Generator().manual_seed(3)
    chunk = 2000

    def noisy(value):
        return value + sigma * torch.randn(value.shape, generator=generator)

    monkeypatch.setattr(recurrent, "inject", noisy)
    module, total = one.model.module, 0
    named = dict(module.named_parameters())
    for _ in range(draws // chunk):
        loss = F.cross_entropy(module(batch.inputs[0].repeat(chunk, 1)), batch.targets.repeat(chunk))
        gradients = torch.autograd.grad(loss, [named[name] for name in recurrent_names(one)])
        total = total + torch.cat([value.flatten() for value in gradients]).double() * chunk
    monkeypatch.undo()
    return total / draws


@pytest.mark.parametrize("model", ["rnn", "gru", "lstm"])
def test_at_large_sigma_the_mean_is_the_gradient_of_the_smoothed_loss(subject, autograd, model, monkeypatch):
    """Every copy's gradient is taken on its own noisy trajectory, so that nothing is left out at any sigma (pairs would
    weigh one trajectory with the loss of the other)."""
    one = subject(model, "layer", 3, **SIZES, noise="state")
    batch, sigma = texts(one), 0.7
    # Noise on the marks alone: the embedding and the head are exact or have noise of their own segment.
    options = RuleOptions(copies=400)
    smooth = smoothed_gradient(one, batch, sigma, monkeypatch)
    plain, _ = autograd(one.model, batch, 1)
    settings = tuple(sigma if stage.points else 1e-4 for stage in one.stages.stages)
    found = estimates(one, batch, options, settings, seeds=24)
    z = (found.mean(0) - smooth) / (found.std(0) / math.sqrt(24))
    assert float(z.abs().max()) < 5
    sharp = flat(one, plain)
    assert float((smooth - sharp).norm()) > 0.1 * float(sharp.norm())


def test_states_that_leave_unmarked_are_refused(subject):
    one = subject("rnn", "layer", 3, **SIZES, noise="state", every=2)
    with pytest.raises(OptionError, match="do not cut every path"):
        RULES["lr"](one.stages, RuleOptions(copies=4))


CASES = [
    {},
    {"reduction": "accumulate", "noise": "rademacher"},
    {"scope": "layerwise", "noise_code": "sign"},
    {"noise_code": "sign", "baseline": "antithetic"},
    {"precision": PrecisionPlan(noise=Precision.REGENERATED)},
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_schedules_agree_bit_for_bit(subject, problem_of, case):
    one = subject("gru", "layer", 3, **SIZES, noise="state")
    options = RuleOptions(microbatches=2, copies=4, group=2, **case)
    graph = RULES["lr"](one.stages, options)
    prepared = prepare(one.program, graph, texts(one, 2), options)
    problem = problem_of(graph, 2)
    reference = sequential(one.program, graph, texts(one, 2), options)
    assert all(bool(value.abs().sum() > 0) for value in reference.gradients.values())
    for name in ("lr-free", "list"):
        done = execute_prepared(prepared, problem, schedule(problem, name), repeats=1, warmup=0, dispatch_overhead_ns=0)
        assert all(torch.equal(value, done.gradients[key]) for key, value in reference.gradients.items())
