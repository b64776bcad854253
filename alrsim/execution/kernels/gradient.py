"""Kernels of estimated gradient tasks: G, and C, which adds up a cotangent."""

from dataclasses import replace

import torch
from torch import Tensor

from alrsim.estimators.kernels.state import State
from alrsim.estimators.noise import sign_scale
from alrsim.estimators.vjp import local_vjp
from alrsim.execution.job import Run
from alrsim.execution.kernels.coding import coded_inputs
from alrsim.execution.kernels.folds import add_lists
from alrsim.execution.kernels.inputs import stage_buffers
from alrsim.execution.kernels.ledger import Key
from alrsim.execution.kernels.noising import draw, read_noise, summed_noise
from alrsim.execution.kernels.products import Operand, StageProduct, noise_operand, spread_out
from alrsim.execution.kernels.sigma_gradient import add_sigma_gradient
from alrsim.execution.kernels.signals import estimate_factor, signals_of, value_weights, weights_of
from alrsim.execution.kernels.sums import add_weights, put_input_gradient
from alrsim.execution.kernels.weight_noise import parameter_gradient
from alrsim.execution.programs.injection import marked_gradient
from alrsim.hardware.precision import Precision
from alrsim.rules.instances import Instance
from alrsim.tasks.taskgraph import Category
from alrsim.tasks.token import TaskId


def likelihood_ratio(run: Run, task: int, id_: TaskId) -> None:
    """G: the local VJP of the stage at its estimated cotangent."""
    job = run.job
    one = job.by_group.get(id_.group)  # none: all groups were accumulated
    if one is not None and one.noisy:
        add_sigma_gradient(run, task, id_, one)
    if job.segmentation.on_weights(id_.stage):
        parameter_gradient(run, task, id_)
        return
    if job.segmentation.inside(id_.stage):
        marked_gradient(run, task, id_)
        return
    product = job.products.get(id_.stage)
    if product is not None:
        _product_gradient(run, task, id_, product)
        return
    state = job.state_of(id_)
    if state.noisy and job.shares_input(id_.stage):
        state = replace(state, copies=1, draws=0)
    code = job.program.at(state.copies)[id_.stage]
    inputs = coded_inputs(run, task, id_, state, code)
    signals = signals_of(run, task, id_, state, code, None)
    direct = job.direct_map(id_.stage)
    if direct is not None:
        weight = run.parameters[direct.weight].detach()
        add_weights(run, task, id_, dict(direct.gradients(inputs[0], signals[0], weight)))
        return
    parameters = [run.parameters[name] for name in code.parameters]
    buffers = stage_buffers(run, code)
    edges = job.program.stages.incoming(id_.stage)
    wanted = [job.wanted(id_.stage, edge.source) for edge in edges]
    gradients, inward = local_vjp(
        lambda values, weights: code.run(values, weights, buffers)[0], inputs, parameters, signals, wanted
    )
    for edge, gradient in zip(edges, inward, strict=True):
        if gradient is not None:
            put_input_gradient(run, task, id_, edge.value, gradient)
    add_weights(run, task, id_, dict(zip(code.parameters, gradients, strict=True)))


def accumulate(run: Run, task: int, id_: TaskId) -> None:
    """C: add one copy group's weighted noise into the stage's estimated cotangent."""
    job, one = run.job, run.job.by_group[id_.group]
    add_sigma_gradient(run, task, id_, one)
    weights = value_weights(run, task, id_, one)
    terms = summed_noise(run, task, id_.stage, id_.microbatch, one, weights, estimate_factor(job, id_.stage))
    key: Key = ("cotangent", id_.stage, id_.microbatch)
    size = sum(term.nbytes for term in terms)
    run.store.add(task, key, terms, size, id_.stage, add_lists, Category.ACTIVATION)


def _product_gradient(run: Run, task: int, id_: TaskId, product: StageProduct) -> None:
    """G of a linear map whose input and noise are codes: weight and bias gradients from the codes as they are stored,
    by one product of integers or bits per sign of a pair."""
    job, one = run.job, run.job.by_group[id_.group]
    factor = estimate_factor(job, id_.stage) * sign_scale(job.options.noise)
    weights = weights_of(run, task, id_.microbatch, one) * factor
    noise = _product_noise(run, task, id_, product, one)
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


def _product_noise(run: Run, task: int, id_: TaskId, product: StageProduct, one: Instance) -> State:
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
