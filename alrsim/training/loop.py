"""The training loop: gradients, optimizer, monitor, log."""

from collections.abc import Callable
from math import isfinite
from time import perf_counter

import torch

from alrsim.datasets import epoch_of
from alrsim.errors import ExecutionError
from alrsim.estimators.monitor import MEASUREMENTS, NOTHING, smoothed, steer
from alrsim.execution.executor import Batch
from alrsim.execution.step import StepResult
from alrsim.execution.workers.thread_workers import one_thread
from alrsim.training.evaluate import evaluate
from alrsim.training.learner import Cost, halves
from alrsim.training.log import Row
from alrsim.training.optimize import RATE_SCHEDULES, apply, optimizer_of
from alrsim.training.setup import Training
from alrsim.training.state import TrainState

Progress = Callable[[TrainState], None]
"""Called after every step."""


def initial_state(training: Training) -> TrainState:
    """The model's own parameters, an optimizer without memory, and the first row of the log."""
    job, program = training.job, training.program
    parameters = {name: value.detach().clone().requires_grad_() for name, value in program.parameters.items()}
    optimizer = optimizer_of(job, list(parameters.values()))
    buffers = {name: value.detach().clone() for name, value in program.buffers.items()}
    state = TrainState(parameters, buffers, optimizer, RATE_SCHEDULES[job.rate_schedule](optimizer, job), job.copies)
    if training.method.learns_sigma:
        state.log_sigma = torch.tensor(training.method.sigma, dtype=torch.float64).log()
        state.sigma_optimizer = torch.optim.Adam([state.log_sigma], lr=job.sigma_rate)
    return state


def run_training(
    training: Training,
    state: TrainState,
    *,
    progress: Progress | None = None,
    save: Callable[[TrainState], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> TrainState:
    """Step until the job's steps are done, or until ``stop`` says so after a step.

    Args:
        state: Changed in place: of :func:`initial_state`, or that with a checkpoint loaded into it.
        save: Called after every row of the log and at a stop.

    Raises:
        ExecutionError: the loss is no number any more; what ``save`` wrote last is from before that.
    """
    job = training.job
    with one_thread():
        if not state.rows:
            state.rows.append(_row(training, state))
        while state.step < job.steps and not stop():
            _step(training, state)
            if state.step % job.eval_every == 0 or state.step == job.steps:
                state.rows.append(_row(training, state))
                state.loss_sum, state.loss_count = 0.0, 0
                if save is not None:
                    save(state)
            if progress is not None:
                progress(state)
    if save is not None and state.step < job.steps:
        save(state)
    return state


def _step(training: Training, state: TrainState) -> None:
    job = training.job
    begin = perf_counter()
    batch = training.batch(state.step)
    monitored = job.monitor and training.method.noisy and (state.step + 1) % job.monitor == 0
    found, cost = _monitored(training, state, batch) if monitored else _plain(training, state, batch)
    loss = float(found.losses.mean())
    if not isfinite(loss):
        raise ExecutionError(
            f"the loss of step {state.step + 1} is {loss}",
            where=f"{job.method} on {job.model}",
            fix="use a smaller `lr`, another `sigma`, or `baseline=clean`",
        )
    apply(state.optimizer, state.parameters, found.gradients, job)
    state.scheduler.step()
    if state.log_sigma is not None and state.sigma_optimizer is not None:
        scales = [found.sigma_gradients.get(stage, 0.0) for stage in range(len(state.log_sigma))]
        state.log_sigma.grad = torch.tensor(scales, dtype=torch.float64)
        state.sigma_optimizer.step()
    state.buffers = dict(found.buffers)
    state.loss_sum, state.loss_count = state.loss_sum + loss, state.loss_count + 1
    state.forwards, state.work = state.forwards + cost.forwards, state.work + cost.work
    state.step += 1
    state.seconds += perf_counter() - begin


def _plain(training: Training, state: TrainState, batch: Batch) -> tuple[StepResult, Cost]:
    learn, cost = training.method.learn, training.method.cost(state.copies)
    return learn(state.parameters, state.buffers, batch, state.step, state.copies, sigma=state.sigma), cost


def _monitored(training: Training, state: TrainState, batch: Batch) -> tuple[StepResult, Cost]:
    """A step in two halves; afterwards the number of copies may change."""
    job, learn = training.job, training.method.learn
    found, split = halves(learn, state.parameters, state.buffers, batch, state.step, state.copies, state.sigma)
    half = training.method.cost(state.copies // 2)
    state.split = smoothed(state.split, split)
    state.cosine = state.split.cosine
    state.measured += 1
    if job.target_cosine is not None and state.measured >= MEASUREMENTS:
        copies = steer(state.cosine, state.copies, job.target_cosine, job.copies_min, job.copies_max)
        if copies != state.copies:
            state.decisions.append(
                f"step {state.step + 1}: cosine {state.cosine:.2f} for a target of {job.target_cosine:g}, "
                f"{state.copies} -> {copies} copies"
            )
            state.copies, state.split, state.measured = copies, NOTHING, 0
    return found, Cost(2 * half.forwards, 2 * half.work)


def _row(training: Training, state: TrainState) -> Row:
    score = evaluate(training.model.module, state.parameters, state.buffers, training.splits, training.splits.test)
    return Row(
        step=state.step,
        epoch=epoch_of(training.splits, training.job.batch, state.step),
        train_loss=state.loss_sum / state.loss_count if state.loss_count else None,
        test_loss=score.loss,
        test_accuracy=score.accuracy,
        rate=float(state.optimizer.param_groups[0]["lr"]),
        forwards=state.forwards,
        work=state.work,
        seconds=state.seconds,
        copies=state.copies if training.method.noisy else 0,
        cosine=state.cosine,
    )
