"""Noise on parameters: unbiased for the smoothed loss, the same for every sample, and under every schedule."""

import math

import pytest
import torch
from torch.nn import functional as F

from alrsim.errors import ExecutionError
from alrsim.execution.executor import execute_prepared, prepare, sequential
from alrsim.execution.job import Settings
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.rules import RULES, RuleOptions
from alrsim.schedulers.registry import schedule

SEEDS = 50


def estimates(one, batch, options, sigma, seeds=SEEDS):
    """``(seeds, parameters)``: every parameter's estimate, flat."""
    graph = RULES["lr"](one.stages, options)
    found = []
    for seed in range(seeds):
        done = sequential(one.program, graph, batch, options, Settings(sigma=sigma, seed=seed)).gradients
        found.append(torch.cat([done[name].flatten() for name in one.program.parameters]))
    return torch.stack(found).double()


def along(found, truth):
    """Mean and standard error of ``<estimate, truth> / |truth|^2``."""
    values = found @ truth / (truth @ truth)
    return float(values.mean()), float(values.std()) / math.sqrt(len(values))


@pytest.mark.parametrize("scope", ["joint", "layerwise"])
@pytest.mark.parametrize("baseline", ["clean", "copy-mean", "antithetic"])
@pytest.mark.parametrize("noise", ["gauss", "rademacher"])
def test_at_small_sigma_the_mean_is_the_gradient(subject, autograd, scope, baseline, noise):
    one = subject("linear", "layer", 3)
    batch = one.batch(2)
    expected, _ = autograd(one.model, batch, 1)
    truth = torch.cat([expected[name].flatten() for name in one.program.parameters]).double()
    options = RuleOptions(
        microbatches=2, copies=16, weight_noise=(0,), scope=scope, baseline=baseline, noise=noise, group=8
    )
    found = estimates(one, batch, options, 0.01)
    mean, error = along(found, truth)
    assert abs(mean - 1) < 4 * error < 0.4
    z = (found.mean(0) - truth) / (found.std(0) / math.sqrt(SEEDS))
    assert float(z.abs().max()) < 4.5


def smoothed_gradient(one, batch, sigma, draws=200_000):
    """The gradient of the loss smoothed over Gaussian noise on the parameters, by autograd at every draw."""
    generator = torch.Generator().manual_seed(11)
    names = list(one.program.parameters)
    weight, bias = (one.program.parameters[name] for name in names)
    total = torch.zeros(weight.numel() + bias.numel(), dtype=torch.float64)
    chunk = 20_000
    for _ in range(draws // chunk):
        shift = sigma * torch.randn(chunk, *weight.shape, generator=generator)
        weights = (weight + shift).requires_grad_()
        biases = (bias + sigma * torch.randn(chunk, *bias.shape, generator=generator)).requires_grad_()
        logits = torch.einsum("koi,bi->kbo", weights, batch.inputs[0]) + biases[:, None]
        targets = batch.targets.repeat(chunk)
        loss = F.cross_entropy(logits.flatten(0, 1), targets, reduction="sum") / len(batch.targets)
        gradients = torch.autograd.grad(loss, [weights, biases])
        total += torch.cat([value.double().sum(0).flatten() for value in gradients])
    return total / draws


def test_at_large_sigma_the_mean_is_the_gradient_of_the_smoothed_loss_not_of_the_loss(subject, autograd):
    one = subject("linear", "layer", 3)
    batch, sigma = one.batch(1), 1.0
    smooth = smoothed_gradient(one, batch, sigma)
    plain, _ = autograd(one.model, batch, 1)
    sharp = torch.cat([plain[name].flatten() for name in one.program.parameters]).double()
    options = RuleOptions(copies=200, weight_noise=(0,), baseline="antithetic")
    found = estimates(one, batch, options, sigma)
    z = (found.mean(0) - smooth) / (found.std(0) / math.sqrt(SEEDS))
    assert float(z.abs().max()) < 4.5
    mean, error = along(found, sharp)
    assert abs(mean - 1) > 6 * error


@pytest.mark.parametrize("noise", ["gauss", "laplace"])
def test_signs_converge_to_their_own_expectation(subject, autograd, noise):
    """AES at small sigma: E[(e . g) sign(e_i)] / E|e| = g_i, so signs on their scale point along the gradient."""
    one = subject("linear", "layer", 3)
    batch = one.batch(1)
    expected, _ = autograd(one.model, batch, 1)
    truth = torch.cat([expected[name].flatten() for name in one.program.parameters]).double()
    options = RuleOptions(copies=64, weight_noise=(0,), noise=noise, noise_code="sign")
    found = estimates(one, batch, options, 0.01)
    mean, error = along(found, truth)
    assert abs(mean - 1) < 4 * error < 0.4


def test_signs_at_large_sigma_have_the_expectation_that_brute_force_finds(subject):
    one = subject("linear", "layer", 3)
    batch, sigma = one.batch(1), 0.5
    weight, bias = one.program.parameters.values()
    generator = torch.Generator().manual_seed(5)
    noises = [torch.randn(400_000, *value.shape, generator=generator) for value in (weight, bias)]
    logits = torch.einsum("koi,bi->kbo", weight + sigma * noises[0], batch.inputs[0])
    logits = logits + (bias + sigma * noises[1])[:, None]
    targets = batch.targets.repeat(len(logits))
    losses = F.cross_entropy(logits.flatten(0, 1), targets, reduction="none").view(len(logits), -1).mean(1)
    scale = math.sqrt(math.pi / 2) / sigma
    centred = (losses - losses.mean()) * scale
    terms = torch.cat([(centred.view(-1, *(1,) * (e.dim() - 1)) * e.sign()).flatten(1) for e in noises], 1).double()
    expected, spread = terms.mean(0), terms.std(0) / math.sqrt(len(terms))
    options = RuleOptions(copies=200, weight_noise=(0,), noise_code="sign", baseline="copy-mean")
    found = estimates(one, batch, options, sigma)
    z = (found.mean(0) - expected) / (found.var(0) / SEEDS + spread**2).sqrt()
    assert float(z.abs().max()) < 4.5


MIXES = [
    {"weight_noise": (0, 1)},
    {"weight_noise": (0,), "scope": "layerwise"},
    {"weight_noise": (1,), "scope": "layerwise", "stage_copies": (4, 2, 6)},
    {"weight_noise": (0,), "reduction": "accumulate", "noise": "rademacher"},
    {"weight_noise": (0, 1, 2), "baseline": "antithetic", "noise_code": "sign"},
    {"weight_noise": (1,), "precision": PrecisionPlan(noise=Precision.REGENERATED), "noise_code": "sign"},
    {"weight_noise": (1,), "precision": PrecisionPlan(noise=Precision.SIGN1), "noise_code": "sign"},
]


@pytest.mark.parametrize("case", MIXES)
def test_mixed_with_noise_on_values_schedules_agree_bit_for_bit(subject, problem_of, case):
    one = subject("mlp", "layer", hidden=8, features=12)
    options = RuleOptions(microbatches=2, copies=4, group=2, **case)
    graph = RULES["lr"](one.stages, options)
    prepared = prepare(one.program, graph, one.batch(2), options)
    problem = problem_of(graph, 2)
    reference = sequential(one.program, graph, one.batch(2), options)
    assert all(bool(value.abs().sum() > 0) for value in reference.gradients.values())
    for name in ("lr-free", "list"):
        done = execute_prepared(prepared, problem, schedule(problem, name), repeats=1, warmup=0, dispatch_overhead_ns=0)
        assert all(torch.equal(value, done.gradients[key]) for key, value in reference.gradients.items())


@pytest.mark.parametrize("scope", ["joint", "layerwise"])
def test_hybrids_of_convolutions_are_unbiased(subject, autograd, scope):
    """ES on the first convolution, LR on the rest: the estimate's mean points along the gradient."""
    one = subject("resnet5", "layer", 3, width=4, image_size=16)
    batch = one.batch(1)
    expected, _ = autograd(one.model, batch, 1)
    truth = torch.cat([expected[name].flatten() for name in one.program.parameters]).double()
    options = RuleOptions(copies=40, weight_noise=(0,), scope=scope)
    found = estimates(one, batch, options, 0.003, seeds=24)
    mean, error = along(found, truth)
    assert abs(mean - 1) < 4 * error < 1.0


def test_micro_batches_share_the_noise_of_parameters(subject):
    small, large = (subject("mlp", "layer", size, hidden=8, features=12) for size in (3, 12))
    batch, settings = small.batch(4), Settings(sigma=0.05, seed=3)
    found = []
    for one, microbatches in ((small, 4), (large, 1)):
        options = RuleOptions(microbatches=microbatches, copies=3, weight_noise=(0, 1, 2))
        found.append(sequential(one.program, RULES["lr"](one.stages, options), batch, options, settings).gradients)
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-3, atol=1e-5)


def test_nothing_is_kept_but_noise(subject):
    one = subject("mlp", "layer", hidden=8, features=12)
    options = RuleOptions(copies=4, weight_noise=(0, 1, 2))
    prepared = prepare(one.program, RULES["lr"](one.stages, options), one.batch(1), options)
    entries = prepared.ledger.entries
    assert not [key for key in entries if key[0] in ("code", "saved")]
    parameters = sum(value.nbytes for value in one.program.parameters.values())
    assert sum(entry.bytes for key, entry in entries.items() if key[0] == "noise") == 4 * parameters


def test_batch_norm_is_refused(subject):
    one = subject("resnet5", "layer", width=4, image_size=16, norm="batch")
    options = RuleOptions(copies=2, weight_noise=(0,))
    with pytest.raises(ExecutionError, match="mixes the samples of a batch"):
        prepare(one.program, RULES["lr"](one.stages, options), one.batch(1), options)
