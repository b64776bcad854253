"""Learners: from parameters and a batch to gradients."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from torch import Tensor

from alrsim.estimators.monitor import SplitHalf
from alrsim.estimators.policy import Mask, Plan
from alrsim.execution.executor import Batch, Prepared, prepare
from alrsim.execution.job import settings_of
from alrsim.execution.programs.program import Program
from alrsim.execution.step import Lanes, StepResult, step_gradients
from alrsim.graph.stages import StageGraph
from alrsim.steps.chain import build_tasks, trainable
from alrsim.training.job import TrainJob
from alrsim.training.methods import (
    is_exact,
    mask_of,
    options_of,
    plan_of,
    rule_of,
    sigma_rule_of,
    sigmas_of,
)
from alrsim.training.place import Placement, place


class Learner(Protocol):
    """``learner(parameters, buffers, batch, step, copies, stream, sigma) -> StepResult``; changes nothing it is given.

    ``sigma`` replaces the noise scale of every stage; learners without noise take no notice of it, nor of ``copies``.
    """

    def __call__(
        self,
        parameters: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        batch: Batch,
        step: int,
        copies: int = 1,
        stream: int = 0,
        sigma: tuple[float, ...] | None = None,
    ) -> StepResult: ...


@dataclass(frozen=True, slots=True)
class Cost:
    """What a step takes.

    Attributes:
        forwards: Full forwards that each sample passes through.
        work: Multiply-accumulates over those of one forward of the batch (F, forward-equivalents).
    """

    forwards: float
    work: float


@dataclass(frozen=True)
class Method:
    """A learner with what a step of it costs.

    Attributes:
        cost: ``copies -> cost``.
        noisy: Whether copies mean anything to it.
        sigma: Noise scale of every stage at the start; ``None`` without noise.
        mask: Which losses weigh a noise element.
        learns_sigma: Whether the scales descend their own gradient.
    """

    learn: Learner
    cost: Callable[[int], Cost]
    noisy: bool
    sigma: tuple[float, ...] | None = None
    learns_sigma: bool = False
    mask: Mask = "none"


@dataclass
class Ready:
    """A prepared job with its lanes and its cost."""

    prepared: Prepared
    lanes: Lanes | None
    cost: Cost


@dataclass
class ExecutorLearner:
    """Steps of the task graph of a rule, in sequence or on a schedule; each number of copies is prepared once.

    Attributes:
        example: A batch for the recording pass.
    """

    program: Program
    stages: StageGraph
    job: TrainJob
    plan: Plan
    placement: Placement | None
    example: Batch
    sigma: tuple[float, ...]
    mask: Mask = "none"
    ready: dict[int, Ready] = field(default_factory=dict, repr=False)

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
        one = self.at(copies)
        return step_gradients(
            one.prepared,
            one.lanes,
            parameters=parameters,
            buffers=buffers,
            batch=batch,
            step=step,
            stream=stream,
            sigma=sigma,
        )

    def at(self, copies: int) -> Ready:
        """Build, record and place the tasks for so many copies."""
        if copies not in self.ready:
            options = options_of(self.job, self.plan, copies)
            rule = rule_of(self.job, self.plan)
            if rule == "bp" and self.placement is not None and self.placement.split_backward:
                rule = "bp-split"
            tasks = build_tasks(self.stages, rule, options)
            prepared = prepare(
                self.program,
                tasks,
                self.example,
                options,
                replace(settings_of(self.plan, seed=self.job.seed, sigmas=self.sigma), mask=self.mask),
            )
            lanes = place(tasks, options.precision, self.placement)
            macs = sum(task.work.macs + task.encoded.macs for task in tasks.tasks)
            once = sum(stage.forward.macs for stage in self.stages.stages) * self.job.microbatches
            self.ready[copies] = Ready(prepared, lanes, Cost(tasks.forwards_per_step, macs / max(once, 1)))
        return self.ready[copies]

    def cost(self, copies: int) -> Cost:
        return self.at(copies).cost


Maker = Callable[[TrainJob, Program, StageGraph, Placement | None, Batch], Method]
"""``(job, program, stages, placement, example batch) -> method``."""


def by_tasks(
    job: TrainJob, program: Program, stages: StageGraph, placement: Placement | None, example: Batch
) -> Method:
    """A method whose gradients are tasks: what ``simulate`` prices and ``execute`` runs.

    Raises:
        OptionError, ExecutionError: what does not fit together, or cannot be executed.
    """
    plan = plan_of(job, trainable(stages))
    sigma = sigmas_of(job, plan, program, example)
    mask = mask_of(job, plan, program)
    learner = ExecutorLearner(program, stages, job, plan, placement, example, sigma, mask)
    learner.at(job.copies)
    if is_exact(plan):
        return Method(learner, learner.cost, False)
    return Method(learner, learner.cost, True, sigma, sigma_rule_of(plan) == "learned", mask)


def halves(
    learn: Learner,
    parameters: Mapping[str, Tensor],
    buffers: Mapping[str, Tensor],
    batch: Batch,
    step: int,
    copies: int,
    sigma: tuple[float, ...] | None = None,
) -> tuple[StepResult, SplitHalf]:
    """One step as two with half of the copies each and independent noise.

    Returns:
        The mean of both, and the inner products of their gradients. For independent copies it is as good as one step
        with all of them. Hadamard and Sobol noise lose what their copies have jointly beyond a half, and the mean that
        copy-mean subtracts is one over half of the copies.
    """
    first = learn(parameters, buffers, batch, step, copies // 2, 0, sigma)
    second = learn(parameters, buffers, batch, step, copies // 2, 1, sigma)
    pairs = [(first.gradients[name].double(), second.gradients[name].double()) for name in first.gradients]
    found = SplitHalf(
        float(sum((a * b).sum() for a, b in pairs)),
        float(sum((a * a).sum() for a, _ in pairs)),
        float(sum((b * b).sum() for _, b in pairs)),
    )
    mean = {name: (value + second.gradients[name]) / 2 for name, value in first.gradients.items()}
    losses = first.losses if first.clean else (first.losses + second.losses) / 2
    scales = {at: (value + second.sigma_gradients[at]) / 2 for at, value in first.sigma_gradients.items()}
    return StepResult(mean, first.buffers, losses, first.clean, scales), found
