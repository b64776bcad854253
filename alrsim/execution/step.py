"""One training step's gradients, without timing: a prepared job at other parameters, data and noise.

The job is prepared once (compiled, recorded, checked); a step only exchanges what changes between steps. In sequence
and under any schedule the same kernels run on the same numbers and every sum has one order, so the gradients agree bit
for bit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from alrsim.estimators.noise import mix
from alrsim.execution.executor import Batch, Prepared, lane_items, new_run, split_batch, task_body
from alrsim.execution.job import Run, Settings
from alrsim.execution.results import results_of
from alrsim.execution.workers.thread_workers import one_thread, run_lanes
from alrsim.rules.instances import CLEAN
from alrsim.schedule.check import check
from alrsim.schedule.schedule import Schedule
from alrsim.tasks.problem import Problem

Lanes = Sequence[Sequence[tuple[int, ...]]]
"""Per worker its items in order, each the indices of the tasks that run back to back."""


@dataclass(frozen=True)
class StepResult:
    """What a step found.

    Attributes:
        gradients: Of the step's mean loss (or their estimate), by parameter.
        buffers: All buffers after the step, running statistics moved.
        losses: Per-sample losses ``(samples,)``: of the clean forward if the method has one, else means over copies.
        clean: Whether ``losses`` are those of the clean forward.
        sigma_gradients: Of the mean loss with respect to log sigma, by stage, where the settings ask for it.
    """

    gradients: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    losses: Tensor
    clean: bool
    sigma_gradients: Mapping[int, float] = field(default_factory=dict)


def settings_at(settings: Settings, step: int, stream: int = 0, sigma: tuple[float, ...] | None = None) -> Settings:
    """Settings whose noise belongs to one step; streams of a step are independent of each other."""
    seed = mix((settings.seed, stream)) >> 1 if stream else settings.seed
    return replace(settings, step=step, seed=seed, sigma=settings.sigma if sigma is None else sigma)


def lanes_of(problem: Problem, schedule: Schedule) -> Lanes:
    """A schedule's lanes, checked once for all steps.

    Raises:
        ScheduleError, DeadlockError: the schedule does not fit the problem.
    """
    check(problem, schedule)
    return lane_items(problem.tasks, schedule)


def step_gradients(
    prepared: Prepared,
    lanes: Lanes | None,
    *,
    parameters: Mapping[str, Tensor],
    buffers: Mapping[str, Tensor],
    batch: Batch,
    step: int,
    stream: int = 0,
    sigma: tuple[float, ...] | None = None,
) -> StepResult:
    """Gradients at ``parameters`` on ``batch``. Nothing that is passed in is changed.

    Args:
        prepared: The job; its own parameters, buffers, batch and noise are not used.
        lanes: Of :func:`lanes_of`: a worker thread each; ``None`` runs the tasks in reference order on this thread.
        step: Number of the step: noise is a function of seed, step and stream.
        sigma: Of every stage; default: the job's.

    Raises:
        ExecutionError: data of the wrong shape, or a task failed.
    """
    job = prepared.job
    program = replace(job.program, parameters=parameters, buffers=buffers)
    job = replace(job, program=program, settings=settings_at(job.settings, step, stream, sigma))
    inputs, targets = split_batch(job, batch)
    now = replace(prepared, job=job, batch=batch, inputs=inputs, targets=targets)
    run = new_run(now, recording=False)
    body = task_body(now, run)
    if lanes is None:
        with one_thread():
            for index in range(len(job.graph.tasks)):
                body(index)
    else:
        run_lanes(job.graph, lanes, body)
    return _result(now, run)


def _result(prepared: Prepared, run: Run) -> StepResult:
    done = results_of(run)
    losses, clean = _losses(run, prepared.job.options.microbatches)
    return StepResult(done.gradients, done.buffers, losses, clean, done.sigma_gradients)


def _losses(run: Run, microbatches: int) -> tuple[Tensor, bool]:
    """``(samples,)``, micro-batch after micro-batch."""
    found: dict[int, dict[int, Tensor]] = {index: {} for index in range(microbatches)}
    for key, value in run.store.values.items():
        if key[0] == "loss":
            found[int(key[1])][int(key[2])] = value
    clean = all(CLEAN in groups or run.job.by_group[min(groups)].copies == 1 for groups in found.values() if groups)
    parts = []
    for groups in found.values():
        rows = groups[CLEAN] if CLEAN in groups else torch.cat([groups[group] for group in sorted(groups)])
        parts.append(rows.mean(0))
    return torch.cat(parts), clean
