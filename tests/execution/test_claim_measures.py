"""Measures of claims against independent oracles."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from alrsim.experiments.context import Context
from alrsim.experiments.measures import accuracy, memory
from alrsim.experiments.measures.bench import draft, open_bench, zoo_model
from alrsim.experiments.measures.robustness import EPSILONS, attacked
from alrsim.experiments.measures.site import Site, open_site, sign_ceilings
from alrsim.steps.measuring import prepare_draft
from alrsim.training.job import TrainJob
from alrsim.training.setup import open_training

SMALL = {"hidden": "16"}


def test_ceilings_of_signs_equal_the_closed_form_of_a_linear_layer() -> None:
    site = Site("mlp", SMALL, "digits", None, 20, 5, (2,), 2, 0)
    opened = open_site(site)
    found = sign_ceilings(Context("quick"), site)
    names = {name: value.detach() for name, value in opened.subject.program.parameters.items()}
    matrices = [value for value in names.values() if value.dim() == 2]
    assert len(found) == len(matrices) == 3
    weight, bias = matrices[-1], next(v for v in names.values() if v.shape == (10,))
    batch = opened.subject.batch
    hidden: list[torch.Tensor] = []
    layers = [m for m in opened.module.modules() if isinstance(m, torch.nn.Linear)]
    handle = layers[-1].register_forward_hook(lambda _m, given, _out: hidden.append(given[0].detach()))
    torch.func.functional_call(opened.module, names, batch.inputs)
    handle.remove()
    x = hidden[0]
    signal = (F.linear(x, weight, bias).softmax(1) - F.one_hot(batch.targets, 10)) / len(x)
    coded = x.sign() * x.abs().sum() / (x != 0).sum()

    def flat(value: torch.Tensor) -> Any:
        return torch.cat([(signal.T @ value).ravel(), signal.sum(0)]).double().numpy()

    one, other = flat(coded), flat(x)
    assert found[-1] == pytest.approx(one @ other / np.linalg.norm(one) / np.linalg.norm(other), abs=1e-5)
    assert all(0.3 < value < 1 for value in found)


def test_kept_state_is_counted_as_shapes_say_and_as_predicted() -> None:
    bench = open_bench(zoo_model("mlp", ("hidden", "16")), 6)
    elements = 6 * 5 * (16 + 16 + 10) + 6 * 5 * (64 + 16 + 16)  # noise on every result, and every layer's input
    for name, size in (("lr", 4), ("alr", 1)):
        one = draft(bench, memory.NAMED[name][0], copies=5)
        assert memory.predicted_state(one.tasks) == size * elements, name
        recorded = memory.recorded_state(prepare_draft(bench, one))
        assert recorded == pytest.approx(size * elements, rel=0.02), "besides the scales of codes"


def test_noiseless_attacks_and_a_model_that_knows_nothing() -> None:
    job = TrainJob("mlp", model_options={**SMALL, "seed": "0"}, steps=1, eval_every=1)
    training = open_training(job)
    zero = {name: torch.zeros_like(value) for name, value in training.program.parameters.items()}
    found = attacked(training, zero, 0)
    labels = training.splits.test.labels
    assert found["clean"] == pytest.approx(100 * float((labels == 0).float().mean()), abs=1e-3)
    assert len(set(found.values())) == 1, "constant logits cannot be attacked"
    assert {f"FGSM {EPSILONS[0]:g}", f"Gaussian {EPSILONS[-1]:g}", f"uniform {EPSILONS[0]:g}"} < set(found)


def test_a_gradient_step_hurts_more_than_noise_of_its_size() -> None:
    from alrsim.training.loop import initial_state, run_training

    job = TrainJob("mlp", model_options={**SMALL, "seed": "0"}, steps=60, eval_every=60, rate=5e-3)
    training = open_training(job)
    found = attacked(training, run_training(training, initial_state(training)).parameters, 0)
    assert found["clean"] > 70
    for epsilon in EPSILONS[1:3]:
        assert found[f"FGSM {epsilon:g}"] < found[f"uniform {epsilon:g}"] - 5


def test_readings_of_a_training_log() -> None:
    steps = list(range(0, 90, 10))
    log = {"steps": steps, "accuracy": [float(s) for s in steps], "loss": [2.0 - s / 50 for s in steps]}
    assert accuracy.final(log) == 80
    assert accuracy.early(log) == 20
    assert accuracy.fluctuation(log) == pytest.approx(0, abs=1e-9), "a straight line does not fluctuate"
    log["loss"][-2] += 1.0
    assert accuracy.fluctuation(log) > 10


def test_differences_are_paired_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    logs = {"LR": [3.0, 4.0, 5.0], "BP": [1.0, 2.0, 3.0]}
    monkeypatch.setattr(accuracy, "scores", lambda _context, _setting, column, _reading: logs[column])
    monkeypatch.setattr(accuracy, "trained", lambda _context, _job: {})
    found = accuracy.difference(Context("quick"), "cifar10", "LR", "BP")
    assert (found.value, found.low, found.high) == (2.0, 2.0, 2.0), "the seeds' common spread is gone"
