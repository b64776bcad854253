"""Kernel of forward tasks, F, with noise and codes where an estimated gradient needs them."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from alrsim.execute.coding import keep_codes
from alrsim.execute.inputs import read_inputs, stage_buffers
from alrsim.execute.job import Run
from alrsim.execute.ledger import Key
from alrsim.execute.noising import add_noise, draw, store_noise
from alrsim.execute.points import forward_marked, marks
from alrsim.execute.saving import forward_saving
from alrsim.execute.sigma import put_scores
from alrsim.execute.stagecode import StageCode
from alrsim.execute.weightnoise import forward_perturbed, perturbs
from alrsim.rules.instances import Instance
from alrsim.tasks.taskgraph import Category
from alrsim.tasks.token import TaskId


def forward(run: Run, task: int, id_: TaskId) -> None:
    """F: the stage's outputs for one instance, and what its gradient will need."""
    job, one = run.job, run.job.by_group[id_.group]
    if perturbs(job, id_.stage, one):
        code = job.program.at(1)[id_.stage]
        _put_outputs(run, task, id_, one, code, forward_perturbed(run, task, id_, one))
        return
    code = job.program.at(one.copies)[id_.stage]
    inputs = read_inputs(run, task, id_, one)
    parameters = [run.parameters[name] for name in code.parameters]
    buffers = stage_buffers(run, code)
    outputs: Sequence[Tensor]
    interior: Mapping[str, Tensor]
    terms: Sequence[Tensor]
    if job.keeps(id_.stage, one) and not job.exits(id_.stage):
        outputs, terms = forward_saving(run, task, id_, code, inputs, parameters, buffers)
    else:
        with torch.no_grad():
            if marks(job, id_.stage, one):
                outputs = forward_marked(run, task, id_, one, code, inputs)
                interior, terms = {}, []
            else:
                outputs, interior, terms = code.run([value.tensor for value in inputs], parameters, buffers)
        if job.keeps(id_.stage, one):
            keep_codes(run, task, id_, one, code, inputs, interior)
    _put_outputs(run, task, id_, one, code, outputs)
    _add_statistics(run, task, id_, code, terms)


def _put_outputs(run: Run, task: int, id_: TaskId, one: Instance, code: StageCode, outputs: Sequence[Tensor]) -> None:
    job = run.job
    noise: dict[str, Tensor] = {}
    if one.noisy and one.source is None and job.leaves(id_.stage):
        drawn = draw(run, id_.stage, id_.microbatch, one)
        noise = {name: value for (name, _), value in zip(job.segmentation.noised[id_.stage], drawn, strict=True)}
        store_noise(run, task, id_.stage, id_.microbatch, one, drawn)
        put_scores(run, task, id_.stage, id_.microbatch, one, drawn)
    edges = job.program.stages.outgoing(id_.stage)
    for name, output in zip(code.outputs, outputs, strict=True):
        value = output.detach()
        if name in noise:
            if any(edge.value == name and job.segmentation.joined(id_.stage, edge.target) for edge in edges):
                _put_value(run, task, id_, ("raw", name, id_.microbatch, id_.group), value)
            value = add_noise(run, id_.stage, value, noise[name], one, fresh=False)
        _put_value(run, task, id_, ("value", name, id_.microbatch, id_.group), value)


def _put_value(run: Run, task: int, id_: TaskId, key: Key, value: Tensor) -> None:
    run.store.put(task, key, value, Category.ACTIVATION, value.untyped_storage().nbytes(), id_.stage)


def _add_statistics(run: Run, task: int, id_: TaskId, code: StageCode, terms: Sequence[Tensor]) -> None:
    """Move running statistics in ascending micro-batch order, whatever the schedule."""
    given = iter(terms)
    for update in code.updates:
        buffer = run.buffers[update.buffer]
        term = next(given) if update.constant is None else torch.full_like(buffer, update.constant)

        def fold(so_far: Tensor | None, added: Tensor, *, old: Tensor = buffer, keep: float = update.keep) -> Tensor:
            current = old if so_far is None else so_far
            return (current * keep + added).to(old.dtype)

        run.store.add(task, ("stat", update.buffer), term, term.nbytes, id_.stage, fold)
