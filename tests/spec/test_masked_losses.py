"""The loss of a graph is the mean over its labelled nodes, whichever estimator reads it."""

import pytest
import torch
from torch.nn import functional as F

from alrsim.datasets import UNLABELLED
from alrsim.execution.kernels import losses
from alrsim.execution.kernels.losses import sample_losses


def test_a_sample_counts_its_labelled_positions_only() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 6, generator=generator, dtype=torch.float64)
    targets = torch.randint(4, (3, 6), generator=generator)
    targets[0, 1:] = targets[1, ::2] = UNLABELLED
    found = sample_losses(logits, targets)
    expected = [F.cross_entropy(one[None], target[None]) for one, target in zip(logits, targets, strict=True)]
    torch.testing.assert_close(found, torch.stack(expected))


def test_a_graph_without_labels_costs_nothing_and_pushes_nowhere() -> None:
    logits = torch.ones(1, 3, 5, requires_grad=True)
    found = sample_losses(logits, torch.full((1, 5), UNLABELLED))
    (gradient,) = torch.autograd.grad(found.sum(), [logits])
    assert found.tolist() == [0]
    assert not gradient.any()


@pytest.mark.parametrize("nodes", [1, 7, 128])
def test_with_every_label_it_is_the_mean_over_positions_bit_for_bit(nodes: int) -> None:
    logits = torch.randn(4, 3, nodes, generator=torch.Generator().manual_seed(1))
    targets = torch.randint(3, (4, nodes), generator=torch.Generator().manual_seed(2))
    assert torch.equal(sample_losses(logits, targets), F.cross_entropy(logits, targets, reduction="none").mean(1))


def test_data_and_losses_mean_the_same_by_unlabelled() -> None:
    assert losses.UNLABELLED == UNLABELLED
