"""Noise on marked values inside a stage, and the gradient from there.

A noisy forward adds noise at the marks (``alrsim::inject``). Each marked value is a function of the parameters and of
the marked values before it, held; so the local VJP at the marks' cotangents, cut behind every mark, is the gradient.
"""

import torch
from torch import Tensor

from alrsim.estimators.vjp import local_vjp
from alrsim.execution.job import Job, Run
from alrsim.execution.kernels.coding import coded_inputs
from alrsim.execution.kernels.inputs import Input, stage_buffers
from alrsim.execution.kernels.noising import draw, scaled_rows, store_noise
from alrsim.execution.kernels.sigma_gradient import put_scores
from alrsim.execution.kernels.signals import estimates_of
from alrsim.execution.kernels.sums import add_weights
from alrsim.execution.programs.injected_stage import PointCode
from alrsim.execution.programs.stage_function import StageCode
from alrsim.rules.instances import Instance
from alrsim.tasks.token import TaskId


def marks(job: Job, stage: int, one: Instance) -> bool:
    """Whether the stage adds noise to its own marks in this instance."""
    own = one.source is None or one.source == job.segmentation.segment[stage]
    return one.noisy and own and job.segmentation.inside(stage)


def forward_marked(
    run: Run, task: int, id_: TaskId, one: Instance, code: StageCode, inputs: list[Input]
) -> tuple[Tensor, ...]:
    """F: the stage's outputs with noise on its marks."""
    noise = draw(run, id_.stage, id_.microbatch, one)
    store_noise(run, task, id_.stage, id_.microbatch, one, noise)
    put_scores(run, task, id_.stage, id_.microbatch, one, noise)
    parameters = [run.parameters[name] for name in code.parameters]
    added = [scaled_rows(run, id_.stage, value, one) for value in noise]
    return _points(code).noisy(*(value.tensor for value in inputs), *parameters, *stage_buffers(run, code), *added)


def marked_gradient(run: Run, task: int, id_: TaskId) -> None:
    """G: the local VJP at the marks, on the trajectory that the losses were seen on.

    That is every copy's own one where each has its own state; where copies share the clean state it is the clean one,
    which is the same to second order in sigma.
    """
    state = run.job.state_of(id_)
    code = run.job.program.at(state.copies)[id_.stage]
    points, buffers = _points(code), stage_buffers(run, code)
    added = [torch.zeros((), device=run.job.program.device)] * len(points.shapes)
    if state.noisy:
        # The trajectory needs the noise itself, whatever code of it was kept.
        drawn = draw(run, id_.stage, id_.microbatch, state)
        added = [scaled_rows(run, id_.stage, value, state) for value in drawn]
    parameters = [run.parameters[name] for name in code.parameters]
    inputs = coded_inputs(run, task, id_, state, code)
    shapes = [(state.copies * shape[0], *shape[1:]) for shape in points.shapes]
    signals = [value.view(shape) for value, shape in zip(estimates_of(run, task, id_, state), shapes, strict=True)]
    gradients, _ = local_vjp(
        lambda values, weights: points.cut(*values, *weights, *buffers, *added), inputs, parameters, signals
    )
    add_weights(run, task, id_, dict(zip(code.parameters, gradients, strict=True)))


def _points(code: StageCode) -> PointCode:
    assert code.points is not None, "the rule says that this stage has marks"
    return code.points
