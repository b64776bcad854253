"""Evolution strategies: noise on a stage's parameters instead of its output.

Every copy runs the stage with parameters of its own, which all samples and micro-batches of the step share, so that a
copy's weight is its mean loss: ``g = 1/(n sigma) * sum_k (L_k - baseline) E_k``. Nothing is kept but noise.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from alrsim.estimators.codes import Code, decode
from alrsim.estimators.cotangent import folded_pairs
from alrsim.estimators.kernels.noise_key import PhiloxKey
from alrsim.estimators.kernels.philox import philox_noise
from alrsim.estimators.noise import add_weighted
from alrsim.execution.job import Job, Run
from alrsim.execution.kernels.inputs import stage_buffers
from alrsim.execution.kernels.noising import draws_of, noise_key, store_noise
from alrsim.execution.kernels.sigma_gradient import put_scores
from alrsim.execution.kernels.signals import estimate_factor, weights_of
from alrsim.execution.kernels.sums import add_weights
from alrsim.execution.programs.stage_function import StageCode
from alrsim.graph.stages import MODEL_INPUT
from alrsim.hardware.precision import Precision
from alrsim.rules.instances import CLEAN, Instance
from alrsim.tasks.token import TaskId

FIRST_VALUE = 128
"""Counter of the first parameter's noise; a stage's values have the numbers below."""

_ONE = range(1)


def perturbs(job: Job, stage: int, one: Instance) -> bool:
    """Whether the stage runs with noise on its parameters in this instance."""
    own = one.source is None or one.source == job.segmentation.segment[stage]
    return one.noisy and own and job.segmentation.on_weights(stage)


def forward_perturbed(run: Run, task: int, id_: TaskId, one: Instance) -> list[Tensor]:
    """F: the stage's outputs, copy after copy, each with parameters of its own."""
    code = run.job.program.at(1)[id_.stage]
    buffers = stage_buffers(run, code)
    inputs = _inputs(run, task, id_, one)
    noise = _draw(run, code, one)
    store_noise(run, task, id_.stage, id_.microbatch, one, noise)
    put_scores(run, task, id_.stage, id_.microbatch, one, [value[:, None] for value in noise])
    sigma = run.job.settings.sigma_of(id_.stage)
    parameters = [run.parameters[name].detach() for name in code.parameters]
    found: list[Sequence[Tensor]] = []
    with torch.no_grad():
        for row in range(one.copies):
            step = sigma if row < one.draws else -sigma
            drawn = [value[row % one.draws] for value in noise]
            moved = [torch.add(value, e, alpha=step) for value, e in zip(parameters, drawn, strict=True)]
            found.append(code.run([value[row % len(value)] for value in inputs], moved, buffers)[0])
    return [torch.cat(parts) for parts in zip(*found, strict=True)]


def parameter_gradient(run: Run, task: int, id_: TaskId) -> None:
    """G: the sum of every copy's noise, weighed by this micro-batch's share of its loss."""
    job, one = run.job, run.job.by_group[id_.group]
    code = job.program.at(1)[id_.stage]
    weights = weights_of(run, task, id_.microbatch, one)
    folded = folded_pairs(weights, one.draws).sum(1, keepdim=True) * estimate_factor(job, id_.stage)
    device = job.program.device
    totals = [torch.zeros(1, *run.parameters[name].shape, device=device) for name in code.parameters]
    if job.options.precision.noise is Precision.REGENERATED:
        signs = job.options.noise_code == "sign"
        for index, total in enumerate(totals):
            key = _key(job, id_.stage, index)
            add_weighted(total, folded, key, draws_of(one), _ONE, job.options.noise, signs=signs)
    else:
        codes: list[Code] = run.store.get(task, ("noise", id_.stage, id_.microbatch, one.group))
        for total, stored in zip(totals, codes, strict=True):
            for row, weight in zip(decode(stored), folded, strict=True):
                if device.type == "cpu":
                    total.add_(row, alpha=float(weight))
                else:  # a number would have to be waited for
                    total.addcmul_(row, weight)
    add_weights(run, task, id_, {name: total[0] for name, total in zip(code.parameters, totals, strict=True)})


def _inputs(run: Run, task: int, id_: TaskId, one: Instance) -> list[Tensor]:
    """Every input as ``(copies or 1, samples, ...)``: what all copies share is not repeated."""
    job, found = run.job, []
    for edge in job.program.stages.incoming(id_.stage):
        if edge.source == MODEL_INPUT:
            found.append(run.store.get(task, ("input", edge.value, id_.microbatch))[None])
        elif edge.source in one.stages:
            value = run.store.get(task, ("value", edge.value, id_.microbatch, one.group))
            found.append(value.view(one.copies, -1, *value.shape[1:]))
        else:
            found.append(run.store.get(task, ("value", edge.value, id_.microbatch, CLEAN))[None])
    return found


def _key(job: Job, stage: int, parameter: int) -> PhiloxKey:
    return noise_key(job, stage, FIRST_VALUE + parameter)


def _draw(run: Run, code: StageCode, one: Instance) -> list[Tensor]:
    """The noise of every parameter, ``(draws, *shape)``."""
    return [
        philox_noise(
            _key(run.job, code.index, index),
            draws_of(one),
            _ONE,
            run.parameters[name].shape,
            run.job.options.noise,
            device=run.job.program.device,
        )[:, 0]
        for index, name in enumerate(code.parameters)
    ]
