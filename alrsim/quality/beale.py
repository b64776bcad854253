"""Beale's function walked down by BP, LR and ALR, as in section 4.4 of the ALR paper.

``(x, y)`` are the weights of one linear layer with constant input 1 and two outputs, so that the layer's output IS
``(x, y)``; LR adds noise to the output, and the layer's gradient is the local VJP at the estimated cotangent.
Independent runs stand side by side as further outputs of the same layer, each with a loss of its own.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from alrsim.estimators.codes import decode, encode, encode_noise
from alrsim.estimators.cotangent import cotangent, loss_weights
from alrsim.estimators.kernels.noise_key import PhiloxKey
from alrsim.estimators.kernels.philox import philox_noise
from alrsim.estimators.variance_law import Array
from alrsim.estimators.vjp import linear_vjp
from alrsim.hardware.precision import Precision
from alrsim.quality.trajectory_options import ESCAPED, NEAR, TrajectoryOptions, Walker


@dataclass(frozen=True)
class Walk:
    """One method's runs.

    Attributes:
        path: ``(steps + 1, runs, 2)``; a run that diverged stays where it left.
        losses: ``(steps + 1, runs)``.
        diverged: Per run.
    """

    method: Walker
    path: Array
    losses: Array
    diverged: tuple[bool, ...]

    @property
    def found(self) -> int:
        """Runs that ended in the optimum's basin."""
        return int((self.losses[-1] < NEAR).sum())


def beale(points: Tensor) -> Tensor:
    """Beale's function, ``(..., 2) -> (...)``."""
    x, y = points[..., 0], points[..., 1]
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def walk(method: Walker, terms: TrajectoryOptions) -> Walk:
    """Walk down from the start; the same terms give the same walk."""
    runs = 1 if method == "bp" else terms.runs
    weights = torch.tensor(terms.start).repeat(runs, 1)
    alive = torch.ones(runs, dtype=torch.bool)
    path, losses = [weights.double().numpy()], [beale(weights.double()).numpy()]
    for step in range(terms.steps):
        gradient = exact(weights) if method == "bp" else estimated(method, weights, step, terms)
        moved = weights - terms.lr * gradient
        inside = torch.isfinite(moved).all(1) & (moved.abs() <= ESCAPED).all(1)
        alive = alive & inside
        weights = torch.where(alive[:, None], moved, weights)
        path.append(weights.double().numpy())
        losses.append(beale(weights.double()).numpy())
    return Walk(method, np.stack(path), np.stack(losses), tuple(not flag for flag in alive.tolist()))


def exact(weights: Tensor) -> Tensor:
    """True gradients, ``(runs, 2)``."""
    leaf = weights.detach().requires_grad_()
    (signal,) = torch.autograd.grad(beale(leaf).sum(), [leaf])
    return _through_layer(torch.ones(1, 1), signal)


def estimated(method: Walker, weights: Tensor, step: int, terms: TrajectoryOptions) -> Tensor:
    """LR or ALR gradients, ``(runs, 2)``: clean baseline, ``terms.copies`` draws."""
    runs, variables = weights.shape
    noise = philox_noise(PhiloxKey(terms.seed, step), range(terms.copies), range(runs), (variables,), "gauss")
    losses = beale(weights + terms.sigma * noise)
    constant = torch.ones(1, 1)
    if method == "alr":
        noise = decode(encode_noise(noise, Precision.INT8, "gauss", signs=True, copies=terms.copies))
        constant = decode(encode(constant, Precision.INT8, "sign"))
    baseline = loss_weights(losses, "clean", clean=beale(weights))
    return _through_layer(constant, cotangent(baseline, noise, terms.sigma, terms.copies, 1))


def _through_layer(constant: Tensor, signal: Tensor) -> Tensor:
    """The weight gradient of the linear layer whose outputs are all runs' variables."""
    gradient, _ = linear_vjp(constant, signal.reshape(1, -1))
    return gradient.view(signal.shape)
