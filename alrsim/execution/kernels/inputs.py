"""What a stage reads: its own instance's values, or the clean ones with noise added."""

from dataclasses import dataclass

import torch
from torch import Tensor

from alrsim.execution.job import Job, Run
from alrsim.execution.kernels.ledger import Key
from alrsim.execution.kernels.noising import add_noise, add_unseen, adds_unseen, draw, store_noise
from alrsim.execution.kernels.sigma_gradient import put_scores
from alrsim.execution.programs.stage_function import StageCode
from alrsim.graph.stages import MODEL_INPUT, Edge
from alrsim.rules.instances import CLEAN, Instance, adds_noise
from alrsim.tasks.token import TaskId


@dataclass(slots=True)
class Input:
    """A value as a stage reads it; ``key`` is the buffer that it is, ``None`` if it was derived from one."""

    tensor: Tensor
    key: Key | None


def read_inputs(run: Run, task: int, id_: TaskId, one: Instance) -> list[Input]:
    """The stage's (or loss module's) inputs for one instance, in the order of its edges."""
    return [_read(run, task, edge, id_.microbatch, one) for edge in run.job.program.stages.incoming(id_.stage)]


def _read(run: Run, task: int, edge: Edge, microbatch: int, one: Instance) -> Input:
    job, store = run.job, run.store
    if edge.source == MODEL_INPUT:
        key: Key = ("input", edge.value, microbatch)
        value = store.get(task, key)
        return Input(value, key) if one.copies == 1 else Input(repeat(value, one.copies), None)
    if edge.source in one.stages:
        joined = job.segmentation.joined(edge.source, edge.target)
        name = "raw" if joined and one.noisy and one.source is None and job.leaves(edge.source) else "value"
        key = (name, edge.value, microbatch, one.group)
        return Input(store.get(task, key), key)
    value = repeat(store.get(task, ("value", edge.value, microbatch, CLEAN)), one.copies)
    if adds_noise(job.segmentation, edge.source, edge.target, one):
        position = [name for name, _ in job.segmentation.noised[edge.source]].index(edge.value)
        if adds_unseen(job, value):
            return Input(add_unseen(run, edge.source, microbatch, position, value, one), None)
        noise = draw(run, edge.source, microbatch, one)
        value = add_noise(run, edge.source, value, noise[position], one, fresh=True)
        if job.first_reader[edge.source] == edge.target:
            store_noise(run, task, edge.source, microbatch, one, noise)
            put_scores(run, task, edge.source, microbatch, one, noise)
    return Input(value, None)


def reads_model_alone(job: Job, stage: int) -> bool:
    """Whether all that a stage reads is the model's input, so that all copies compute the same until noise comes."""
    return all(edge.source == MODEL_INPUT for edge in job.program.stages.incoming(stage))


def read_model(run: Run, task: int, id_: TaskId) -> list[Tensor]:
    """The inputs of such a stage, ``(samples, ...)``: once for all copies."""
    edges = run.job.program.stages.incoming(id_.stage)
    return [run.store.get(task, ("input", edge.value, id_.microbatch)) for edge in edges]


def repeat(value: Tensor, copies: int) -> Tensor:
    """Stack copies of a micro-batch: copy after copy, samples inside."""
    return value.repeat(copies, *(1,) * (value.dim() - 1))


def stage_buffers(run: Run, code: StageCode) -> list[Tensor]:
    """The buffers that a stage reads; running statistics as zeros, so that what comes back is this term alone."""
    moved = {update.buffer for update in code.updates}
    return [torch.zeros_like(run.buffers[name]) if name in moved else run.buffers[name] for name in code.buffers]
