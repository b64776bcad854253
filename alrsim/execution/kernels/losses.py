"""Kernel of loss tasks, L, and the gradient of the loss."""

import torch
from torch import Tensor
from torch.nn import functional as F

from alrsim.execution.job import Run
from alrsim.execution.kernels.inputs import read_inputs, repeat
from alrsim.execution.kernels.sums import put_input_gradient
from alrsim.rules.instances import Instance
from alrsim.tasks.taskgraph import Category
from alrsim.tasks.token import TaskId

UNLABELLED = -100

_EACH = 0
"""torch's number for a loss per sample, not their mean or sum."""


def loss(run: Run, task: int, id_: TaskId) -> None:
    """L: per-sample cross entropies, and for an exact head the gradient of the step's mean loss."""
    job, one = run.job, run.job.by_group[id_.group]
    logits = read_inputs(run, task, id_, one)[0].tensor
    (incoming,) = job.program.stages.incoming(id_.stage)
    exact = job.segmentation.joined(incoming.source, id_.stage) and not one.noisy and not job.options.loss_gradient
    gradient, losses = loss_gradient(run, logits, id_.microbatch, one) if exact else (None, None)
    if losses is None:
        with torch.no_grad():
            losses = sample_losses(logits, repeat(run.targets[id_.microbatch], one.copies))
    rows = losses.view(one.copies, -1)
    run.store.put(task, ("loss", id_.microbatch, id_.group), rows, Category.ACTIVATION, rows.nbytes, id_.stage)
    if job.settings.mask == "reach":
        with torch.no_grad():
            parts = position_losses(logits, repeat(run.targets[id_.microbatch], one.copies))
        parts = parts.view(one.copies, -1, parts.shape[1])
        run.store.put(task, ("parts", id_.microbatch, id_.group), parts, Category.ACTIVATION, parts.nbytes, id_.stage)
    if gradient is not None:
        put_input_gradient(run, task, id_, job.program.output, gradient)


def loss_gradient(run: Run, logits: Tensor, microbatch: int, one: Instance) -> tuple[Tensor, Tensor]:
    """Gradient of this micro-batch's part of the step's mean loss, and its per-sample losses."""
    targets = repeat(run.targets[microbatch], one.copies)
    if logits.dim() == 2:
        return _class_gradient(logits.detach(), targets, run.job.samples)
    leaf = logits.detach().requires_grad_()
    with torch.enable_grad():
        losses = sample_losses(leaf, targets)
        (gradient,) = torch.autograd.grad(losses.sum() / run.job.samples, [leaf])
    return gradient, losses.detach()


def _class_gradient(logits: Tensor, targets: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """The same where samples have one class each, by the operators that autograd would call: recording them takes
    longer than a small loss itself."""
    logs = torch.log_softmax(logits, 1)
    each, total = torch.ops.aten.nll_loss_forward(logs, targets, None, _EACH, UNLABELLED)
    shares = torch.full_like(each, 1 / samples)
    inner = torch.ops.aten.nll_loss_backward(shares, logs, targets, None, _EACH, UNLABELLED, total)
    return torch.ops.aten._log_softmax_backward_data(inner, logs, 1, logits.dtype), each


def sample_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of each sample, ``(samples,)``; where positions are classified, the mean over those with a label.

    A position with the target -100 has none, as for torch's cross entropy: the nodes of a graph not trained on.
    """
    losses = F.cross_entropy(logits, targets, ignore_index=UNLABELLED, reduction="none")
    if losses.dim() == 1:
        return losses
    labelled = (targets != UNLABELLED).flatten(1).sum(1).clamp(min=1)
    return losses.flatten(1).sum(1) / labelled


def position_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Every position's part of its sample's loss, ``(samples, positions)``; :func:`sample_losses` is their sum."""
    losses = F.cross_entropy(logits, targets, ignore_index=UNLABELLED, reduction="none").flatten(1)
    return losses / (targets != UNLABELLED).flatten(1).sum(1, keepdim=True).clamp(min=1)
