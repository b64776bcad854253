"""The pure functions of the one engine, against closed forms."""

import math

import pytest
import torch

from alrsim.errors import ExecutionError
from alrsim.estimators.codes import CODES, decode, encode, encode_noise
from alrsim.estimators.cotangent import cotangent, cotangent_rows, loss_weights
from alrsim.estimators.kernels.noise_key import PhiloxKey
from alrsim.estimators.kernels.philox import philox_noise
from alrsim.estimators.noise import add_weighted, antithetic, mix, sign_scale
from alrsim.estimators.vjp import convolution_vjp, linear_vjp, local_vjp
from alrsim.execution.executor import sequential
from alrsim.execution.job import Settings
from alrsim.hardware.precision import Precision
from alrsim.rules import RULES, RuleOptions


def noise(shape, kind="gauss", seed=1):
    """One draw of noise, the first dimension being samples."""
    return philox_noise(PhiloxKey(seed, 0, 2), range(1), range(shape[0]), shape[1:], kind)[0]


@pytest.mark.parametrize("kind", ["gauss", "rademacher", "laplace", "hadamard", "sobol"])
@pytest.mark.parametrize("signs", [False, True])
def test_noise_drawn_again_adds_up_like_stored_noise(kind, signs):
    key, copies, samples = PhiloxKey(3, 1, 2), range(4, 9), range(6, 10)
    weights = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    rows = philox_noise(key, copies, samples, (3, 7), kind)
    if signs:
        rows = rows.sign() * sign_scale(kind)
    found = add_weighted(torch.zeros(4, 3, 7), weights, key, copies, samples, kind, signs=signs)
    torch.testing.assert_close(found, (rows * weights[..., None, None]).sum(0))


@pytest.mark.parametrize("kind", ["gauss", "rademacher", "laplace", "sobol"])
def test_the_sign_of_noise_keeps_the_scale_of_the_estimate(kind):
    """E[sign(e) e] * scale = 1: five standard errors of 100,000 numbers whose product has variance below 1."""
    value = philox_noise(PhiloxKey(7), range(1000), range(1), (100,), kind)
    assert abs(float((value.sign() * value).mean()) * sign_scale(kind) - 1) < 5 / math.sqrt(100_000)


def test_hashes_of_neighbouring_keys_share_no_pattern():
    digests = [mix((0, 0, 0, 0, copy)) for copy in range(4096)]
    assert len({digest & 0xFFFFFFFF for digest in digests}) == 4096
    ones = sum(bin(digest).count("1") for digest in digests)
    assert abs(ones - 4096 * 32) < 5 * math.sqrt(4096 * 16)


@pytest.mark.parametrize(("precision", "error"), [("fp32", 0), ("bf16", 2**-8), ("fp16", 2**-10), ("int8", 1 / 127)])
def test_codes_are_as_exact_as_their_format(precision, error):
    value = noise((4, 50))
    decoded = decode(encode(value, Precision(precision), copies=2))
    assert float((decoded - value).abs().max()) <= error * float(value.abs().max())


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "int8", "sign1"])
def test_codes_take_as_many_bytes_as_the_precision_says(precision):
    value = noise((4, 50))
    code = encode(value, Precision(precision), copies=1)
    assert code.data.nbytes == Precision(precision).bytes_for(value.numel())
    assert code.nbytes - code.data.nbytes <= 4


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.SIGN1])
def test_sign_codes_of_relu_outputs_keep_zeros_and_use_the_least_squares_scale(precision):
    value = noise((2, 64)).relu()
    decoded = decode(encode(value, precision, "sign", copies=2))
    assert torch.equal(decoded > 0, value > 0)
    for row, code in zip(value, decoded, strict=True):
        mask = (row > 0).float()
        best = (row @ mask) / (mask @ mask)
        torch.testing.assert_close(code, best * mask)


def test_packed_signs_of_signed_values_are_plus_or_minus_their_mean_magnitude():
    value = noise((1, 64))
    torch.testing.assert_close(decode(encode(value, Precision.SIGN1)), value.sign() * value.abs().mean())


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.SIGN1])
def test_the_sign_of_gaussian_noise_keeps_the_scale_of_the_estimator(precision):
    value = noise((1, 100_000))
    coded = decode(encode_noise(value, precision, "gauss", signs=True))
    torch.testing.assert_close(coded.abs().mean(), torch.tensor(math.sqrt(math.pi / 2)))
    assert abs(float((coded * value).mean()) - 1) < 0.02  # E[sign(e) e] sqrt(pi/2) = 1
    rademacher = noise((1, 50), "rademacher")
    assert torch.equal(decode(encode_noise(rademacher, precision, "rademacher", signs=True)), rademacher)


def test_a_format_without_a_code_is_refused():
    with pytest.raises(ExecutionError, match="cannot be stored as fp8"):
        encode(torch.ones(2, 2), Precision.FP8)
    assert Precision.FP8 not in CODES


def quadratic(draws, baseline, seed):
    """Per-sample loss |v - t|^2 / 2, whose cotangent is v - t."""
    value = torch.tensor([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]])
    target, sigma = torch.zeros(2, 3), 0.3
    pairs = baseline == "antithetic"
    epsilon = philox_noise(PhiloxKey(seed), range(draws), range(2), (3,), "gauss")
    epsilon = antithetic(epsilon) if pairs else epsilon
    losses = ((value + sigma * epsilon - target) ** 2).sum(2) / 2
    clean = ((value - target) ** 2).sum(1) / 2
    weights = loss_weights(losses, baseline, clean=clean, every=losses)
    return cotangent(weights, epsilon, sigma, draws, 2), (value - target) / 2


@pytest.mark.parametrize("baseline", ["clean", "copy-mean", "antithetic", "none"])
def test_the_cotangent_of_a_quadratic_is_unbiased_under_every_baseline(baseline):
    """A z-test on 10,000 draws: 500 estimates of 20 draws; the expectation is exact for a quadratic."""
    estimates = torch.stack([quadratic(20, baseline, seed)[0] for seed in range(500)])
    truth = quadratic(20, baseline, 0)[1]
    z = (estimates.mean(0) - truth) / (estimates.std(0) / math.sqrt(500))
    assert float(z.abs().max()) < 4.5


def test_the_covariance_of_the_cotangent_is_the_closed_form():
    """Antithetic pairs of a quadratic leave (d.e) e: covariance (|d|^2 I + d d') / n."""
    estimates = torch.stack([quadratic(1, "antithetic", seed)[0][0] for seed in range(6000)]) * 2
    delta = quadratic(1, "antithetic", 0)[1][0] * 2
    expected = delta @ delta * torch.eye(3) + torch.outer(delta, delta)
    found = torch.cov(estimates.T)
    assert float((found - expected).abs().max() / expected.abs().max()) < 0.12


def test_stacked_rows_sum_to_the_accumulated_cotangent():
    epsilon, weights = philox_noise(PhiloxKey(1), range(5), range(2), (3,), "gauss"), torch.rand(5, 2)
    rows = cotangent_rows(weights, epsilon, 0.1, 5, 2)
    torch.testing.assert_close(rows.sum(0), cotangent(weights, epsilon, 0.1, 5, 2))


def test_direct_products_equal_autograd():
    value, signal, weight = torch.randn(4, 6), torch.randn(4, 3), torch.randn(3, 6)
    (expected_weight, expected_bias), _ = local_vjp(
        lambda values, weights: [torch.nn.functional.linear(values[0], *weights)],
        [value],
        [weight, torch.zeros(3)],
        [signal],
    )
    found_weight, found_bias = linear_vjp(value, signal)
    torch.testing.assert_close(found_weight, expected_weight)
    torch.testing.assert_close(found_bias, expected_bias)
    image, kernel = torch.randn(2, 4, 7, 7), torch.randn(6, 2, 3, 3)
    signal = torch.randn(2, 6, 4, 4)
    expected, _ = local_vjp(
        lambda values, weights: [torch.nn.functional.conv2d(values[0], *weights, stride=2, padding=1, groups=2)],
        [image],
        [kernel, torch.zeros(6)],
        [signal],
    )
    found = convolution_vjp(image, signal, kernel, (2, 2), (1, 1), (1, 1), 2)
    for first, second in zip(found, expected, strict=True):
        torch.testing.assert_close(first, second)


@pytest.mark.parametrize(("noise_kind", "excess"), [("gauss", 1), ("rademacher", -1)])
def test_the_executed_estimate_is_unbiased_and_its_norm_follows_the_variance_law(subject, autograd, noise_kind, excess):
    """One linear layer, cross entropy, small sigma: E<g^, g> = |g|^2, and E|g^|^2 = |g|^2 + noise with
    noise = sum_b |x_b|^2 (m + excess) |d_b|^2 / n, from Cov(U_b) = (|d|^2 I + d d')/n (Rademacher: the trace is
    (m - 1) |d|^2 / n). Confidence 4 standard errors over 60 seeds."""
    one = subject("linear", "layer", 3)
    batch, copies, width = one.batch(2), 8, 4
    expected, _ = autograd(one.model, batch, 1)
    truth = torch.cat([value.flatten() for value in expected.values()])
    logits = one.model.module(batch.inputs[0]).detach()
    deltas = (logits.softmax(1) - torch.nn.functional.one_hot(batch.targets, width)) / len(batch.targets)
    inputs = (batch.inputs[0] ** 2).sum(1) + 1  # the bias sees a constant 1
    spread = float((inputs * (width + excess) * (deltas**2).sum(1)).sum() / copies)
    options = RuleOptions(microbatches=2, copies=copies, noise=noise_kind)
    graph = RULES["lr"](one.stages, options)
    along, norms = [], []
    for seed in range(60):
        settings = Settings(sigma=0.01, seed=seed)
        result = sequential(one.program, graph, batch, options, settings)
        estimate = torch.cat([result.gradients[name].flatten() for name in expected])
        along.append(estimate @ truth / (truth @ truth))
        norms.append(estimate @ estimate)
    along, norms = torch.stack(along), torch.stack(norms)
    assert abs(float(along.mean()) - 1) < 4 * float(along.std()) / math.sqrt(60)
    law = float(truth @ truth) + spread
    assert abs(float(norms.mean()) - law) < 4 * float(norms.std()) / math.sqrt(60)
    assert float(norms.std()) / math.sqrt(60) < 0.15 * law  # the interval says something
