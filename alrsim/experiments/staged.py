"""Local learning rules on a staged program: clean forward stage by stage, a cotangent per stage, local VJPs.

The engine is the one of LR: only where the cotangent comes from differs.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from alrsim.errors import ExecutionError
from alrsim.estimators.vjp import local_vjp
from alrsim.execution.executor import Batch
from alrsim.execution.kernels.losses import sample_losses
from alrsim.execution.programs.program import Program
from alrsim.execution.programs.stage_function import StageCode
from alrsim.execution.step import StepResult
from alrsim.execution.workers.thread_workers import one_thread


@dataclass(frozen=True)
class Forward:
    """One clean forward of a batch.

    Attributes:
        values: Every value that crosses stages, and the model's inputs, by name; the batch in front.
        losses: Per-sample losses, ``(samples,)``.
        error: Gradient of the mean loss with respect to the logits.
    """

    codes: tuple[StageCode, ...]
    parameters: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    values: Mapping[str, Tensor]
    losses: Tensor
    error: Tensor


def forward(
    program: Program, stack: int, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], batch: Batch
) -> Forward:
    """Run all stages once, without autograd.

    Args:
        stack: Micro-batches in the batch; they run together.
    """
    codes = program.at(stack)
    values = dict(zip(program.inputs, batch.inputs, strict=True))
    with torch.no_grad():
        for code in codes:
            outputs, _, _ = code.run(
                [values[name] for name in code.inputs],
                [parameters[name].detach() for name in code.parameters],
                [buffers[name] for name in code.buffers],
            )
            values.update(zip(code.outputs, outputs, strict=True))
    leaf = values[program.output].detach().requires_grad_()
    with torch.enable_grad():
        losses = sample_losses(leaf, batch.targets)
        (error,) = torch.autograd.grad(losses.mean(), [leaf])
    return Forward(codes, parameters, buffers, values, losses.detach(), error)


@dataclass(frozen=True)
class LocalRule(ABC):
    """A learner whose cotangents come from a rule of its own: no noise, so copies and scales mean nothing to it."""

    program: Program
    microbatches: int

    def __call__(
        self,
        parameters: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        batch: Batch,
        step: int,
        copies: int = 1,
        stream: int = 0,
        sigma: tuple[float, ...] | None = None,
    ) -> StepResult:
        with one_thread():
            done = forward(self.program, self.microbatches, parameters, buffers, batch)
            gradients = self.gradients(done, batch)
        return StepResult(gradients, buffers, done.losses, True)

    def pulled(self, done: Forward, signal: Callable[[str], Tensor]) -> dict[str, Tensor]:
        """Gradients of all stages from the error at the logits and ``signal(name)`` at every other output of theirs."""
        gradients: dict[str, Tensor] = {}
        for code in done.codes:
            if code.parameters:
                signals = [done.error if name == self.program.output else signal(name) for name in code.outputs]
                gradients.update(pull(done, code, signals)[0])
        return gradients

    @abstractmethod
    def gradients(self, done: Forward, batch: Batch) -> dict[str, Tensor]:
        """Of every parameter, by name."""


def pull(
    done: Forward,
    code: StageCode,
    cotangents: Sequence[Tensor],
    wanted: Sequence[bool] = (),
    weights: Sequence[Tensor] | None = None,
) -> tuple[dict[str, Tensor], list[Tensor | None]]:
    """Gradients of a stage's parameters by name, and of its inputs where wanted.

    Args:
        cotangents: One for each of the stage's outputs.
        weights: Parameters to use instead of the stage's own.
    """
    buffers = [done.buffers[name] for name in code.buffers]
    own = [done.parameters[name] for name in code.parameters]
    found, inward = local_vjp(
        lambda values, given: code.run(values, given, buffers)[0],
        [done.values[name] for name in code.inputs],
        own if weights is None else weights,
        cotangents,
        wanted,
    )
    return dict(zip(code.parameters, found, strict=True)), inward


def require_local(program: Program, method: str) -> None:
    """Refuse what local rules cannot train.

    Raises:
        ExecutionError: batch norm in training mode, or a value between stages whose first dimension is not the batch.
    """
    if program.batch_statistics:
        raise ExecutionError(
            f"{method} trains stages by themselves, and batch norm in training mode moves statistics beside it",
            where=f"{program.name}, module {program.batch_statistics[0]}",
            fix="build the model with norm=group or norm=none",
        )
    for code in program.at(1):
        for name in code.outputs if code.parameters else ():
            if program.shapes[name][:1] != (program.batch,):
                raise ExecutionError(
                    f"{method} needs the samples in front, and value {name} has shape {program.shapes[name]}",
                    where=f"{program.name}, stage {code.index}",
                    fix="choose another `cut`, or another method",
                )


def local_macs(program: Program) -> tuple[int, int]:
    """Multiply-accumulates of a local rule's step over all stages, and of one forward: forward, local recomputation
    and weight gradients."""
    stages = program.stages.stages
    once = sum(stage.forward.macs for stage in stages)
    trained = [stages[code.index] for code in program.at(1) if code.parameters]
    again = sum(stage.forward.macs + stage.weight_gradient.macs for stage in trained)
    return once + again, once
