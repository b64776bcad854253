"""The noise of a sample is its own: neither micro-batches nor copy groups nor units change it."""

import pytest
import torch

from alrsim.execution.executor import sequential
from alrsim.execution.job import Settings
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.rules import RULES, RuleOptions

KINDS = ["gauss", "rademacher", "laplace", "hadamard", "sobol"]


def gradients(one, microbatches, batch, **changes):
    options = RuleOptions(microbatches=microbatches, copies=changes.pop("copies", 4), **changes)
    return sequential(one.program, RULES["lr"](one.stages, options), batch, options, Settings(sigma=0.05, seed=3))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reduction", ["stack", "accumulate"])
def test_four_micro_batches_have_the_noise_of_one_large_one(subject, kind, reduction):
    small, large = (subject("mlp", "layer", size, hidden=8, features=12) for size in (3, 12))
    batch = small.batch(4)
    split = gradients(small, 4, batch, noise=kind, reduction=reduction)
    whole = gradients(large, 1, batch, noise=kind, reduction=reduction)
    noisy = [torch.cat([split.losses[f"3L{index}.1"] for index in range(4)], 1), whole.losses["3L0.1"]]
    torch.testing.assert_close(*noisy, rtol=1e-5, atol=1e-6)
    for name, value in split.gradients.items():
        torch.testing.assert_close(value, whole.gradients[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_copy_groups_do_not_change_the_noise(subject, kind):
    one = subject("mlp", "layer", hidden=8, features=12)
    batch = one.batch(2)
    whole = gradients(one, 2, batch, noise=kind, reduction="accumulate")
    split = gradients(one, 2, batch, noise=kind, reduction="accumulate", group=1)
    for name, value in split.gradients.items():
        torch.testing.assert_close(value, whole.gradients[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("noise_code", ["plain", "sign"])
@pytest.mark.parametrize("reduction", ["stack", "accumulate"])
@pytest.mark.parametrize("baseline", ["clean", "antithetic"])
def test_noise_drawn_again_gives_the_gradient_of_stored_noise(subject, kind, noise_code, reduction, baseline):
    one = subject("linear", "layer", 3)
    batch, settings = one.batch(2), Settings(sigma=0.05, seed=3)
    found = []
    for where in (Precision.FP32, Precision.REGENERATED):
        options = RuleOptions(
            microbatches=2,
            copies=3,
            noise=kind,
            noise_code=noise_code,
            reduction=reduction,
            baseline=baseline,
            precision=PrecisionPlan(noise=where),
        )
        found.append(sequential(one.program, RULES["lr"](one.stages, options), batch, options, settings).gradients)
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-5, atol=1e-6)
        assert bool(value.abs().sum() > 0)
