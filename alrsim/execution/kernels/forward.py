"""Kernel of forward tasks, F, with noise and codes where an estimated gradient needs them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from alrsim.execution.job import Job, Run
from alrsim.execution.kernels.coding import keep_codes
from alrsim.execution.kernels.inputs import read_inputs, read_model, reads_model_alone, repeat, stage_buffers
from alrsim.execution.kernels.ledger import Key
from alrsim.execution.kernels.noising import add_noise, add_unseen, adds_unseen, draw, store_noise
from alrsim.execution.kernels.saving import forward_saving
from alrsim.execution.kernels.sigma_gradient import put_scores
from alrsim.execution.kernels.weight_noise import forward_perturbed, perturbs
from alrsim.execution.programs.injection import forward_marked, marks
from alrsim.execution.programs.stage_function import StageCode
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
    if one.copies > 1 and _is_shared(job, id_.stage, one):
        _forward_shared(run, task, id_, one)
        return
    code = job.program.at(one.copies)[id_.stage]
    inputs = read_inputs(run, task, id_, one)
    parameters = [run.parameters[name] for name in code.parameters]
    buffers = stage_buffers(run, code)
    outputs: Sequence[Tensor]
    interior: Mapping[str, Any]
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
    held = [*(value.tensor for value in inputs), *parameters, *buffers]
    _put_outputs(run, task, id_, one, code, outputs, held)
    _add_statistics(run, task, id_, code, terms)


def _is_shared(job: Job, stage: int, one: Instance) -> bool:
    """Whether all copies have the same outputs until noise is added to them: then they are computed once."""
    saves = job.keeps(stage, one) and not job.exits(stage)
    return reads_model_alone(job, stage) and not saves and not marks(job, stage, one)


def _forward_shared(run: Run, task: int, id_: TaskId, one: Instance) -> None:
    job, stage = run.job, id_.stage
    code = job.program.at(1)[stage]
    buffers = stage_buffers(run, code)
    with torch.no_grad():
        outputs, interior, terms = code.run(
            read_model(run, task, id_), [run.parameters[name] for name in code.parameters], buffers
        )
    if job.keeps(stage, one):
        direct = job.direct_map(stage)
        found = {} if direct is None else {direct.value: interior[direct.value]}
        stacked = {name: repeat(value, one.copies) for name, value in found.items()}
        keep_codes(run, task, id_, one, code, read_inputs(run, task, id_, one), stacked)
    _put_outputs(run, task, id_, one, code, [repeat(value, one.copies) for value in outputs], ())
    _add_statistics(run, task, id_, code, terms)


def _put_outputs(
    run: Run,
    task: int,
    id_: TaskId,
    one: Instance,
    code: StageCode,
    outputs: Sequence[Tensor],
    held: Sequence[Tensor] | None = None,
) -> None:
    """Store what the stage hands on, with noise where it leaves its segment.

    Args:
        held: Tensors that others still read, which outputs may be views of; ``None``: all outputs may be.
    """
    job = run.job
    noised = [name for name, _ in job.segmentation.noised[id_.stage]]
    added = noised if one.noisy and one.source is None and job.leaves(id_.stage) else []
    joined = {
        edge.value for edge in job.program.stages.outgoing(id_.stage) if job.segmentation.joined(id_.stage, edge.target)
    }
    values = {name: output.detach() for name, output in zip(code.outputs, outputs, strict=True)}
    for name in added:
        if name in joined:
            _put_value(run, task, id_, ("raw", name, id_.microbatch, id_.group), values[name])
    if added and held is not None and not joined and all(adds_unseen(job, values[name]) for name in added):
        taken = Counter(value.untyped_storage().data_ptr() for value in (*held, *values.values()))
        for position, name in enumerate(added):
            alone = taken[values[name].untyped_storage().data_ptr()] == 1
            value = values[name] if alone else values[name].clone()
            values[name] = add_unseen(run, id_.stage, id_.microbatch, position, value, one)
    elif added:
        drawn = draw(run, id_.stage, id_.microbatch, one)
        store_noise(run, task, id_.stage, id_.microbatch, one, drawn)
        put_scores(run, task, id_.stage, id_.microbatch, one, drawn)
        for name, noise in zip(added, drawn, strict=True):
            values[name] = add_noise(run, id_.stage, values[name], noise, one, fresh=False)
    for name, value in values.items():
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
