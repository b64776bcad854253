"""Kernels of forward tasks: F, with noise and codes where LR needs them, and L."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn import functional as F

from alrsim.estimators.codes import decode, encode, encode_noise, sign_scale
from alrsim.estimators.noise import NoiseKey, stacked_noise
from alrsim.execute.job import Run
from alrsim.execute.ledger import Key
from alrsim.execute.operators import LinearMap
from alrsim.execute.stagecode import StageCode
from alrsim.graph.stages import MODEL_INPUT, Edge
from alrsim.hardware.precision import Precision
from alrsim.rules.instances import CLEAN, Instance
from alrsim.tasks.taskgraph import Category
from alrsim.tasks.token import TaskId


@dataclass(slots=True)
class Saved:
    """What autograd keeps of a stage's forward, held by edges of its graph: an edge keeps no tensor alive, so that
    only what the graph itself saved stays in memory.

    Attributes:
        inputs: Edge of every input whose gradient is wanted, ``None`` for the others.
        outputs: Edge of every output, ``None`` for one that depends on nothing trained.
        products: Edges of the parametrised operators' results by name.
        holds: Buffers of other keys that the graph keeps alive.
    """

    inputs: list[GradientEdge | None]
    outputs: list[GradientEdge | None]
    products: dict[str, GradientEdge]
    holds: tuple[Key, ...] = ()


class _Enter(torch.autograd.Function):
    """The identity, whose edge stands for an input without being the input: a leaf would keep its tensor alive."""

    @staticmethod
    def forward(_context: Any, _anchor: Tensor, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient


@dataclass(slots=True)
class Input:
    """A value as a stage reads it; ``key`` is the buffer that it is, ``None`` if it was derived from one."""

    tensor: Tensor
    key: Key | None


def forward(run: Run, task: int, id_: TaskId) -> None:
    """F: the stage's outputs for one instance, and what its gradient will need."""
    job, one = run.job, run.job.by_group[id_.group]
    code = job.program.at(one.copies)[id_.stage]
    inputs = read_inputs(run, task, id_, one)
    parameters = [run.parameters[name] for name in code.parameters]
    buffers = stage_buffers(run, code)
    if job.keeps(id_.stage, one) and not job.exits(id_.stage):
        outputs, terms = _forward_saving(run, task, id_, code, inputs, parameters, buffers)
    else:
        with torch.no_grad():
            outputs, interior, terms = code.run([value.tensor for value in inputs], parameters, buffers)
        if job.keeps(id_.stage, one):
            _keep_codes(run, task, id_, one, code, inputs, interior)
    _put_outputs(run, task, id_, one, code, outputs)
    _add_statistics(run, task, id_, code, terms)


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
        name = "raw" if joined and one.noisy and one.source is None and job.exits(edge.source) else "value"
        key = (name, edge.value, microbatch, one.group)
        return Input(store.get(task, key), key)
    value = repeat(store.get(task, ("value", edge.value, microbatch, CLEAN)), one.copies)
    if job.enters(edge.source, edge.target, one):
        names = [name for name, _ in job.segmentation.noised[edge.source]]
        noise = draw(run, edge.source, microbatch, one)
        value = value.add_(_flat(noise[names.index(edge.value)], one), alpha=job.settings.sigma)
        if job.first_reader[edge.source] == edge.target:
            store_noise(run, task, edge.source, microbatch, one, noise)
    return Input(value, None)


def draw(run: Run, stage: int, microbatch: int, one: Instance) -> list[Tensor]:
    """The noise of a stage's leaving values, ``(draws, samples, ...)`` each."""
    job = run.job
    first = (one.group - 1) % job.options.groups * one.draws if one.group > 0 else 0
    copies = range(first, first + one.draws)
    return [
        stacked_noise(
            NoiseKey(job.settings.seed, stage, position, microbatch, 0),
            copies,
            job.program.shapes[name],
            job.options.noise,
        )
        for position, (name, _) in enumerate(job.segmentation.noised[stage])
    ]


def read_noise(run: Run, task: int, stage: int, microbatch: int, one: Instance) -> list[Tensor]:
    """The noise as a gradient task sees it, ``(rows, samples, ...)``: decoded or drawn again, pairs negated."""
    job = run.job
    if job.options.precision.noise is Precision.REGENERATED:
        noise = draw(run, stage, microbatch, one)
        if job.options.signs:
            noise = [value.sign() * sign_scale(job.options.noise) for value in noise]
    else:
        noise = [decode(code) for code in run.store.get(task, ("noise", stage, microbatch, one.group))]
    return [torch.cat([value, -value]) for value in noise] if one.copies > one.draws else noise


def store_noise(run: Run, task: int, stage: int, microbatch: int, one: Instance, noise: Sequence[Tensor]) -> None:
    """Keep the noise's code, unless it will be drawn again."""
    job = run.job
    key: Key = ("noise", stage, microbatch, one.group)
    precision = job.options.precision.noise
    if precision is Precision.REGENERATED or (run.store.recording and key in run.store.ledger.entries):
        return
    kind, signs = job.options.noise, job.options.signs
    codes = [encode_noise(value, precision, kind, signs=signs, copies=one.draws) for value in noise]
    run.store.put(task, key, codes, Category.NOISE, sum(code.nbytes for code in codes), stage)


def repeat(value: Tensor, copies: int) -> Tensor:
    """Stack copies of a micro-batch: copy after copy, samples inside."""
    return value.repeat(copies, *(1,) * (value.dim() - 1))


def stage_buffers(run: Run, code: StageCode) -> list[Tensor]:
    """The buffers that a stage reads; running statistics as zeros, so that what comes back is this term alone."""
    moved = {update.buffer for update in code.updates}
    return [torch.zeros_like(run.buffers[name]) if name in moved else run.buffers[name] for name in code.buffers]


def _flat(noise: Tensor, one: Instance) -> Tensor:
    rows = torch.cat([noise, -noise]) if one.copies > one.draws else noise
    return rows.flatten(0, 1)


def _put_outputs(run: Run, task: int, id_: TaskId, one: Instance, code: StageCode, outputs: Sequence[Tensor]) -> None:
    job = run.job
    noise: dict[str, Tensor] = {}
    if one.noisy and one.source is None and job.exits(id_.stage):
        drawn = draw(run, id_.stage, id_.microbatch, one)
        noise = {name: value for (name, _), value in zip(job.segmentation.noised[id_.stage], drawn, strict=True)}
        store_noise(run, task, id_.stage, id_.microbatch, one, drawn)
    edges = job.program.stages.outgoing(id_.stage)
    for name, output in zip(code.outputs, outputs, strict=True):
        value = output.detach()
        if name in noise:
            if any(edge.value == name and job.segmentation.joined(id_.stage, edge.target) for edge in edges):
                _put_value(run, task, id_, ("raw", name, id_.microbatch, id_.group), value)
            value = torch.add(value, _flat(noise[name], one), alpha=job.settings.sigma)
        _put_value(run, task, id_, ("value", name, id_.microbatch, id_.group), value)


def _put_value(run: Run, task: int, id_: TaskId, key: Key, value: Tensor) -> None:
    run.store.put(task, key, value, Category.ACTIVATION, value.untyped_storage().nbytes(), id_.stage)


def _keep_codes(
    run: Run,
    task: int,
    id_: TaskId,
    one: Instance,
    code: StageCode,
    inputs: Sequence[Input],
    interior: Mapping[str, Tensor],
) -> None:
    """Code what the LR gradient multiplies: a linear map's own input, else every input of the stage."""
    plan, signs = run.job.options.precision, run.job.options.signs
    direct = direct_map(run, id_.stage, code)
    values = list(inputs)
    if direct is not None:
        held = [value for value, name in zip(inputs, code.inputs, strict=True) if name == direct.value]
        values = held or [Input(interior[direct.value], None)]
    as_is = plan.saved is plan.activations and not signs
    if as_is and all(value.key is not None for value in values):
        return  # the gradient reads the values themselves
    if as_is and direct is None:
        return  # it repeats the clean values or the model's input again
    codes = [encode(value.tensor, plan.saved, signs=signs, copies=one.copies) for value in values]
    size = sum(item.nbytes for item in codes)
    run.store.put(task, ("code", id_.stage, id_.microbatch, id_.group), codes, Category.ACTIVATION, size, id_.stage)


def direct_map(run: Run, stage: int, code: StageCode) -> LinearMap | None:
    """The stage's linear map, if its gradient is one product and no input gradient is wanted."""
    return None if run.job.segmentation.passes[stage] else code.direct


def _forward_saving(
    run: Run,
    task: int,
    id_: TaskId,
    code: StageCode,
    inputs: Sequence[Input],
    parameters: Sequence[Tensor],
    buffers: Sequence[Tensor],
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Run with autograd and keep its graph for B, I or W."""
    job, store = run.job, run.store
    edges = job.program.stages.incoming(id_.stage)
    anchor = torch.zeros((), requires_grad=True)
    wanted = [job.wanted(id_.stage, edge.source) for edge in edges]
    with torch.enable_grad():
        leaves = [
            _enter(anchor, value.tensor) if flag else value.tensor for value, flag in zip(inputs, wanted, strict=True)
        ]
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()

    with torch.enable_grad():
        if store.recording:
            with torch.autograd.graph.saved_tensors_hooks(pack, _same):
                outputs, interior, terms = code.run(leaves, parameters, buffers)
        else:
            outputs, interior, terms = code.run(leaves, parameters, buffers)
    names = {name for product in code.products for name in product.values}
    saved = Saved(
        [_edge(leaf) if flag else None for leaf, flag in zip(leaves, wanted, strict=True)],
        [_edge(output) for output in outputs],
        {name: get_gradient_edge(interior[name]) for name in sorted(names)},
    )
    for resident in (*parameters, *buffers):
        sizes.pop(resident.untyped_storage().data_ptr(), None)
    known: list[tuple[Key | None, Tensor]] = [(value.key, value.tensor) for value in inputs]
    known += [
        (("value", name, id_.microbatch, id_.group), output) for name, output in zip(code.outputs, outputs, strict=True)
    ]
    saved.holds = tuple(
        key
        for key, tensor in known
        if key is not None and sizes.pop(tensor.untyped_storage().data_ptr(), None) is not None
    )
    key: Key = ("saved", id_.stage, id_.microbatch, id_.group)
    store.put(task, key, saved, Category.ACTIVATION, sum(sizes.values()), id_.stage)
    return outputs, [term.detach() for term in terms]


def _enter(anchor: Tensor, value: Tensor) -> Tensor:
    entered: Tensor = _Enter.apply(anchor, value)  # type: ignore[no-untyped-call]
    return entered


def _edge(tensor: Tensor) -> GradientEdge | None:
    return get_gradient_edge(tensor) if tensor.requires_grad else None


def _same(tensor: Tensor) -> Tensor:
    return tensor


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


def loss(run: Run, task: int, id_: TaskId) -> None:
    """L: per-sample cross entropies, and for an exact head the gradient of the step's mean loss."""
    job, one = run.job, run.job.by_group[id_.group]
    logits = read_inputs(run, task, id_, one)[0].tensor
    exact = job.segmentation.joined(_last(run), id_.stage) and not one.noisy and not job.options.loss_gradient
    gradient, losses = loss_gradient(run, logits, id_.microbatch, one) if exact else (None, None)
    if losses is None:
        with torch.no_grad():
            losses = sample_losses(logits, repeat(run.targets[id_.microbatch], one.copies))
    rows = losses.view(one.copies, -1)
    run.store.put(task, ("loss", id_.microbatch, id_.group), rows, Category.ACTIVATION, rows.nbytes, id_.stage)
    if gradient is not None:
        put_loss_gradient(run, task, id_, gradient)


def loss_gradient(run: Run, logits: Tensor, microbatch: int, one: Instance) -> tuple[Tensor, Tensor]:
    """Gradient of this micro-batch's part of the step's mean loss, and its per-sample losses."""
    leaf = logits.detach().requires_grad_()
    with torch.enable_grad():
        losses = sample_losses(leaf, repeat(run.targets[microbatch], one.copies))
        (gradient,) = torch.autograd.grad(losses.sum() / run.job.samples, [leaf])
    return gradient, losses.detach()


def put_loss_gradient(run: Run, task: int, id_: TaskId, gradient: Tensor) -> None:
    """Hand the loss gradient to the stage that made the logits."""
    key: Key = ("gradient", run.job.program.output, id_.stage, id_.microbatch, id_.group)
    run.store.put(task, key, gradient, Category.TEMP, gradient.nbytes, id_.stage)


def sample_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of each sample, ``(samples,)``; the mean over positions where every position is classified."""
    losses = F.cross_entropy(logits, targets, reduction="none")
    return losses if losses.dim() == 1 else losses.flatten(1).mean(1)


def _last(run: Run) -> int:
    return run.job.program.stages.incoming(run.job.loss_stage)[0].source
