"""The HSIC bottleneck: every stage learns by itself to forget its input and to keep the label.

Source: Ma, Lewis, Kleijn 2019 (arXiv 1908.01580). A stage with output Z minimises ``nHSIC(Z, X) - beta nHSIC(Z, Y)``,
``nHSIC(A, B) = tr(R_A R_B)``, ``R = K (K + eps m I)^-1`` with the double-centred Gaussian kernel matrix K of m samples,
``k(a, b) = exp(-|a - b|^2 / (2 sigma^2 d))`` for vectors of d elements. The last stage learns from its own cross
entropy, as the read-out of the paper's formatted training.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from alrsim.execution.executor import Batch
from alrsim.execution.programs.program import Program
from alrsim.experiments.staged import Forward, LocalRule, require_local

BETA, SIGMA, EPSILON = 500.0, 5.0, 1e-5
"""Of the paper's experiments on MNIST."""


def gaussian_kernel(value: Tensor, sigma: float) -> Tensor:
    """``(m, ...)`` to ``(m, m)``; distances are scaled by sigma and the root of the number of elements."""
    flat = value.flatten(1)
    norms = flat.square().sum(1)
    distances = (norms[:, None] + norms[None, :] - 2 * flat @ flat.T).clamp(min=0)
    return torch.exp(-distances / (2 * sigma**2 * flat.shape[1]))


def centred(kernel: Tensor) -> Tensor:
    """``H K H`` with ``H = I - 1/m``: rows and columns sum to 0."""
    return kernel - kernel.mean(0, keepdim=True) - kernel.mean(1, keepdim=True) + kernel.mean()


def normalised(kernel: Tensor, epsilon: float = EPSILON) -> Tensor:
    """``K (K + epsilon m I)^-1`` of the centred kernel, ``(m, m)``."""
    middle, count = centred(kernel), len(kernel)
    found: Tensor = torch.linalg.solve(middle + epsilon * count * torch.eye(count, dtype=kernel.dtype), middle)
    return found  # both factors are functions of one matrix, so they commute


def nhsic(first: Tensor, second: Tensor) -> Tensor:
    """``tr(R_A R_B)`` of two :func:`normalised` kernels."""
    return (first * second.T).sum()


@dataclass(frozen=True)
class Bottleneck(LocalRule):
    """The learner ``hsic``."""

    beta: float = BETA
    sigma: float = SIGMA

    def gradients(self, done: Forward, batch: Batch) -> dict[str, Tensor]:
        classes = done.error.shape[1]
        known = F.one_hot(batch.targets.clamp(min=0), classes).double()
        inputs = normalised(gaussian_kernel(batch.inputs[0].double(), self.sigma))
        labels = normalised(gaussian_kernel(known, self.sigma))
        return self.pulled(done, lambda name: self.signal(done.values[name], inputs, labels))

    def signal(self, value: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
        """Gradient of the stage's objective with respect to its output; in fp64, as kernels are nearly singular."""
        leaf = value.detach().double().requires_grad_()
        with torch.enable_grad():
            own = normalised(gaussian_kernel(leaf, self.sigma))
            objective = nhsic(own, inputs) - self.beta * nhsic(own, labels)
            (gradient,) = torch.autograd.grad(objective, [leaf])
        return gradient.to(value.dtype)


def bottleneck(program: Program, microbatches: int, options: Mapping[str, float]) -> Bottleneck:
    """The learner with the paper's numbers, or those in ``options`` (``beta``, ``sigma``).

    Raises:
        ExecutionError: a model that local rules cannot train.
    """
    require_local(program, "hsic")
    return Bottleneck(program, microbatches, options.get("beta", BETA), options.get("sigma", SIGMA))
