"""Accuracy under attack: fast gradient sign steps (FGSM) and random noise on the inputs of trained models."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from alrsim.execution.workers.thread_workers import one_thread
from alrsim.experiments.context import Context
from alrsim.experiments.measures.training import SETTINGS, describe, job_for
from alrsim.experiments.rules import Measured
from alrsim.training.job import TrainJob
from alrsim.training.loop import initial_state, run_training
from alrsim.training.setup import Training, open_training

EPSILONS = (0.05, 0.1, 0.2, 0.3)
"""Steps per pixel, in units of the inputs' range. The paper's own are in an appendix that is not at hand."""

SIGMA = 0.5
MORE_STEPS = 2
"""LR trains for more steps than BP, so that both are compared nearer to the same clean accuracy."""


def attacked(training: Training, parameters: dict[str, Tensor], seed: int) -> dict[str, float]:
    """Accuracies in percent: clean, FGSM, and Gaussian and uniform noise of the same size, by epsilon."""
    module, part = training.model.module, training.splits.prepare(training.splits.test)
    (inputs,), labels = part.inputs, part.labels
    leaves = {name: value.detach() for name, value in parameters.items()}
    low, high = float(inputs.min()), float(inputs.max())
    generator = torch.Generator().manual_seed(seed)

    def accuracy(values: Tensor) -> float:
        logits = functional_call(module, leaves, (values.clamp(low, high),))
        return 100 * float((logits.argmax(1) == labels).float().mean())

    with one_thread():
        point = inputs.clone().requires_grad_()
        (slope,) = torch.autograd.grad(F.cross_entropy(functional_call(module, leaves, (point,)), labels), [point])
        found = {"clean": accuracy(inputs)}
        for epsilon in EPSILONS:
            size = epsilon * (high - low)
            found[f"FGSM {epsilon:g}"] = accuracy(inputs + size * slope.sign())
            noise = torch.randn(inputs.shape, generator=generator)
            found[f"Gaussian {epsilon:g}"] = accuracy(inputs + size * noise)
            found[f"uniform {epsilon:g}"] = accuracy(
                inputs + size * (2 * torch.rand(inputs.shape, generator=generator) - 1)
            )
    return found


def _scores(context: Context, column: str, job: TrainJob) -> dict[str, float]:
    def run() -> dict[str, float]:
        training = open_training(job)
        state = run_training(training, initial_state(training))
        return attacked(training, state.parameters, job.seed)

    what = {"part": "attack", "job": job.identity, "steps": job.steps, "epsilons": EPSILONS}
    scores: dict[str, float] = context.once(what, run, words=f"train and attack {job.model}: {column}, seed {job.seed}")
    return scores


def against(context: Context, attack: str) -> Measured:
    """Accuracy of LR minus that of BP under an attack, mean over epsilons."""
    setting = SETTINGS["cifar10"]
    found: dict[str, list[dict[str, float]]] = {"BP": [], "LR": []}
    for seed in context.seeds:
        for column, runs in found.items():
            job = job_for(context, setting, column, seed)
            if column == "LR":
                job = replace(job, steps=MORE_STEPS * job.steps, changes={**job.changes, "sigma": SIGMA})
            runs.append(_scores(context, column, job))
    keys = [key for key in found["BP"][0] if key.startswith(attack)]
    means = {column: np.array([np.mean([run[key] for key in keys]) for run in runs]) for column, runs in found.items()}
    detail = {
        f"{column}, {key}": round(float(np.mean([run[key] for run in runs])), 2)
        for column, runs in found.items()
        for key in ("clean", *keys)
    }
    at = f"mean over epsilon {', '.join(f'{e:g}' for e in EPSILONS)} of the range"
    how = f"{describe(context, setting)}; LR with sigma {SIGMA:g} and {MORE_STEPS}x the steps; {attack}, {at}"
    clean = {column: float(np.mean([run["clean"] for run in runs])) for column, runs in found.items()}
    reason = (
        f"under attack LR {means['LR'].mean():.1f} %, BP {means['BP'].mean():.1f} %; clean LR {clean['LR']:.1f} %, "
        f"BP {clean['BP']:.1f} %: LR keeps {means['LR'].mean() / clean['LR']:.0%} of it, "
        f"BP {means['BP'].mean() / clean['BP']:.0%}"
    )
    return Measured.mean(means["LR"] - means["BP"], how, reason, detail)
