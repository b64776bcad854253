"""Kernels of gradient tasks: B, I, W (exact or inside a segment), G and C (estimated), and U."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from alrsim.errors import ExecutionError
from alrsim.estimators.codes import decode
from alrsim.estimators.cotangent import cotangent, cotangent_rows, loss_weights
from alrsim.estimators.vjp import local_vjp
from alrsim.execute.forward import (
    Saved,
    direct_map,
    loss_gradient,
    put_loss_gradient,
    read_inputs,
    read_noise,
    stage_buffers,
)
from alrsim.execute.job import Run
from alrsim.execute.ledger import Key
from alrsim.execute.stagecode import StageCode
from alrsim.rules.instances import CLEAN, Instance
from alrsim.tasks.taskgraph import Category
from alrsim.tasks.token import TaskId


def backward(run: Run, task: int, id_: TaskId) -> None:
    """B: input and weight gradients from what the forward kept; on the loss stage the gradient of the loss."""
    if id_.stage == run.job.loss_stage:
        one = run.job.by_group[id_.group]
        gradient, _ = loss_gradient(run, read_inputs(run, task, id_, one)[0].tensor, id_.microbatch, one)
        put_loss_gradient(run, task, id_, gradient)
        return
    state, code, saved = _saved(run, task, id_)
    wanted = [edge for edge in saved.inputs if edge is not None]
    parameters = [get_gradient_edge(run.parameters[name]) for name in code.parameters]
    signals = _signals(run, task, id_, state, code, saved)
    found = _pull(saved.outputs, [*wanted, *parameters], signals)
    _put_input_gradients(run, task, id_, state, saved, found[: len(wanted)])
    _add_weights(run, task, id_, dict(zip(code.parameters, found[len(wanted) :], strict=True)))


def input_gradient(run: Run, task: int, id_: TaskId) -> None:
    """I: gradients of the inputs, and the cotangents at every parametrised operator for W.

    A stage without parameters has only this; one whose rule gives it no W of its own adds its weights here.
    """
    if not run.job.has(id_._replace(kind="W")):
        backward(run, task, id_)
        return
    state, code, saved = _saved(run, task, id_)
    _refuse_shared(id_, code)
    wanted = [edge for edge in saved.inputs if edge is not None]
    names = list(saved.products)
    sources = [*wanted, *(saved.products[name] for name in names)]
    signals = _signals(run, task, id_, state, code, saved)
    found = _pull(saved.outputs, sources, signals)
    _put_input_gradients(run, task, id_, state, saved, found[: len(wanted)])
    deltas = {name: delta for name, delta in zip(names, found[len(wanted) :], strict=True) if delta is not None}
    size = sum({value.untyped_storage().data_ptr(): value.nbytes for value in deltas.values()}.values())
    run.store.put(task, ("deltas", *id_[::2], id_.group), deltas, Category.TEMP, size, id_.stage)


def weight_gradient(run: Run, task: int, id_: TaskId) -> None:
    """W: the local weight gradient of each parametrised operator from I's cotangents; the chain is not run again.

    Where the rule has no I for the stage (nothing above it needs a gradient) W does the whole backward.
    """
    if not run.job.has(id_._replace(kind="I")):
        backward(run, task, id_)
        return
    _, code, saved = _saved(run, task, id_)
    deltas = run.store.get(task, ("deltas", *id_[::2], id_.group))
    gradients: dict[str, Tensor | None] = {}
    for product in code.products:
        names = [name for name in product.values if name in deltas]
        if names:
            results, given = [saved.products[name] for name in names], [deltas[name] for name in names]
            parameters = [get_gradient_edge(run.parameters[name]) for name in product.parameters]
            found = _pull(results, parameters, given)
            gradients.update(zip(product.parameters, found, strict=True))
    _add_weights(run, task, id_, gradients)


def likelihood_ratio(run: Run, task: int, id_: TaskId) -> None:
    """G: the local VJP of the stage at its estimated cotangent."""
    job = run.job
    state = job.state_of(id_)
    code = job.program.at(state.copies)[id_.stage]
    inputs = _coded_inputs(run, task, id_, state, code)
    signals = _signals(run, task, id_, state, code, None)
    direct = direct_map(run, id_.stage, code)
    if direct is not None:
        weight = run.parameters[direct.weight].detach()
        _add_weights(run, task, id_, dict(direct.gradients(inputs[0], signals[0], weight)))
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
            _put_input_gradient(run, task, id_, edge.value, gradient)
    _add_weights(run, task, id_, dict(zip(code.parameters, gradients, strict=True)))


def accumulate(run: Run, task: int, id_: TaskId) -> None:
    """C: add one copy group's weighted noise into the stage's estimated cotangent."""
    job, one = run.job, run.job.by_group[id_.group]
    weights = _weights(run, task, id_.microbatch, one)
    terms = [
        cotangent(weights, noise, job.settings.sigma, job.options.copies, job.samples)
        for noise in read_noise(run, task, id_.stage, id_.microbatch, one)
    ]
    key: Key = ("cotangent", id_.stage, id_.microbatch)
    size = sum(term.nbytes for term in terms)
    run.store.add(task, key, terms, size, id_.stage, _add_lists, Category.ACTIVATION)


def update(run: Run, task: int, id_: TaskId) -> None:
    """U: one optimizer step from zero state, into the run's copy; the loss module has nothing to update."""
    if id_.stage == run.job.loss_stage:
        return
    gradients: dict[str, Tensor] = run.store.get(task, ("grad", id_.stage))
    rate = run.job.settings.learning_rate
    for name, gradient in gradients.items():
        old, new, state = run.parameters[name].detach(), run.updated[name], run.optimizer[name]
        if run.job.options.optimizer == "adam":
            first, second = state
            first.mul_(0.9).add_(gradient, alpha=0.1)
            second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            torch.addcdiv(old, first / 0.1, (second / 0.001).sqrt_().add_(1e-8), value=-rate, out=new)
        elif run.job.options.optimizer == "momentum":
            torch.add(old, state[0].mul_(0.9).add_(gradient), alpha=-rate, out=new)
        else:
            torch.add(old, gradient, alpha=-rate, out=new)


def _pull(
    outputs: Sequence[GradientEdge | None], sources: Sequence[GradientEdge], signals: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    """autograd.grad; an output that depends on nothing trained is left out."""
    pairs = [(output, signal) for output, signal in zip(outputs, signals, strict=True) if output is not None]
    results, given = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return torch.autograd.grad(results, list(sources), given, retain_graph=True, allow_unused=True)


def _saved(run: Run, task: int, id_: TaskId) -> tuple[Instance, StageCode, Saved]:
    state = run.job.state_of(id_)
    saved: Saved = run.store.get(task, ("saved", id_.stage, id_.microbatch, state.group))
    for key in saved.holds:
        run.store.touch(task, key)
    return state, run.job.program.at(state.copies)[id_.stage], saved


def _signals(run: Run, task: int, id_: TaskId, state: Instance, code: StageCode, saved: Saved | None) -> list[Tensor]:
    """The cotangent of each output: what consumers in the segment computed, ascending, plus the estimate."""
    job = run.job
    noised = [name for name, _ in job.segmentation.noised[id_.stage]]
    estimates = _estimates(run, task, id_, state) if noised else []
    signals = []
    for name in code.outputs:
        terms = [
            run.store.get(task, ("gradient", name, edge.target, id_.microbatch, id_.group))
            for edge in sorted(job.program.stages.outgoing(id_.stage), key=lambda edge: edge.target)
            if edge.value == name and job.segmentation.joined(id_.stage, edge.target) and _makes(run, id_, edge.target)
        ]
        if not terms and saved is not None and name == job.program.output:
            logits = run.store.get(task, ("value", name, id_.microbatch, state.group))
            terms = [loss_gradient(run, logits, id_.microbatch, state)[0]]
        if name in noised:
            terms.append(estimates[noised.index(name)])
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        signals.append(total)
    return signals


def _makes(run: Run, id_: TaskId, target: int) -> bool:
    """Whether a task gives the gradient of the value that ``target`` reads (the loss may be left out of a rule)."""
    return target < run.job.loss_stage or run.job.options.loss


def _estimates(run: Run, task: int, id_: TaskId, state: Instance) -> list[Tensor]:
    """The estimated cotangent of every leaving value, in the rows of the state's forward."""
    job = run.job
    if job.options.reduction == "accumulate":
        totals: list[Tensor] = run.store.get(task, ("cotangent", id_.stage, id_.microbatch))
        return totals
    one = job.by_group[id_.group]
    weights = _weights(run, task, id_.microbatch, one)
    noises = read_noise(run, task, id_.stage, id_.microbatch, one)
    numbers = (job.settings.sigma, job.options.copies, job.samples)
    if state is not one:
        return [cotangent(weights, noise, *numbers) for noise in noises]
    return [cotangent_rows(weights, noise, *numbers).flatten(0, 1) for noise in noises]


def _weights(run: Run, task: int, microbatch: int, one: Instance) -> Tensor:
    """The weight of each row's noise, from per-sample losses and the baseline."""
    job = run.job
    baseline = job.options.baseline
    losses = run.store.get(task, ("loss", microbatch, one.group))
    clean = every = None
    if baseline == "clean":
        clean = run.store.get(task, ("loss", microbatch, CLEAN))[0]
    if baseline == "copy-mean":
        groups = [other.group for other in job.instances.noisy if other.source == one.source]
        every = torch.cat([run.store.get(task, ("loss", microbatch, group)) for group in groups])
    return loss_weights(losses, baseline, clean=clean, every=every)


def _coded_inputs(run: Run, task: int, id_: TaskId, state: Instance, code: StageCode) -> list[Tensor]:
    """What the local VJP runs on: decoded codes, or the values themselves where they were kept as they are."""
    job = run.job
    plan, signs = job.options.precision, job.options.signs
    direct = direct_map(run, id_.stage, code)
    as_is = plan.saved is plan.activations and not signs
    key: Key = ("code", id_.stage, id_.microbatch, state.group)
    from_input = direct is None or (direct.value in code.inputs and _stored(run, id_, state, direct.value))
    if not as_is or not from_input:
        return [decode(item) for item in run.store.get(task, key)]
    values = read_inputs(run, task, id_, state)
    if direct is not None:
        return [value.tensor for value, name in zip(values, code.inputs, strict=True) if name == direct.value]
    return [value.tensor for value in values]


def _stored(run: Run, id_: TaskId, state: Instance, name: str) -> bool:
    """Whether a stage's input is a buffer of the state's forward itself, not derived from the clean one."""
    edge = next(edge for edge in run.job.program.stages.incoming(id_.stage) if edge.value == name)
    return state.copies == 1 or edge.source in state.stages


def _put_input_gradients(
    run: Run, task: int, id_: TaskId, state: Instance, saved: Saved, found: Sequence[Tensor | None]
) -> None:
    given = iter(found)
    for edge, asked in zip(run.job.program.stages.incoming(id_.stage), saved.inputs, strict=True):
        if asked is not None:
            gradient = next(given)
            if gradient is None:
                samples, *shape = run.job.program.shapes[edge.value]
                gradient = torch.zeros(samples * state.copies, *shape)
            _put_input_gradient(run, task, id_, edge.value, gradient)


def _put_input_gradient(run: Run, task: int, id_: TaskId, value: str, gradient: Tensor) -> None:
    key: Key = ("gradient", value, id_.stage, id_.microbatch, id_.group)
    run.store.put(task, key, gradient, Category.TEMP, gradient.untyped_storage().nbytes(), id_.stage)


def _add_weights(run: Run, task: int, id_: TaskId, gradients: dict[str, Tensor | None]) -> None:
    terms = {name: value for name, value in gradients.items() if value is not None}
    if terms:
        size = sum(value.nbytes for value in terms.values())
        run.store.add(task, ("grad", id_.stage), terms, size, id_.stage, _add_named)


def _add_named(total: dict[str, Tensor], terms: dict[str, Tensor]) -> dict[str, Tensor]:
    for name, term in terms.items():
        total[name].add_(term)
    return total


def _add_lists(total: list[Tensor] | None, terms: list[Tensor]) -> list[Tensor]:
    if total is None:
        return terms
    for value, term in zip(total, terms, strict=True):
        value.add_(term)
    return total


def _refuse_shared(id_: TaskId, code: StageCode) -> None:
    names = [name for product in code.products for name in product.parameters]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise ExecutionError(
            f"parameter {double[0]} is used twice in stage {id_.stage}, so its gradient cannot be split into I and W",
            where=str(id_),
            fix="use rule bp",
        )
