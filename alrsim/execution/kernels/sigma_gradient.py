"""The gradient with respect to the noise scale: ``d E[L] / d log sigma = E[L * score(eps)]``, one number per stage.

The score of the scale is ``eps^2 - 1`` for Gaussian and ``sqrt(2) |eps| - 1`` for Laplace noise, summed over all
elements that share the scale. It is even in the noise, so that only the even part of a pair's losses matters: without
pairs and a baseline the estimate is noise (measured: a factor of 100 at sigma = 0.01).
"""

from collections.abc import Sequence
from math import sqrt

import torch
from torch import Tensor

from alrsim.errors import ExecutionError
from alrsim.estimators.noise import is_sign
from alrsim.estimators.policy import NoiseKind
from alrsim.execution.job import Job, Run
from alrsim.execution.kernels.folds import add_tensors
from alrsim.execution.kernels.ledger import Key
from alrsim.rules.instances import CLEAN, Instance
from alrsim.tasks.taskgraph import Category
from alrsim.tasks.token import TaskId


def scale_score(noise: Tensor, kind: NoiseKind) -> Tensor:
    """The score of log sigma, summed over the elements: of ``(draws, samples, ...)`` noise ``(draws, samples)``."""
    each = noise.abs() * sqrt(2) - 1 if kind == "laplace" else noise.square() - 1
    return each.flatten(2).sum(2)


def even_losses(losses: Tensor, draws: int, clean: Tensor | None) -> Tensor:
    """The even part of every draw's losses without what all draws share, ``(draws, samples)``.

    Args:
        losses: ``(rows, samples)``; of pairs first all ``+eps``, then all ``-eps``.
        clean: Noise-free losses; without them the mean of the other draws is subtracted.
    """
    even = losses if len(losses) == draws else (losses[:draws] + losses[draws:]) / 2
    if clean is not None:
        return even - clean
    return (even - even.mean(0)) * (draws / (draws - 1))


def put_scores(run: Run, task: int, stage: int, microbatch: int, one: Instance, noise: Sequence[Tensor]) -> None:
    """F: keep the scores of the noise that it drew, one number per draw and sample (parameters: per draw)."""
    key: Key = ("scores", stage, microbatch, one.group)
    if not run.job.settings.sigma_gradient or (run.store.recording and key in run.store.ledger.entries):
        return
    kind = run.job.options.noise
    scores = torch.stack([scale_score(value, kind) for value in noise]).sum(0)
    run.store.put(task, key, scores, Category.NOISE, scores.nbytes, stage)


def add_sigma_gradient(run: Run, task: int, id_: TaskId, one: Instance) -> None:
    """G or C: add one copy group's term of ``d (mean loss) / d log sigma``."""
    job, store = run.job, run.store
    if not job.settings.sigma_gradient:
        return
    clean = store.get(task, ("loss", id_.microbatch, CLEAN))[0] if job.options.baseline == "clean" else None
    even = even_losses(store.get(task, ("loss", id_.microbatch, one.group)), one.draws, clean)
    scores = store.get(task, ("scores", id_.stage, id_.microbatch, one.group))
    term = (even * scores).to(torch.float64).sum() / (job.draws_for(id_.stage) * job.samples)
    store.add(task, ("sigma", id_.stage), term, term.nbytes, id_.stage, add_tensors)


def sigma_gradients(run: Run) -> dict[int, float]:
    """What a run found, by stage."""
    return {int(key[1]): float(value) for key, value in sorted(run.store.values.items()) if key[0] == "sigma"}


def refuse_sigma_gradient(job: Job) -> None:
    """Raise where no noise scale has a gradient.

    Raises:
        ExecutionError: noise of +-1, or a single draw without a baseline.
    """
    if not job.settings.sigma_gradient:
        return
    if is_sign(job.options.noise):
        raise ExecutionError(
            f"{job.options.noise} noise has no gradient of sigma: eps^2 - 1 is always 0",
            field="sigma_rule",
            fix="use gauss or laplace noise, or a fixed or relative sigma",
        )
    if job.options.baseline != "clean" and any(one.draws < 2 for one in job.instances.noisy):
        raise ExecutionError(
            "the gradient of sigma needs a baseline: the clean loss, or a second draw in every copy group",
            field="sigma_rule",
            fix="use copy groups of at least 2",
        )
