"""Noise in the executor: drawn by counter, added, kept or drawn again, and summed into a cotangent.

Noise is a function of (seed, step, stage, value, sample of the step, draw) alone, so that neither micro-batches nor
copy groups nor the schedule change a number.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from alrsim.estimators.codes import Code, decode, encode_noise
from alrsim.estimators.cotangent import folded_pairs
from alrsim.estimators.kernels.noise_key import PhiloxKey
from alrsim.estimators.kernels.philox import accumulate_noise, philox_noise
from alrsim.estimators.noise import add_weighted, antithetic, is_sign, sign_scale
from alrsim.execution.job import Job, Run
from alrsim.execution.kernels.ledger import Key
from alrsim.execution.kernels.products import Operand, noise_operand
from alrsim.hardware.precision import Precision
from alrsim.rules.instances import Instance
from alrsim.tasks.taskgraph import Category


def noise_key(job: Job, stage: int, value: int) -> PhiloxKey:
    """The counter of one value of a stage."""
    return PhiloxKey(job.settings.seed, job.settings.step, stage, value)


def samples_of(job: Job, microbatch: int) -> range:
    """A micro-batch's samples, counted over the whole step."""
    return range(microbatch * job.program.batch, (microbatch + 1) * job.program.batch)


def draws_of(one: Instance) -> range:
    """An instance's draws, counted over all copy groups that carry the same segment's noise."""
    return range(one.first, one.first + one.draws)


def noise_shapes(job: Job, stage: int) -> list[tuple[int, ...]]:
    """Shape per sample of every noised value of a stage: of its leaving values, or of its marked ones."""
    points = job.program.at(1)[stage].points
    if job.segmentation.inside(stage):
        shapes = [] if points is None else list(points.shapes)
    else:
        shapes = [job.program.shapes[name] for name, _ in job.segmentation.noised[stage]]
    batch = job.program.batch
    return [shape[1:] if shape[0] == batch else (prod(shape) // batch,) for shape in shapes]


def draw(run: Run, stage: int, microbatch: int, one: Instance) -> list[Tensor]:
    """The noise of a stage's leaving or marked values, ``(draws, samples, ...)`` each."""
    job = run.job
    copies, samples, device = draws_of(one), samples_of(job, microbatch), job.program.device
    return [
        philox_noise(noise_key(job, stage, position), copies, samples, shape, job.options.noise, device=device)
        for position, shape in enumerate(noise_shapes(job, stage))
    ]


def add_noise(run: Run, stage: int, value: Tensor, noise: Tensor, one: Instance, *, fresh: bool) -> Tensor:
    """``value + sigma * noise`` in every copy; ``fresh``: the value belongs to nobody else and is changed in place."""
    rows = antithetic(noise) if one.copies > one.draws else noise
    into = value if fresh else None
    return torch.add(value, rows.view(value.shape), alpha=run.job.settings.sigma_of(stage), out=into)


def adds_unseen(job: Job, value: Tensor) -> bool:
    """Whether noise can be added without being in memory: +-1 that nobody keeps, where both ways give the same bits."""
    unkept = job.options.precision.noise is Precision.REGENERATED
    return unkept and is_sign(job.options.noise) and value.is_contiguous()


def add_unseen(run: Run, stage: int, microbatch: int, position: int, value: Tensor, one: Instance) -> Tensor:
    """:func:`add_noise` of one of a stage's values, drawn while it is added; the value is changed in place."""
    job, samples = run.job, samples_of(run.job, microbatch)
    key, sigma = noise_key(job, stage, position), job.settings.sigma_of(stage)
    for row, part in enumerate(value.view(one.copies, len(samples), -1)):
        step = torch.full((1, len(samples)), sigma if row < one.draws else -sigma, device=value.device)
        copy = one.first + row % one.draws
        accumulate_noise(part, step, key, range(copy, copy + 1), samples, job.options.noise)
    return value


def scaled_rows(run: Run, stage: int, noise: Tensor, one: Instance) -> Tensor:
    """``sigma * noise`` for every row, stacked in the batch dimension: ``(rows * samples, ...)``."""
    rows = antithetic(noise) if one.copies > one.draws else noise
    return rows.flatten(0, 1) * run.job.settings.sigma_of(stage)


def store_noise(run: Run, task: int, stage: int, microbatch: int, one: Instance, noise: Sequence[Tensor]) -> None:
    """Keep the noise's code, unless it will be drawn again."""
    options = run.job.options
    key: Key = ("noise", stage, microbatch, one.group)
    precision = options.precision.noise
    if precision is Precision.REGENERATED or (run.store.recording and key in run.store.ledger.entries):
        return
    product = run.job.products.get(stage)
    codes: Sequence[Code | Operand]
    if product is not None and precision is options.precision.saved:
        codes = [noise_operand(product, value) for value in noise]
    else:
        signs = options.noise_code == "sign"
        codes = [encode_noise(value, precision, options.noise, signs=signs, copies=one.draws) for value in noise]
    run.store.put(task, key, codes, Category.NOISE, sum(code.nbytes for code in codes), stage)


def read_noise(run: Run, task: int, stage: int, microbatch: int, one: Instance) -> list[Tensor]:
    """The noise as a gradient task sees it, ``(draws, samples, ...)``: decoded, or drawn again."""
    options = run.job.options
    if options.precision.noise is not Precision.REGENERATED:
        codes: list[Code] = run.store.get(task, ("noise", stage, microbatch, one.group))
        return [decode(code) for code in codes]
    noise = draw(run, stage, microbatch, one)
    if options.noise_code == "sign":
        noise = [value.sign_().mul_(sign_scale(options.noise)) for value in noise]
    return noise


def noise_rows(run: Run, task: int, stage: int, microbatch: int, one: Instance) -> list[Tensor]:
    """:func:`read_noise` for every row of the instance, ``(rows, samples, ...)``: pairs negated."""
    noise = read_noise(run, task, stage, microbatch, one)
    return [antithetic(value) for value in noise] if one.copies > one.draws else noise


def summed_noise(
    run: Run, task: int, stage: int, microbatch: int, one: Instance, weights: Sequence[Tensor], factor: float
) -> list[Tensor]:
    """``factor * sum over rows of weight * noise`` for every noised value, ``(samples, ...)``, draws ascending.

    Args:
        weights: For every value, ``(rows, samples)`` or ``(rows, samples, positions)``.
    """
    job = run.job
    folded = [folded_pairs(weight, one.draws) * factor for weight in weights]
    device = job.program.device
    totals = [torch.zeros(job.program.batch, *shape, device=device) for shape in noise_shapes(job, stage)]
    again = job.options.precision.noise is Precision.REGENERATED
    if again and all(weight.dim() == 2 for weight in folded):
        copies, samples, signs = draws_of(one), samples_of(job, microbatch), job.options.noise_code == "sign"
        for value, (total, weight) in enumerate(zip(totals, folded, strict=True)):
            key = noise_key(job, stage, value)
            add_weighted(total, weight, key, copies, samples, job.options.noise, signs=signs)
        return totals
    for total, noise, weight in zip(totals, read_noise(run, task, stage, microbatch, one), folded, strict=True):
        for row, each in zip(noise, weight, strict=True):
            total.addcmul_(row, each.view(*each.shape, *(1,) * (row.dim() - each.dim())))
    return totals
