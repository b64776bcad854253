"""Kernels of exact gradient tasks, B, I and W (of the loss, or of a cotangent inside a segment), and of updates, U."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from alrsim.errors import ExecutionError
from alrsim.execution.job import Run
from alrsim.execution.kernels.inputs import read_inputs
from alrsim.execution.kernels.losses import loss_gradient
from alrsim.execution.kernels.saving import Saved
from alrsim.execution.kernels.signals import signals_of
from alrsim.execution.kernels.sums import add_weights, put_input_gradient
from alrsim.execution.programs.stage_function import StageCode
from alrsim.rules.instances import Instance
from alrsim.tasks.taskgraph import Category
from alrsim.tasks.token import TaskId


def backward(run: Run, task: int, id_: TaskId) -> None:
    """B: input and weight gradients from what the forward kept; on the loss stage the gradient of the loss."""
    if id_.stage == run.job.loss_stage:
        one = run.job.by_group[id_.group]
        gradient, _ = loss_gradient(run, read_inputs(run, task, id_, one)[0].tensor, id_.microbatch, one)
        put_input_gradient(run, task, id_, run.job.program.output, gradient)
        return
    state, code, saved = _saved(run, task, id_)
    wanted = [edge for edge in saved.inputs if edge is not None]
    parameters = [get_gradient_edge(run.parameters[name]) for name in code.parameters]
    signals = signals_of(run, task, id_, state, code, saved)
    last = run.store.is_last(("saved", id_.stage, id_.microbatch, state.group))  # nobody else will read what F saved
    found = _pull(saved.outputs, [*wanted, *parameters], signals, again=not last)
    _put_input_gradients(run, task, id_, state, saved, found[: len(wanted)])
    add_weights(run, task, id_, dict(zip(code.parameters, found[len(wanted) :], strict=True)))


def input_gradient(run: Run, task: int, id_: TaskId) -> None:
    """I: gradients of the inputs, and the cotangents at every parametrised operator for W.

    A stage without parameters has only this; one whose rule gives it no W of its own adds its weights here.
    """
    if id_._replace(kind="W") not in run.job.tokens:
        backward(run, task, id_)
        return
    state, code, saved = _saved(run, task, id_)
    _refuse_shared(id_, code)
    wanted = [edge for edge in saved.inputs if edge is not None]
    names = list(saved.products)
    sources = [*wanted, *(saved.products[name] for name in names)]
    signals = signals_of(run, task, id_, state, code, saved)
    found = _pull(saved.outputs, sources, signals)
    _put_input_gradients(run, task, id_, state, saved, found[: len(wanted)])
    deltas = {name: delta for name, delta in zip(names, found[len(wanted) :], strict=True) if delta is not None}
    size = sum({value.untyped_storage().data_ptr(): value.nbytes for value in deltas.values()}.values())
    run.store.put(task, ("deltas", *id_[::2], id_.group), deltas, Category.TEMP, size, id_.stage)


def weight_gradient(run: Run, task: int, id_: TaskId) -> None:
    """W: the local weight gradient of each parametrised operator from I's cotangents; the chain is not run again.

    Where the rule has no I for the stage (nothing above it needs a gradient) W does the whole backward.
    """
    if id_._replace(kind="I") not in run.job.tokens:
        backward(run, task, id_)
        return
    _, code, saved = _saved(run, task, id_)
    deltas = run.store.get(task, ("deltas", *id_[::2], id_.group))
    gradients: dict[str, Tensor | None] = dict.fromkeys(code.parameters)
    for product in code.products:
        names = [name for name in product.values if name in deltas]
        if names:
            results, given = [saved.products[name] for name in names], [deltas[name] for name in names]
            parameters = [get_gradient_edge(run.parameters[name]) for name in product.parameters]
            found = _pull(results, parameters, given)
            gradients.update(zip(product.parameters, found, strict=True))
    add_weights(run, task, id_, gradients)


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
    outputs: Sequence[GradientEdge | None],
    sources: Sequence[GradientEdge],
    signals: Sequence[Tensor],
    *,
    again: bool = True,
) -> tuple[Tensor | None, ...]:
    """autograd.grad; an output that depends on nothing trained is left out.

    Args:
        again: Somebody else will read the graph. If not, what it saved is freed on the way, as by ``loss.backward()``.
    """
    pairs = [(output, signal) for output, signal in zip(outputs, signals, strict=True) if output is not None]
    results, given = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    if not results:
        return (None,) * len(sources)
    return torch.autograd.grad(results, list(sources), given, retain_graph=again, allow_unused=True)


def _saved(run: Run, task: int, id_: TaskId) -> tuple[Instance, StageCode, Saved]:
    state = run.job.state_of(id_)
    saved: Saved = run.store.get(task, ("saved", id_.stage, id_.microbatch, state.group))
    for key in saved.holds:
        run.store.touch(task, key)
    return state, run.job.program.at(state.copies)[id_.stage], saved


def _put_input_gradients(
    run: Run, task: int, id_: TaskId, state: Instance, saved: Saved, found: Sequence[Tensor | None]
) -> None:
    given = iter(found)
    for edge, asked in zip(run.job.program.stages.incoming(id_.stage), saved.inputs, strict=True):
        gradient = next(given) if asked is not None else None
        if gradient is None and run.job.wanted(id_.stage, edge.source):  # no derivative: a step, or whole numbers
            samples, *shape = run.job.program.shapes[edge.value]
            gradient = torch.zeros(samples * state.copies, *shape, device=run.job.program.device)
        if gradient is not None:
            put_input_gradient(run, task, id_, edge.value, gradient)


def _refuse_shared(id_: TaskId, code: StageCode) -> None:
    names = [name for product in code.products for name in product.parameters]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise ExecutionError(
            f"parameter {double[0]} is used twice in stage {id_.stage}, so its gradient cannot be split into I and W",
            where=str(id_),
            fix="use rule bp",
        )
