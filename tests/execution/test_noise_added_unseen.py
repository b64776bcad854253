"""What noisy forwards leave out changes no number: noise in memory, indices of maxima, the same first layer again."""

import pytest
import torch
from torch import nn

from alrsim.execution.executor import sequential
from alrsim.execution.job import Settings
from alrsim.execution.programs.pooling import max_pool2d
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.rules import RULES, RuleOptions

WINDOWS = [((2, 2), ()), ((2, 2), (2, 2)), ((3, 2), ()), ((4, 4), (4, 4)), ((2, 2), (1, 1)), ((3, 3), (2, 2))]


@pytest.mark.parametrize(("kernel", "stride"), WINDOWS)
@pytest.mark.parametrize("padding", [0, 1])
def test_pooling_gives_torchs_maxima(kernel, stride, padding):
    value = torch.randn(3, 2, 12, 8, generator=torch.Generator().manual_seed(0))
    value[0, 0, 0, 0] = torch.nan
    padding = min(padding, min(kernel) // 2)
    expected = nn.functional.max_pool2d(value, kernel, stride or None, padding)
    found = max_pool2d(value, kernel, stride, padding)
    assert torch.equal(found.nan_to_num(7), expected.nan_to_num(7))


def test_pooling_with_a_gradient_breaks_ties_as_torch_does():
    value = torch.zeros(1, 1, 4, 4, requires_grad=True)
    (found,) = torch.autograd.grad(max_pool2d(value, (2, 2)).sum(), value)
    (expected,) = torch.autograd.grad(nn.functional.max_pool2d(value, 2).sum(), value)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("scope", ["joint", "layerwise"])
@pytest.mark.parametrize("baseline", ["clean", "antithetic"])
@pytest.mark.parametrize("noise", ["rademacher", "hadamard"])
def test_signs_added_while_they_are_drawn_give_the_losses_of_signs_in_memory(subject, scope, baseline, noise):
    one = subject("resnet5", "layer", batch=2, width=2, in_channels=1, image_size=16)
    found = []
    for kept in (Precision.FP32, Precision.REGENERATED):
        options = RuleOptions(
            copies=4,
            group=2,
            scope=scope,
            baseline=baseline,
            noise=noise,
            reduction="accumulate",
            precision=PrecisionPlan(noise=kept),
        )
        graph = RULES["lr"](one.stages, options)
        found.append(sequential(one.program, graph, one.batch(1), options, Settings(sigma=0.1)))
    stored, unseen = found
    assert set(stored.losses) == set(unseen.losses)
    assert all(torch.equal(stored.losses[key], unseen.losses[key]) for key in stored.losses)
    for name, gradient in stored.gradients.items():
        assert torch.equal(gradient, unseen.gradients[name]), name


def test_the_first_layer_of_every_copy_is_the_clean_one_plus_noise(subject):
    """A linear layer in front of the loss: all that copies differ by is ``sigma * noise`` on the same logits."""
    one = subject("linear", "layer", batch=3)
    options = RuleOptions(copies=5, noise="rademacher", reduction="stack")
    result = sequential(one.program, RULES["lr"](one.stages, options), one.batch(1), options, Settings(sigma=1e-30))
    clean, noisy = (result.losses[key] for key in sorted(result.losses))
    assert torch.equal(noisy, clean.expand_as(noisy))
