"""Cotangents: what consumers in the segment computed, and what the losses of noisy copies estimate."""

import torch
from torch import Tensor

from alrsim.estimators.cotangent import cotangent_rows, loss_weights, rounded_weights
from alrsim.execution.job import Job, Run
from alrsim.execution.kernels.losses import loss_gradient
from alrsim.execution.kernels.noising import noise_rows, summed_noise
from alrsim.execution.kernels.saving import Saved
from alrsim.execution.programs.receptive_field import position_weights
from alrsim.execution.programs.stage_function import StageCode
from alrsim.rules.instances import CLEAN, Instance
from alrsim.tasks.token import TaskId


def signals_of(run: Run, task: int, id_: TaskId, state: Instance, code: StageCode, saved: Saved | None) -> list[Tensor]:
    """The cotangent of each output: what consumers in the segment computed, ascending, plus the estimate."""
    job = run.job
    noised = [name for name, _ in job.segmentation.noised[id_.stage]]
    estimates = estimates_of(run, task, id_, state) if noised else []
    outgoing = sorted(job.program.stages.outgoing(id_.stage), key=lambda edge: edge.target)
    # A rule may leave the loss out.
    made = [edge for edge in outgoing if edge.target < job.loss_stage or job.options.loss]
    signals = []
    for name in code.outputs:
        terms = [
            run.store.get(task, ("gradient", name, edge.target, id_.microbatch, id_.group))
            for edge in made
            if edge.value == name and job.segmentation.joined(id_.stage, edge.target)
        ]
        if not terms and saved is not None and name == job.program.output:
            logits = run.store.get(task, ("value", name, id_.microbatch, state.group))
            terms = [loss_gradient(run, logits, id_.microbatch, state)[0]]
        if name in noised:
            terms.append(estimates[noised.index(name)])
        signals.append(sum(terms[1:], start=terms[0]))
    return signals


def estimates_of(run: Run, task: int, id_: TaskId, state: Instance) -> list[Tensor]:
    """The estimated cotangent of every noised value, in the rows of the state's forward: of one copy if they share
    the clean state."""
    job = run.job
    if job.options.reduction == "accumulate":
        totals: list[Tensor] = run.store.get(task, ("cotangent", id_.stage, id_.microbatch))
        return totals
    one = job.by_group[id_.group]
    weights = value_weights(run, task, id_, one)
    if not state.noisy:
        return summed_noise(run, task, id_.stage, id_.microbatch, one, weights, estimate_factor(job, id_.stage))
    noises = noise_rows(run, task, id_.stage, id_.microbatch, one)
    numbers = (job.settings.sigma_of(id_.stage), job.draws_for(id_.stage), job.samples)
    return [
        cotangent_rows(weight, noise, *numbers).flatten(0, 1) for weight, noise in zip(weights, noises, strict=True)
    ]


def estimate_factor(job: Job, stage: int) -> float:
    """``1 / (draws * samples * sigma)``: turns a weighted sum of noise into a cotangent of the mean loss."""
    return 1 / (job.draws_for(stage) * job.samples * job.settings.sigma_of(stage))


def value_weights(run: Run, task: int, id_: TaskId, one: Instance) -> list[Tensor]:
    """For every noised value of a stage the weight of its rows, ``(rows, samples)``, or with a mask of the positions
    of its rows, ``(rows, samples, positions)``."""
    job = run.job
    if job.settings.mask == "none":
        return [weights_of(run, task, id_.microbatch, one)] * len(job.segmentation.noised[id_.stage])
    return position_weights(job, id_.stage, weights_of(run, task, id_.microbatch, one, "parts"))


def weights_of(run: Run, task: int, microbatch: int, one: Instance, what: str = "loss") -> Tensor:
    """The weight of each row's noise, from per-sample losses (or ``parts`` of them) and the baseline."""
    job = run.job
    baseline = job.options.baseline
    losses = run.store.get(task, (what, microbatch, one.group))
    clean = every = None
    if baseline == "clean":
        clean = run.store.get(task, (what, microbatch, CLEAN))[0]
    if baseline == "copy-mean":
        groups = [other.group for other in job.instances.noisy if other.source == one.source]
        every = torch.cat([run.store.get(task, (what, microbatch, group)) for group in groups])
    weights = loss_weights(losses, baseline, clean=clean, every=every)
    return rounded_weights(weights, job.settings.weight_code)
