"""Gradient checks on real tasks: the variance law in closed form, what copies buy, what a missing baseline costs."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from alrsim.errors import ExecutionError
from alrsim.estimators.variance_law import Array
from alrsim.execution.executor import sequential
from alrsim.execution.job import Settings
from alrsim.quality.beale import beale, estimated, exact, walk
from alrsim.quality.curves import LAYER_MEAN, OVERALL, Quality, measure_quality
from alrsim.quality.reference import true_gradient, warm_start
from alrsim.quality.sampler import Sampler, Subject, subject_of
from alrsim.quality.trajectory_options import TrajectoryOptions
from alrsim.rules import RULES
from alrsim.rules.options import RuleOptions

LR = RuleOptions(copies=2, update=False, scope="layerwise")
SMALL = Settings(sigma=0.001, seed=5)


def opened(subject: Callable[..., Any], name: str, batch: int = 4, **options: object) -> tuple[Subject, Array]:
    """A model's subject and its true gradient as one vector."""
    one = subject(name, "layer", batch, **options)
    found = subject_of(one.program, one.stages, one.batch(1))
    _, gradient = true_gradient(one.model.module, one.program.parameters, found.batch)
    return found, np.concatenate([gradient[name].numpy().ravel() for name in found.names]).astype(np.float64)


def measured(subject: Subject, truth: Array, options: RuleOptions, copies: tuple[int, ...], draws: int = 6) -> Quality:
    return measure_quality(subject, truth, {"lr": options}, SMALL, copies, draws)[0]


def rho_of_linear_layer(subject: Subject) -> float:
    """Closed form for one linear layer (bias as an input of 1), Gaussian noise, clean baseline, small sigma:
    E|vjp(noise)|^2 = sum_b |x_b|^2 (m + 1) |delta_b|^2, because Cov(U_b) = (|delta|^2 I + delta delta')/n."""
    (inputs,), targets = subject.batch.inputs, subject.batch.targets
    values = subject.program.parameters
    logits = inputs @ values["weight"].T + values["bias"]
    delta = (torch.softmax(logits, 1) - torch.eye(4)[targets]) / len(targets)
    extended = torch.cat([inputs, torch.ones(len(inputs), 1)], 1)
    gradient = delta.T @ extended
    noise = (extended**2).sum(1) * (delta**2).sum(1) * (delta.shape[1] + 1)
    return float(noise.sum() / (gradient**2).sum())


def test_the_noise_of_a_linear_layers_copy_has_its_closed_form(subject: Callable[..., Any]) -> None:
    found, truth = opened(subject, "linear")
    quality = measured(found, truth, LR, (64, 320), draws=16)
    rho = rho_of_linear_layer(found)
    noise = quality.curve(OVERALL).noise_of_one_copy
    assert noise is not None
    assert noise.low is not None
    assert noise.high is not None
    assert noise.low < rho < noise.high, "the 95 % interval of this seed holds the closed form"
    assert noise.high - noise.low < 0.4 * rho
    assert quality.curve(OVERALL).relative_variance == pytest.approx(np.array([rho / 64, rho / 320]), rel=0.6)


def test_the_cosine_of_a_linear_layer_follows_the_law(subject: Callable[..., Any]) -> None:
    found, truth = opened(subject, "linear")
    copies = (8, 32, 128)
    quality = measured(found, truth, LR, copies, draws=24)
    rho = rho_of_linear_layer(found)
    for count, point in zip(copies, quality.layers[0].cosine, strict=True):
        predicted = 1 / np.sqrt(1 + rho / count)
        assert point.high is not None
        # three standard errors (t of 24 draws is 2.07) and the law's own O(1/n) error at few effective dimensions
        assert abs(point.value - predicted) < 1.5 * (point.high - point.value) + 0.03
    assert quality.layers[0].law is not None
    assert quality.layers[0].law.rho.value == pytest.approx(rho, rel=0.35)


def test_copies_raise_the_cosine_and_a_missing_baseline_ruins_it(subject: Callable[..., Any]) -> None:
    found, truth = opened(subject, "mlp", hidden=16)
    clean = measured(found, truth, LR, (16, 64, 256))
    rising = clean.curve(LAYER_MEAN).cosines.mean(0)
    assert rising[0] < rising[1] < rising[2]
    assert rising[2] > 0.8
    bare = measured(found, truth, replace(LR, baseline="none"), (16, 64, 256))
    assert bare.curve(LAYER_MEAN).cosines.mean(0)[2] < 0.3 * rising[2]
    ratio = bare.layers[0].noise_of_one_copy.value / clean.layers[0].noise_of_one_copy.value  # type: ignore[union-attr]
    assert ratio > 1000, "variance carries L^2/sigma^2 instead of |delta|^2"


@pytest.mark.parametrize("baseline", ["copy-mean", "antithetic"])
def test_other_baselines_are_as_good_as_the_clean_loss(subject: Callable[..., Any], baseline: Any) -> None:
    found, truth = opened(subject, "mlp", hidden=16)
    values = [
        measured(found, truth, replace(LR, baseline=one), (64,), draws=5).curve(OVERALL).acc
        for one in ("clean", baseline)
    ]
    assert values[0].value == pytest.approx(values[1].value, abs=0.08)


def test_means_over_runs_are_exactly_one_run_of_all_copies(subject: Callable[..., Any]) -> None:
    """Two runs of 4 and 2 copies, averaged by copies, against the engine's own gradients of the same runs."""
    found, _ = opened(subject, "mlp", hidden=16)
    sampler = Sampler(found, LR, SMALL)
    assert sampler.sizes(6) == [4, 2]
    seeds: list[tuple[int, int]] = []
    original = sampler.gradient

    def spy(copies: int, seed: int) -> Array:
        seeds.append((copies, seed))
        return original(copies, seed)

    sampler.gradient = spy  # type: ignore[method-assign]
    (estimate,) = sampler.curve((6,), 0, fresh=False)
    expected = np.zeros_like(estimate.gradient)
    for copies, seed in seeds:
        options = replace(LR, copies=copies)
        tasks = RULES["lr"](found.stages, options)
        done = sequential(found.program, tasks, found.batch, options, replace(SMALL, seed=seed))
        flat = torch.cat([done.gradients[name].flatten() for name in found.names])
        expected += copies * flat.double().numpy()
    assert estimate.gradient == pytest.approx(expected / 6, rel=1e-12, abs=0)


def test_the_same_seed_gives_the_same_curves_and_draws_differ(subject: Callable[..., Any]) -> None:
    found, truth = opened(subject, "linear")
    first, second = (measured(found, truth, LR, (4, 8), draws=3).curves[0].cosines for _ in range(2))
    assert np.array_equal(first, second)
    assert len(set(first[:, 0])) == 3
    fresh = measure_quality(found, truth, {"lr": LR}, SMALL, (4, 8), 3, fresh=True)[0].curves[0].cosines
    assert not np.array_equal(first, fresh)


def test_a_layer_without_a_gradient_has_no_cosine(subject: Callable[..., Any]) -> None:
    found, truth = opened(subject, "linear")
    with pytest.raises(ExecutionError, match="exactly zero"):
        measure_quality(found, 0 * truth, {"lr": LR}, SMALL, (4,), 1)


def test_training_lowers_the_loss_and_leaves_the_module_alone(subject: Callable[..., Any]) -> None:
    one = subject("mlp", "layer", 4, hidden=16)
    batch = one.batch(1)
    before = {name: value.clone() for name, value in one.program.parameters.items()}
    loss, _ = true_gradient(one.model.module, one.program.parameters, batch)
    trained = warm_start(one.model.module, one.program, lambda _: batch, 30)
    lower, _ = true_gradient(one.model.module, trained.parameters, batch)
    assert lower < 0.9 * loss
    assert all(torch.equal(before[name], value) for name, value in one.program.parameters.items())


def test_beales_function_has_its_minimum_and_its_gradient() -> None:
    assert float(beale(torch.tensor([3.0, 0.5]))) == 0.0
    assert float(beale(torch.tensor([-3.0, 2.0]))) == pytest.approx(385.453125)
    assert exact(torch.tensor([[-3.0, 2.0]])).tolist() == [[-300.75, 1494.0]]  # by hand from the derivatives


@pytest.mark.parametrize("method", ["lr", "alr"])
def test_the_walkers_estimates_have_the_gradient_as_their_mean(method: Any) -> None:
    point = torch.tensor([[1.0, 0.3]])
    mean = estimated(method, point, 0, TrajectoryOptions(copies=40_000, sigma=0.001))
    # variance of one copy is at most (pi/2) |g|^2 * 2, so 40,000 copies leave 1 %: allow five of these
    assert torch.linalg.norm(mean - exact(point)) < 0.05 * torch.linalg.norm(exact(point))


def test_bp_walks_down_and_every_walk_is_its_seeds() -> None:
    terms = TrajectoryOptions(steps=120, runs=3)
    walks = {method: walk(method, terms) for method in ("bp", "lr", "alr")}
    assert walks["bp"].losses[-1, 0] < 0.01 * walks["bp"].losses[0, 0]
    assert all(walk.path.shape == (121, 1 if name == "bp" else 3, 2) for name, walk in walks.items())
    assert np.array_equal(walks["lr"].path, walk("lr", terms).path)
    assert not np.array_equal(walks["lr"].path, walk("lr", replace(terms, seed=1)).path)
    assert not np.array_equal(walks["lr"].path[:, 0], walks["lr"].path[:, 1])


def test_a_walk_that_diverges_stops_where_it_left() -> None:
    gone = walk("bp", TrajectoryOptions(steps=50, lr=0.01))
    assert gone.diverged == (True,)
    assert np.isfinite(gone.path).all()
    assert gone.found == 0
