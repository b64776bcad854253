"""What is known about the estimators, one test per fact: closed forms, the variance law, and what must be refused.

Expectations of coded noise are integrals over the two noise elements of a sample, computed on a grid; everything else
is autograd or algebra.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alrsim.cost.cut import cut_graph
from alrsim.cost.stages import build_stages
from alrsim.errors import ExecutionError, OptionError
from alrsim.estimators.codes import decode, encode
from alrsim.estimators.kernels.noise_key import PhiloxKey
from alrsim.estimators.kernels.philox import philox_noise
from alrsim.estimators.variance_law import Array, law
from alrsim.estimators.vjp import convolution_vjp, linear_vjp
from alrsim.execution.executor import Batch, prepare, sequential
from alrsim.execution.job import Settings
from alrsim.execution.programs.program import build_program
from alrsim.frontend.inject import inject
from alrsim.frontend.torch_export import export_model
from alrsim.frontend.torch_model import TorchModel
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.models import build
from alrsim.quality.curves import LAYER_MEAN, measure_quality
from alrsim.quality.reference import true_gradient
from alrsim.quality.sampler import Sampler, Subject, subject_of
from alrsim.rules import RULES, RuleOptions

SMALL = Settings(sigma=0.002, seed=4)
TINY = Settings(sigma=0.0005, seed=4)


def lr(**changes: Any) -> RuleOptions:
    return RuleOptions(**{"copies": 2, "update": False, "scope": "layerwise", **changes})


def subject_for(model: TorchModel, samples: int, cut: str = "layer") -> Subject:
    exported = export_model(model, samples)
    stages = build_stages(exported.graph, cut_graph(exported.graph, cut), batch=samples)
    program = build_program(exported.graph, exported.program, stages)
    with torch.no_grad():
        logits = model.module(*model.example(samples))
    targets = torch.randint(0, model.classes, (samples, *logits.shape[2:]), generator=torch.Generator().manual_seed(3))
    return subject_of(program, program.stages, Batch(model.example(samples), targets))


def made(name: str, module: Callable[[], nn.Module], shape: tuple[int, ...], classes: int) -> TorchModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        built = module()
    return TorchModel(
        name, built, lambda batch: (torch.randn(batch, *shape, generator=torch.Generator().manual_seed(5)),), classes
    )


@cache
def perceptron() -> tuple[Subject, Array]:
    """64-16-16-10 on 12 samples, and its gradient."""
    model = build("mlp", hidden=16, features=20)
    subject = subject_for(model, 12)
    _, gradient = true_gradient(model.module, subject.program.parameters, subject.batch)
    return subject, flat(subject, gradient)


def flat(subject: Subject, gradient: Any) -> Array:
    return np.concatenate([gradient[name].numpy().ravel() for name in subject.names]).astype(np.float64)


# Fact 1, with the sign variants' own expectations: what every kind of noise estimates at a sigma that is not small.


@cache
def classifier() -> Subject:
    """One linear layer to two logits: two noise elements per sample."""
    return subject_for(made("two", lambda: nn.Linear(3, 2), (3,), 2), 2)


GRID = 600
"""Even, so that no point lies on the step of a sign."""


def density(kind: str) -> tuple[Tensor, Tensor]:
    """Points and weights of one noise element with variance 1."""
    if kind in ("rademacher", "hadamard"):
        return torch.tensor([-1.0, 1.0], dtype=torch.float64), torch.tensor([0.5, 0.5], dtype=torch.float64)
    points = torch.linspace(-12, 12, GRID, dtype=torch.float64)
    heights = torch.exp(-math.sqrt(2) * points.abs()) if kind == "laplace" else torch.exp(-points.square() / 2)
    return points, heights / heights.sum()


def expectation(kind: str, coded: bool, sigma: float) -> dict[str, Tensor]:
    """``E[(L(v + sigma e) - L(v)) s(e)] / sigma`` pulled through the layer; s: the noise or its scaled sign."""
    subject = classifier()
    (inputs,), targets = subject.batch.inputs, subject.batch.targets
    logits = (inputs @ subject.program.parameters["weight"].T + subject.program.parameters["bias"]).double()
    points, weights = density(kind)
    scale = float(1 / (weights * points.abs()).sum()) if coded else 1.0
    first, second = torch.meshgrid(points, points, indexing="ij")
    noise = torch.stack([first.flatten(), second.flatten()], 1)
    chance = torch.outer(weights, weights).flatten()
    seen = noise.sign() * scale if coded else noise
    signals = []
    for value, target in zip(logits, targets, strict=True):
        losses = F.cross_entropy(value + sigma * noise, target.expand(len(noise)), reduction="none")
        losses = losses - F.cross_entropy(value[None], target[None])
        signals.append(((chance * losses)[:, None] * seen).sum(0) / sigma)
    signal = torch.stack(signals) / len(signals)
    weight, bias = linear_vjp(inputs.double(), signal)
    return {"weight": weight, "bias": bias}


@pytest.mark.parametrize(
    ("kind", "coded"),
    [
        ("gauss", False),
        ("gauss", True),
        ("laplace", False),
        ("laplace", True),
        ("rademacher", False),
        ("rademacher", True),
        ("hadamard", False),
        ("sobol", False),
        ("sobol", True),
    ],
)
def test_each_kind_of_noise_converges_to_its_own_expectation_at_any_sigma(kind: Any, coded: bool) -> None:
    sigma, subject = 1.5, classifier()
    truth = flat(subject, expectation("gauss" if kind == "sobol" else kind, coded, sigma))
    # One copy of Hadamard noise is a +-1 vector; two are a whole matrix, whose error is not the law's.
    options = lr(noise=kind, noise_code="sign" if coded else "plain", copies=1 if kind == "hadamard" else 512)
    sampler = Sampler(subject, options, Settings(sigma=sigma))
    found = np.stack([sampler.gradient(options.copies, seed) for seed in range(400 if kind == "hadamard" else 24)])
    error = found.std(0, ddof=1) / math.sqrt(len(found)) + 1e-4 * np.abs(truth).max()
    assert np.abs((found.mean(0) - truth) / error).max() < 5.5
    assert error.max() < 0.2 * np.abs(truth).max()


def smoothed(kind: str, sigma: float) -> dict[str, Tensor]:
    """The gradient of ``E L(v + sigma e)``: the loss's own gradient, averaged over the noise."""
    subject = classifier()
    (inputs,), targets = subject.batch.inputs, subject.batch.targets
    logits = (inputs @ subject.program.parameters["weight"].T + subject.program.parameters["bias"]).double()
    points, weights = density(kind)
    first, second = torch.meshgrid(points, points, indexing="ij")
    noise, chance = torch.stack([first.flatten(), second.flatten()], 1), torch.outer(weights, weights).flatten()
    signals = []
    for value, target in zip(logits, targets, strict=True):
        each = torch.softmax(value + sigma * noise, 1) - F.one_hot(target, 2)
        signals.append((chance[:, None] * each).sum(0))
    weight, bias = linear_vjp(inputs.double(), torch.stack(signals) / len(signals))
    return {"weight": weight, "bias": bias}


def test_gauss_and_the_sign_of_laplace_are_the_smoothed_losss_gradient_and_the_sign_of_gauss_is_not() -> None:
    subject, sigma = classifier(), 1.5
    exact = {kind: flat(subject, smoothed(kind, sigma)) for kind in ("gauss", "laplace")}
    for kind, coded, equal in (
        ("gauss", False, True),
        ("laplace", True, True),
        ("gauss", True, False),
        ("laplace", False, False),
    ):
        found = flat(subject, expectation(kind, coded, sigma))
        distance = np.linalg.norm(found - exact[kind]) / np.linalg.norm(exact[kind])
        assert (distance < 2e-3) == equal, (kind, coded, distance)


@pytest.mark.parametrize("code", ["sign", "sign-scaled", "threshold"])
def test_coded_inputs_converge_to_the_product_of_codes(code: Any) -> None:
    """E = sum over samples of delta (x) code(x): the true cotangent at the coded input of the second layer."""
    subject, truth = perceptron()
    options = lr(input_code=code, reduction="accumulate", copies=32)
    precision = PrecisionPlan(saved=Precision.SIGN1 if code == "threshold" else Precision.INT8)
    sampler = Sampler(subject, RuleOptions(**{**vars(options), "precision": precision}), SMALL)
    found = np.stack([sampler.gradient(32, seed) for seed in range(40)])
    start, end = subject.spans[1]
    plain = Sampler(subject, lr(reduction="accumulate", copies=32), SMALL)
    same = np.stack([plain.gradient(32, seed) for seed in range(40)])
    mean = found[:, start:end].mean(0)
    ceiling = float(mean @ truth[start:end] / np.linalg.norm(truth[start:end]) / np.linalg.norm(mean))
    # With the same noise and the codes' own product in place of the values: the exact ceiling of this batch.
    exact = coded_ceiling(subject, code, precision.saved)
    error = 3 * math.sqrt(1 - exact**2 + 0.02) / math.sqrt(40)
    assert abs(ceiling - exact) < error + 0.05
    assert exact < 0.995
    reached = same[:, start:end].mean(0)
    assert float(reached @ truth[start:end] / np.linalg.norm(truth[start:end]) / np.linalg.norm(reached)) > 0.97


def coded_ceiling(subject: Subject, code: Any, precision: Precision) -> float:
    """Cosine of ``sum delta (x) code(x)`` with ``sum delta (x) x`` (bias: a 1 that no code touches)."""
    values = {name: value.double() for name, value in subject.program.parameters.items()}
    (inputs,), targets = subject.batch.inputs, subject.batch.targets
    hidden = F.relu(inputs.double() @ values["layers.linear0.weight"].T + values["layers.linear0.bias"])
    middle = hidden @ values["layers.linear1.weight"].T + values["layers.linear1.bias"]
    middle.requires_grad_()
    logits = F.relu(middle) @ values["linear.weight"].T + values["linear.bias"]
    (delta,) = torch.autograd.grad(F.cross_entropy(logits, targets), [middle])
    coded = decode(encode(hidden.float(), precision, code=code, unsigned=True)).double()
    first = torch.cat([delta.T @ hidden, delta.sum(0)[:, None]], 1)
    second = torch.cat([delta.T @ coded, delta.sum(0)[:, None]], 1)
    return float((first * second).sum() / first.norm() / second.norm())


# Fact 2: the variance law.


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("lr", {}),
        ("alr, noise only", {"noise_code": "sign"}),
        ("lr-laplace", {"noise": "laplace", "noise_code": "sign"}),
        ("es", {"weight_noise": (0, 1, 2)}),
        ("aes", {"weight_noise": (0, 1, 2), "noise_code": "sign"}),
    ],
)
def test_the_cosine_follows_the_variance_law(method: str, changes: dict[str, Any]) -> None:
    """rho of LR is measured once, with other noise; k and ES's rho = D are theory."""
    subject, truth = perceptron()
    k = {"lr": 1.0, "es": 1.0, "lr-laplace": 2.0}.get(method, math.pi / 2)
    copies = (8, 32, 128)
    options = lr(**changes)
    found = measure_quality(subject, truth, {"m": options}, SMALL, copies, 12)[0]
    reference = measure_quality(subject, truth, {"lr": lr()}, Settings(sigma=0.002, seed=99), (64,), 12)[0]
    for curve, other in zip(found.layers, reference.layers, strict=True):
        assert other.noise_of_one_copy is not None
        rho = curve.parameters + 1 if "weight_noise" in changes else other.noise_of_one_copy.value
        predicted = law(np.array(copies, float), rho, 1.0, k)
        error = curve.cosines.std(0, ddof=1) / math.sqrt(12)
        # 4 standard errors, and what the law leaves out at few effective copies (it is a ratio of means)
        assert (np.abs(curve.cosines.mean(0) - predicted) < 4 * error + 0.035).all(), (curve.label, predicted)


def test_orthogonal_noise_follows_its_own_law_and_is_exact_at_its_order() -> None:
    """Fact 5: rho (1/n - 1/m), nothing left at n = m, and 2/3 of a second matrix weigh what they should."""
    subject, truth = perceptron()
    # Pairs, because the second order of a forward difference does not cancel in one matrix; and a sigma so small that
    # no unit crosses the kink of its ReLU.
    options = lr(noise="hadamard", reduction="accumulate", baseline="antithetic")
    (found,) = measure_quality(subject, truth, {"h": options}, TINY, (4, 8, 16, 24), 8)
    for curve in found.layers:
        assert curve.law is not None
        assert curve.law.order == 16
        cosines = curve.cosines.mean(0)
        assert cosines[2] > 1 - 1e-4
        assert cosines[3] > cosines[1] > cosines[0]
        predicted = law(np.array([4, 8, 24], float), curve.law.rho.value, 1.0, 1.0, order=16)
        assert np.abs(cosines[[0, 1, 3]] - predicted).max() < 0.12
    exact = Sampler(subject, options, TINY).gradient(16, 1)
    assert np.abs(exact - truth).max() < 0.01 * np.abs(truth).max()


# Fact 6: convolution is a linear layer on patches, and shared weights are summed over positions, not averaged.


def test_a_convolutions_gradient_is_that_of_a_linear_layer_on_its_patches() -> None:
    value, signal = torch.randn(2, 3, 6, 6), torch.randn(2, 4, 3, 3)
    weight = torch.randn(4, 3, 3, 3)
    gradient, bias = convolution_vjp(value, signal, weight, (2, 2), (1, 1), (1, 1), 1)
    patches = F.unfold(value, 3, padding=1, stride=2).transpose(1, 2)
    on_patches, sums = linear_vjp(patches, signal.flatten(2).transpose(1, 2))
    torch.testing.assert_close(gradient, on_patches.view_as(weight), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(bias, sums, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("baseline", ["clean", "antithetic"])
def test_noise_on_tokens_is_scaled_by_samples_and_copies_not_by_tokens(baseline: Any) -> None:
    """The trap of flattened batches: dividing by (samples x tokens), and pairing rows of different samples."""

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.head = nn.Linear(3, 4), nn.Linear(4, 3)

        def forward(self, value: Tensor) -> Tensor:
            logits: Tensor = self.head(torch.tanh(self.linear(value)).mean(1))
            return logits

    model = made("tokens", Tokens, (5, 3), 3)
    subject = subject_for(model, 4)
    truth = flat(subject, true_gradient(model.module, subject.program.parameters, subject.batch)[1])
    sampler = Sampler(subject, lr(baseline=baseline), SMALL)
    found = np.stack([sampler.gradient(32, seed) for seed in range(24)])
    along = found @ truth / (truth @ truth)
    error = float(along.std(ddof=1)) / math.sqrt(24)
    assert abs(float(along.mean()) - 1) < 4.5 * error < 0.5, "by tokens it would be 0.2"


# Facts 7 to 9: what must be refused, and what replaces backpropagation behind a step.


class Leaky(nn.Module):
    """An LSTM cell whose c leaves the stage beside h, with noise on h only."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.Linear(3, 8), nn.Linear(4, 2)

    def forward(self, value: Tensor) -> Tensor:
        write, read = self.cell(value).chunk(2, 1)
        memory = torch.sigmoid(write)
        hidden = inject(torch.tanh(read) * memory)
        logits: Tensor = self.head(hidden + memory)
        return logits


def test_noise_on_h_alone_where_c_leaves_too_is_refused_with_the_path() -> None:
    subject = subject_for(made("leaky", Leaky, (3,), 2), 2, cut="names:add")
    with pytest.raises(OptionError, match="do not cut every path from its parameters"):
        RULES["lr"](subject.stages, lr())


def test_batch_statistics_are_refused_under_lr() -> None:
    subject = subject_for(build("resnet5", width=2, image_size=8, norm="batch"), 2)
    options = lr()
    with pytest.raises(ExecutionError, match="mixes the samples of a batch"):
        prepare(subject.program, RULES["lr"](subject.stages, options), subject.batch, options)


SPIKES = {"depth": 1, "hidden": 2, "steps": 3, "image_size": 2, "classes": 3}


@pytest.mark.parametrize("kind", ["rademacher", "hadamard"])
def test_two_point_noise_in_front_of_spikes_is_refused(kind: Any) -> None:
    subject = subject_for(build("snn", **SPIKES), 2)
    with pytest.raises(OptionError, match="comes a step function"):
        RULES["lr"](subject.stages, lr(noise=kind))


def smoothed_spikes(subject: Subject, sigma: float) -> tuple[Tensor, Tensor]:
    """Gradient of the smoothed loss of a spiking layer's weight and bias, by quadrature: the loss on a grid of currents
    stays where it is, only the Gaussian around the clean current moves, and that has a derivative."""
    values = subject.program.parameters
    inputs = subject.batch.inputs[0].flatten(1)
    current = (inputs @ values["linears.0.weight"].T + values["linears.0.bias"]).double()
    points = torch.linspace(-5, 5, 800, dtype=torch.float64)
    signals = []
    for value, target in zip(current, subject.batch.targets, strict=True):
        first, second = torch.meshgrid(points, points, indexing="ij")
        grid = torch.stack([first.flatten(), second.flatten()], 1)
        membrane, fired = torch.zeros_like(grid), torch.zeros_like(grid)
        for _ in range(SPIKES["steps"]):
            membrane = 0.5 * membrane + grid
            spike = (membrane >= 1.0).double()
            membrane, fired = membrane * (1 - spike), fired + spike
        logits = fired / SPIKES["steps"] @ values["readout.weight"].T.double() + values["readout.bias"].double()
        losses = F.cross_entropy(logits, target.expand(len(grid)), reduction="none")
        away = (grid - value) / sigma
        weights = torch.exp(-away.square().sum(1) / 2)
        signals.append(((weights / weights.sum() * losses)[:, None] * away / sigma).sum(0))
    return linear_vjp(inputs.double(), torch.stack(signals) / len(signals))


def test_the_gradient_of_spiking_neurons_is_that_of_the_smoothed_loss() -> None:
    sigma, subject = 0.4, subject_for(build("snn", **SPIKES), 2)
    weight, bias = smoothed_spikes(subject, sigma)
    truth = np.concatenate([weight.numpy().ravel(), bias.numpy()])
    sampler = Sampler(subject, lr(copies=512), Settings(sigma=sigma))
    found = np.stack([sampler.gradient(512, seed) for seed in range(24)])[:, : len(truth)]
    error = found.std(0, ddof=1) / math.sqrt(24) + 0.01 * np.abs(truth).max()
    assert np.abs(truth).max() > 0.01, "there is a gradient"
    assert np.abs((found.mean(0) - truth) / error).max() < 5.5
    assert error.max() < 0.25 * np.abs(truth).max()


# Facts 4 and 10: baselines agree at equal draws; stacked and accumulated copies differ by sigma squared in pairs.


def test_baselines_agree_at_equal_draws_and_none_at_all_drowns() -> None:
    subject, truth = perceptron()
    names = ("clean", "copy-mean", "antithetic", "none")
    values = {}
    for baseline in names:
        (found,) = measure_quality(subject, truth, {"lr": lr(baseline=baseline)}, SMALL, (64,), 10)
        values[baseline] = found.curve(LAYER_MEAN).acc.value
    assert abs(values["clean"] - values["copy-mean"]) < 0.03
    assert abs(values["clean"] - values["antithetic"]) < 0.05
    assert values["none"] < 0.2 * values["clean"]


def test_stacked_and_accumulated_pairs_differ_by_sigma_squared() -> None:
    model = made("smooth", lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)), (6,), 3)
    subject = subject_for(model, 4)
    distances = []
    for sigma in (0.2, 0.1, 0.05):
        found = [
            Sampler(subject, lr(scope="joint", baseline="antithetic", reduction=how), Settings(sigma=sigma)).gradient(
                8, 3
            )
            for how in ("stack", "accumulate")
        ]
        distances.append(float(np.linalg.norm(found[0] - found[1])))
    assert 3 < distances[0] / distances[1] < 5
    assert 3 < distances[1] / distances[2] < 5


# Fact 12: the gradient of the noise scale.


@pytest.mark.parametrize("baseline", ["clean", "antithetic"])
def test_the_gradient_of_sigma_is_that_of_the_smoothed_loss(baseline: Any) -> None:
    """By quadrature: d/d log sigma of E L(v + sigma e) is the mean over e of sigma e . dL/dv."""
    sigma, subject = 0.8, classifier()
    (inputs,), targets = subject.batch.inputs, subject.batch.targets
    logits = (inputs @ subject.program.parameters["weight"].T + subject.program.parameters["bias"]).double()
    points, weights = density("gauss")
    first, second = torch.meshgrid(points, points, indexing="ij")
    noise, chance = torch.stack([first.flatten(), second.flatten()], 1), torch.outer(weights, weights).flatten()
    expected = 0.0
    for value, target in zip(logits, targets, strict=True):
        each = torch.softmax(value + sigma * noise, 1) - F.one_hot(target, 2)
        expected += float((chance * (each * sigma * noise).sum(1)).sum()) / len(logits)
    options = lr(baseline=baseline, copies=256)
    graph = RULES["lr"](subject.stages, options)
    found = [
        sequential(
            subject.program, graph, subject.batch, options, Settings(sigma=sigma, seed=seed, sigma_gradient=True)
        ).sigma_gradients[0]
        for seed in range(24)
    ]
    error = float(np.std(found, ddof=1)) / math.sqrt(24)
    assert abs(float(np.mean(found)) - expected) < 4.5 * error
    assert error < 0.25 * abs(expected)


def test_bf16_loses_the_difference_that_a_small_sigma_makes() -> None:
    """The reason for the floor, measured: cosine of the cotangent from bf16 and from fp32 logits."""
    generator = torch.Generator().manual_seed(1)
    value, target = torch.randn(64, 8, generator=generator), torch.randint(0, 8, (64,), generator=generator)
    delta = torch.softmax(value, 1) - F.one_hot(target, 8)
    noise = philox_noise(PhiloxKey(1), range(400), range(64), (8,), "gauss")

    def found(sigma: float, format_: torch.dtype) -> float:
        moved, clean = (value + sigma * noise).to(format_).float(), value.to(format_).float()
        losses = F.cross_entropy(moved.flatten(0, 1), target.repeat(400), reduction="none").view(400, 64)
        weights = losses - F.cross_entropy(clean, target, reduction="none")
        estimate = (weights[..., None] * noise).mean(0) / sigma
        return float((estimate * delta).sum() / estimate.norm() / delta.norm())

    assert found(0.001, torch.float32) > 0.95
    assert found(0.02, torch.bfloat16) > 0.9
    assert found(0.001, torch.bfloat16) < 0.85 * found(0.02, torch.bfloat16)
