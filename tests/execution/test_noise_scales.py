"""The gradient of the noise scale, and scales from data."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from alrsim.errors import ExecutionError
from alrsim.estimators.kernels.noise_key import PhiloxKey
from alrsim.estimators.kernels.philox import philox_noise
from alrsim.estimators.policy import PRESETS, Estimator
from alrsim.execution.executor import execute_prepared, prepare, sequential
from alrsim.execution.job import Settings, settings_of
from alrsim.execution.kernels.noise_scales import balanced_sigmas, relative_sigmas, value_spreads
from alrsim.execution.kernels.sigma_gradient import even_losses, scale_score
from alrsim.rules import RULES, RuleOptions
from alrsim.schedulers.registry import schedule


@pytest.mark.parametrize("kind", ["gauss", "laplace", "sobol"])
@pytest.mark.parametrize("known", [True, False])
def test_of_a_quadratic_it_is_sigma_squared_times_the_trace(kind, known):
    """L = v'Av/2 + b'v: E[L] = ... + sigma^2 tr(A) / 2, so d E[L] / d log sigma = sigma^2 tr(A)."""
    generator = torch.Generator().manual_seed(2)
    matrix, slope, sigma, draws = torch.randn(4, 4, generator=generator), torch.randn(4, generator=generator), 0.3, 16
    matrix = matrix @ matrix.T
    terms = []
    for seed in range(400):
        noise = philox_noise(PhiloxKey(seed), range(draws), range(1), (4,), kind)
        rows = torch.cat([noise, -noise]) * sigma
        losses = torch.einsum("kbi,ij,kbj->kb", rows, matrix, rows) / 2 + rows @ slope
        even = even_losses(losses, draws, torch.zeros(1) if known else None)
        terms.append(float((even * scale_score(noise, kind)).mean()))
    terms = torch.tensor(terms, dtype=torch.float64)
    error = float(terms.std()) / 20
    # Sobol points of one scramble are not independent: their own mean removes more than a constant.
    slack = 0.1 if kind == "sobol" and not known else 0.0
    truth = sigma**2 * float(matrix.trace())
    assert abs(float(terms.mean()) - truth) < 4 * error + slack * truth
    assert error < 0.1 * truth


def smoothed(one, batch, sigma, draws=40_000):
    """``d E[CE(v + sigma e)] / d log sigma`` of a linear layer by reparametrisation."""
    logits = one.model.module(batch.inputs[0]).detach()
    noise = torch.randn(draws, *logits.shape, generator=torch.Generator().manual_seed(1))
    scale = torch.tensor(math.log(sigma), requires_grad=True)
    moved = (logits + scale.exp() * torch.cat([noise, -noise])).flatten(0, 1)
    loss = F.cross_entropy(moved, batch.targets.repeat(2 * draws))
    return float(torch.autograd.grad(loss, scale)[0])


CASES = [
    {},
    {"reduction": "accumulate"},
    {"scope": "layerwise", "group": 100},
    {"noise_code": "sign"},
    {"microbatches": 2},
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_executed_gradient_of_sigma_is_that_of_the_smoothed_loss(subject, case):
    one = subject("linear", "layer", 3)
    batch, sigma = one.batch(case.get("microbatches", 1)), 0.5
    truth = smoothed(one, batch, sigma)
    options = RuleOptions(copies=200, baseline="antithetic", **case)
    graph, found = RULES["lr"](one.stages, options), []
    for seed in range(40):
        settings = Settings(sigma=sigma, seed=seed, sigma_gradient=True)
        found.append(sequential(one.program, graph, batch, options, settings).sigma_gradients[0])
    found = torch.tensor(found)
    error = float(found.std()) / math.sqrt(40)
    assert abs(float(found.mean()) - truth) < 4 * error
    assert error < 0.1 * truth


def test_at_small_sigma_it_is_the_trace_of_the_hessian_of_cross_entropy(subject):
    one = subject("linear", "layer", 3)
    batch, sigma = one.batch(1), 0.02
    probability = one.model.module(batch.inputs[0]).detach().softmax(1)
    truth = sigma**2 * float((1 - probability.square().sum(1)).mean())
    options = RuleOptions(copies=400, baseline="antithetic")
    graph = RULES["lr"](one.stages, options)
    found = torch.tensor(
        [
            sequential(
                one.program, graph, batch, options, Settings(sigma=sigma, seed=seed, sigma_gradient=True)
            ).sigma_gradients[0]
            for seed in range(30)
        ]
    )
    error = float(found.std()) / math.sqrt(30)
    assert abs(float(found.mean()) - truth) < 4 * error < 0.4 * truth


def test_noise_on_parameters_has_one_too_and_schedules_agree(subject, problem_of):
    one = subject("mlp", "layer", hidden=8, features=12)
    options = RuleOptions(microbatches=2, copies=4, group=2, baseline="antithetic", weight_noise=(0,))
    settings = Settings(sigma=0.1, sigma_gradient=True)
    graph = RULES["lr"](one.stages, options)
    reference = sequential(one.program, graph, one.batch(2), options, settings)
    assert set(reference.sigma_gradients) == {0, 1, 2}
    assert all(value != 0 for value in reference.sigma_gradients.values())
    prepared, problem = prepare(one.program, graph, one.batch(2), options, settings), problem_of(graph, 2)
    for name in ("lr-free", "list"):
        done = execute_prepared(prepared, problem, schedule(problem, name), repeats=1, warmup=0, dispatch_overhead_ns=0)
        assert done.sigma_gradients == reference.sigma_gradients


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noise": "rademacher"}, "has no gradient of sigma"),
        ({"baseline": "antithetic", "group": 1}, "needs a baseline"),
    ],
)
def test_what_has_no_gradient_is_refused(subject, changes, message):
    one = subject("linear", "layer", 3)
    options = RuleOptions(copies=4, **changes)
    with pytest.raises(ExecutionError, match=message):
        prepare(one.program, RULES["lr"](one.stages, options), one.batch(1), options, Settings(sigma_gradient=True))


def test_relative_scales_are_shares_of_the_values_spread(subject):
    one = subject("mlp", "layer", 12, hidden=16, features=12)
    batch, weights = one.batch(1), one.program.parameters
    first = torch.nn.functional.linear(batch.inputs[0], *(weights[name] for name in one.program.at(1)[0].parameters))
    spreads = value_spreads(one.program, weights, batch)
    assert spreads[0] == pytest.approx(float(first.std()), rel=1e-5)
    assert relative_sigmas(one.program, weights, batch, 0.02)[0] == pytest.approx(0.02 * float(first.std()), rel=1e-5)
    on_weights = relative_sigmas(one.program, weights, batch, (0.1, 0.2, 0.3), weight_noise=(1,))
    values = torch.cat([weights[name].flatten() for name in one.program.at(1)[1].parameters])
    assert on_weights[1] == pytest.approx(0.2 * float(values.std()), rel=1e-5)


def test_balanced_scales_move_the_loss_alike(subject):
    one = subject("mlp", "layer", 12, hidden=16, features=12)
    options, start = RuleOptions(copies=2), Settings(sigma=0.01)
    sigmas = balanced_sigmas(one.program, one.batch(1), options, start, RULES["lr"], copies=64)
    again = balanced_sigmas(
        one.program, one.batch(1), options, replace(start, sigma=sigmas, seed=1), RULES["lr"], copies=64
    )
    assert math.prod(sigmas) == pytest.approx(0.01**3)
    assert max(sigmas) > 1.5 * min(sigmas)
    for first, second in zip(sigmas, again, strict=True):
        assert second == pytest.approx(first, rel=0.15)


def test_settings_say_what_a_plan_says():
    trainable = (True, True, False, True)
    for preset in PRESETS.values():
        assert settings_of(preset.plan(trainable), seed=3, step=4) == Settings(0.02, seed=3, step=4)
    mixed = (Estimator(sigma=0.1), Estimator(sigma=0.2, weight_code="fp32"))
    assert settings_of(mixed).sigma == (0.1, 0.2)
    learned = Estimator(sigma_rule="learned", baseline="antithetic")
    assert settings_of((learned, learned), sigmas=(0.5, 0.25)) == Settings((0.5, 0.25), sigma_gradient=True)
    with pytest.raises(ExecutionError, match="only with data"):
        settings_of((Estimator(sigma_rule="relative"),))
    with pytest.raises(ExecutionError, match="share their losses"):
        settings_of((Estimator(), Estimator(weight_code="int8")))
