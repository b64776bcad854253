"""G of a linear map whose input and noise are codes: one product of integers or bits per sign of a pair."""

import torch
from torch import Tensor

from alrsim.estimators.kernels.state import State
from alrsim.estimators.noise import sign_scale
from alrsim.execution.job import Run
from alrsim.execution.kernels.noising import draw, read_noise
from alrsim.execution.kernels.products import Operand, StageProduct, noise_operand, spread_out
from alrsim.execution.kernels.signals import estimate_factor, weights_of
from alrsim.execution.kernels.sums import add_weights
from alrsim.hardware.precision import Precision
from alrsim.rules.instances import Instance
from alrsim.tasks.token import TaskId


def product_gradient(run: Run, task: int, id_: TaskId, product: StageProduct) -> None:
    """G: weight and bias gradients from the codes as they are stored."""
    job, one = run.job, run.job.by_group[id_.group]
    factor = estimate_factor(job, id_.stage) * sign_scale(job.options.noise)
    weights = weights_of(run, task, id_.microbatch, one) * factor
    noise = _noise(run, task, id_, product, one)
    operands: list[Operand] = run.store.get(task, ("code", id_.stage, id_.microbatch, id_.group))
    # The second half of pairs has the same noise negated, and inputs of its own.
    signed = [weight if half == 0 else -weight for half, weight in enumerate(weights.chunk(len(operands)))]
    kernel, shape = product.kernel, product.shape
    total = torch.zeros(shape.weight)
    for operand, weight in zip(operands, signed, strict=True):
        scaled = weight if operand.scale is None else weight * operand.scale[:, None]
        total += kernel.multiply(spread_out(operand), noise, scaled, shape, 1)
    gradients: dict[str, Tensor | None] = {product.direct.weight: total}
    if product.direct.bias is not None:
        gradients[product.direct.bias] = kernel.bias(noise, sum(signed[1:], signed[0]), shape)
    add_weights(run, task, id_, gradients)


def _noise(run: Run, task: int, id_: TaskId, product: StageProduct, one: Instance) -> State:
    """The signs of the noise of every draw."""
    job = run.job
    precision = job.options.precision.noise
    if precision is job.options.precision.saved:
        (operand,) = run.store.get(task, ("noise", id_.stage, id_.microbatch, one.group))
        return spread_out(operand)
    if precision is Precision.REGENERATED:
        (noise,) = draw(run, id_.stage, id_.microbatch, one)
    else:
        (noise,) = read_noise(run, task, id_.stage, id_.microbatch, one)
    return spread_out(noise_operand(product, noise))
