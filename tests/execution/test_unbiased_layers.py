"""Estimates have the gradient as their mean: for every layer type, every kind of noise, and noise on parameters.

A model is one layer of the type under test and what turns its result into logits. Each case draws independent
estimates with a small sigma (where the smoothed loss's gradient is the loss's own, up to sigma^2) and compares their
mean with autograd of the uncut module: along the gradient, in every component, and in its norm. Seeds are fixed; each
bound leaves a correct estimator a chance of about 1e-4 to fail, and the spread must be small enough to see an error of
half the gradient.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from alrsim.cost.cut import cut_graph
from alrsim.cost.stages import build_stages
from alrsim.errors import OptionError
from alrsim.estimators.variance_law import Array
from alrsim.execution.executor import Batch
from alrsim.execution.job import Settings
from alrsim.execution.programs.program import build_program
from alrsim.frontend.torch_export import export_model
from alrsim.frontend.torch_model import TorchModel
from alrsim.models import build
from alrsim.quality.reference import true_gradient
from alrsim.quality.sampler import Sampler, Subject, subject_of
from alrsim.rules.options import RuleOptions

RUNS, SIGMA, SAMPLES, CLASSES = 24, 0.01, 3, 3


@torch.library.custom_op("alrsim_test::sine", mutates_args=())
def sine(value: Tensor) -> Tensor:
    """A box without a derivative: autograd cannot look inside."""
    return torch.from_numpy(np.sin(value.numpy()))


@sine.register_fake
def _(value: Tensor) -> Tensor:
    return torch.empty_like(value)


class Layered(nn.Module):
    """``head(bend(layer(x)))``, flattened in front of the head."""

    def __init__(self, layer: nn.Module, width: int, bend: Callable[[Tensor], Tensor] = torch.tanh) -> None:
        super().__init__()
        self.layer, self.bend, self.head = layer, bend, nn.Linear(width, CLASSES)

    def forward(self, value: Tensor) -> Tensor:
        logits: Tensor = self.head(self.bend(self.layer(value)).flatten(1))
        return logits


@dataclass(frozen=True)
class Case:
    """A layer type.

    Attributes:
        make: The module.
        shape: Of one input; tokens where it is ``tokens``.
        twin: A module of equal parameters that autograd can differentiate, where it cannot the first.
    """

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    tokens: int = 0
    twin: Callable[[], nn.Module] | None = None


def boxed(box: Callable[[Tensor], Tensor]) -> nn.Module:
    return Layered(nn.Linear(5, 4), 4, box)


LAYERS = {
    "linear": Case(lambda: Layered(nn.Linear(5, 4), 4), (5,)),
    "linear without bias": Case(lambda: Layered(nn.Linear(5, 4, bias=False), 4), (5,)),
    "linear on sequences": Case(lambda: Layered(nn.Linear(4, 3), 9), (3, 4)),
    "conv1d": Case(lambda: Layered(nn.Conv1d(2, 3, 3, padding=1), 12), (2, 4)),
    "conv2d": Case(lambda: Layered(nn.Conv2d(2, 2, 3, stride=2, padding=1), 8), (2, 4, 4)),
    "conv2d in groups": Case(lambda: Layered(nn.Conv2d(2, 4, 3, groups=2), 16), (2, 4, 4)),
    "conv2d dilated": Case(lambda: Layered(nn.Conv2d(1, 2, 2, dilation=2), 8), (1, 4, 4)),
    "group norm": Case(lambda: Layered(nn.GroupNorm(2, 4), 8), (4, 2)),
    "layer norm": Case(lambda: Layered(nn.LayerNorm(6), 6), (6,)),
    "instance norm": Case(lambda: Layered(nn.InstanceNorm1d(2, affine=True), 8), (2, 4)),
    "embedding": Case(lambda: Layered(nn.Embedding(5, 3), 9), (3,), tokens=5),
    "black box": Case(lambda: boxed(sine), (5,), twin=lambda: boxed(torch.sin)),
}
TEXT = {"vocabulary": 6, "embedding": 3, "hidden": 3, "sequence": 3, "classes": CLASSES}
GRAPH = {"nodes": 5, "features": 3, "hidden": 3, "classes": CLASSES}
ZOO = {
    **{
        f"{cell}, noise on {where}": (cell, {**TEXT, "noise": where})
        for cell, places in (
            ("rnn", ("output", "state", "gates")),
            ("gru", ("state", "gates")),
            ("lstm", ("output", "state", "gates")),
        )
        for where in places
    },
    "gcn": ("gcn", GRAPH),
    "gat": ("gat", {**GRAPH, "heads": 2}),
}


def model_of(name: str) -> tuple[TorchModel, nn.Module]:
    """The model, and the module whose autograd is the reference."""
    if name in ZOO:
        found = build(ZOO[name][0], **ZOO[name][1])
        return found, found.module
    case = LAYERS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        module = case.make()
        twin = module if case.twin is None else case.twin()
    twin.load_state_dict(module.state_dict())

    def example(batch: int) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(5)
        if case.tokens:
            return (torch.randint(0, case.tokens, (batch, *case.shape), generator=generator),)
        return (torch.randn(batch, *case.shape, generator=generator),)

    return TorchModel(name.replace(" ", "-"), module, example, CLASSES), twin


@cache
def opened(name: str) -> tuple[Subject, Array]:
    """The subject and its true gradient as one vector."""
    model, reference = model_of(name)
    exported = export_model(model, SAMPLES)
    stages = build_stages(exported.graph, cut_graph(exported.graph, "layer"), batch=SAMPLES)
    program = build_program(exported.graph, exported.program, stages)
    inputs = model.example(SAMPLES)
    shape = program.shapes.get(program.output, (SAMPLES, CLASSES))
    targets = torch.randint(0, CLASSES, (SAMPLES, *shape[2:]), generator=torch.Generator().manual_seed(3))
    subject = subject_of(program, program.stages, Batch(inputs, targets))
    _, gradient = true_gradient(reference, program.parameters, subject.batch)
    return subject, flat(subject, gradient)


def flat(subject: Subject, gradient: Any) -> Array:
    return np.concatenate([gradient[name].numpy().ravel() for name in subject.names]).astype(np.float64)


def estimates(subject: Subject, options: RuleOptions, copies: int, runs: int = RUNS, sigma: float = SIGMA) -> Array:
    """Independent estimates, ``(runs, parameters)``."""
    sampler = Sampler(subject, options, Settings(sigma=sigma))
    return np.stack([sampler.gradient(copies, 1000 + run) for run in range(runs)])


def require_mean(found: Array, truth: Array, widest: float = 0.25) -> None:
    """The estimates' mean is the truth: along it, in every component, and in its square norm."""
    runs = len(found)
    along = found @ truth / (truth @ truth)
    error = float(along.std(ddof=1)) / math.sqrt(runs)
    assert error < widest / 2, "the test must be able to see an error of half the gradient"
    assert abs(float(along.mean()) - 1) < 5 * error + 5e-3
    spread = found.std(0, ddof=1) / math.sqrt(runs) + 1e-4 * np.abs(truth).max()
    assert np.abs((found.mean(0) - truth) / spread).max() < 7, "Student's t of 23, of up to 150 components"
    # <g_i, g_j> over pairs of different runs has |truth|^2 as its mean; its error by leaving runs out.
    total = found.sum(0)
    squares = (found**2).sum(1)
    product = (total @ total - squares.sum()) / (runs * (runs - 1))
    less = total - found
    left = ((less**2).sum(1) - (squares.sum() - squares)) / ((runs - 1) * (runs - 2))
    jackknife = math.sqrt((runs - 1) / runs * float(((left - left.mean()) ** 2).sum()))
    assert abs(product - truth @ truth) < 5 * jackknife + 0.01 * float(truth @ truth)


def lr(**changes: Any) -> RuleOptions:
    return RuleOptions(**{"copies": 2, "update": False, "scope": "layerwise", **changes})


MORE: dict[str, dict[str, Any]] = {
    "sign of laplace, which is its score": {"noise": "laplace", "noise_code": "sign"},
    "sign of rademacher": {"noise": "rademacher", "noise_code": "sign"},
    "hadamard": {"noise": "hadamard", "reduction": "accumulate"},
    "sobol": {"noise": "sobol"},
    "joint": {"scope": "joint"},
    "joint, copy-mean": {"scope": "joint", "baseline": "copy-mean"},
    "joint, antithetic, accumulated": {"scope": "joint", "baseline": "antithetic", "reduction": "accumulate"},
}


FEW = ("conv2d", "group norm", "embedding", "gru, noise on state", "gat")
"""Types that stand for the others where the kind of noise matters more than the layer."""


@pytest.mark.parametrize("name", [*LAYERS, *ZOO])
def test_the_mean_over_noise_on_values_is_the_gradient(name: str) -> None:
    subject, truth = opened(name)
    require_mean(estimates(subject, lr(), 64), truth)


@pytest.mark.parametrize("noise", ["rademacher", "laplace"])
@pytest.mark.parametrize("name", FEW)
def test_so_it_is_for_noise_that_is_not_gaussian(name: str, noise: Any) -> None:
    subject, truth = opened(name)
    require_mean(estimates(subject, lr(noise=noise), 64), truth)


def test_noise_with_a_density_sees_through_a_black_box_and_two_points_are_refused() -> None:
    """Nobody knows whether the box has steps."""
    subject, truth = opened("black box")
    require_mean(estimates(subject, lr(noise="laplace"), 64), truth)
    with pytest.raises(OptionError, match="takes two values only"):
        estimates(subject, lr(noise="rademacher"), 2, runs=1)


@pytest.mark.parametrize("noise", MORE)
@pytest.mark.parametrize("name", ["linear", "linear on sequences"])
def test_so_it_is_for_every_code_order_and_baseline(name: str, noise: str) -> None:
    subject, truth = opened(name)
    # 16 copies of Hadamard noise would be exact: 4, so that there is something to average.
    require_mean(estimates(subject, lr(**MORE[noise]), 4 if noise == "hadamard" else 64), truth, widest=0.5)


@pytest.mark.parametrize("name", [*LAYERS, "rnn, noise on output", "gcn", "gat"])
def test_the_mean_over_noise_on_parameters_is_the_gradient(name: str) -> None:
    subject, truth = opened(name)
    require_mean(estimates(subject, lr(weight_noise=tuple(subject.spans)), 128), truth, widest=0.5)


@pytest.mark.parametrize("noise", ["rademacher", "laplace"])
def test_so_it_is_for_other_noise_on_parameters(noise: Any) -> None:
    subject, truth = opened("conv2d in groups")
    require_mean(estimates(subject, lr(weight_noise=tuple(subject.spans), noise=noise), 128), truth, widest=0.5)


def test_the_black_box_has_no_derivative() -> None:
    """So that the test above is about a function that autograd cannot enter."""
    value = torch.zeros(1, 5, requires_grad=True)
    with pytest.raises(RuntimeError, match="Trying to backward through"):
        sine(value).sum().backward()
