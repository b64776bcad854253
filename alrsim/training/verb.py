"""``train``: train a model with any estimator, in sequence or on a schedule, and go on after a kill."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import ceil
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from alrsim.progress import stretch
from alrsim.steps.model import load_model
from alrsim.training.options import TrainOptions
from alrsim.verbs import verb
from alrsim.warning import warn
from alrsim.writing import write_atomically

if TYPE_CHECKING:
    from torch import Tensor, nn

    from alrsim.training.result import TrainResult
    from alrsim.training.setup import Training
    from alrsim.training.state import TrainState


@verb(TrainOptions)
def train(model: Any, data: Any = None, *, asked: TrainOptions) -> "TrainResult":
    """Train a model: BP, LR, ALR, ES, hybrids, feedback alignment or the HSIC bottleneck, with torch optimizers.

    The gradients come from the tasks that ``simulate`` prices and ``execute`` runs. Evaluated is always the clean
    model, on data that it has not learned from. The module that is given stays as it is, unless ``update_model`` is
    said: the trained weights are in the result. Ctrl-C lets a step finish and writes the checkpoint.

    Args:
        model: As :func:`alrsim.load_model` takes it, with torch code.
        data: ``(x, y)``: inputs and class numbers in memory, of which every fifth sample is held out; default: the
            option ``dataset``.

    Raises:
        OptionError: options that contradict each other, or data that do not fit.
        FileError: a checkpoint that is there already, is not, or belongs to another job.
        ExecutionError: what cannot be executed, or a loss that is no number any more.

    >>> run = train("mlp", option={"hidden": "8"}, method="lr", copies=4, steps=4, eval_every=2)
    >>> [row.step for row in run.rows]
    [0, 2, 4]
    """
    from alrsim.training.asked import checkpoint_of, require_fresh
    from alrsim.training.checkpoint import alone
    from alrsim.writing import check_writable

    file = checkpoint_of(asked)
    with alone([one for one in (asked.out, file and file.parent) if one is not None]):
        require_fresh(asked)
        if file is not None:
            check_writable(file)
        return _train(model, data, asked, file)


def _train(model: Any, data: Any, asked: TrainOptions, file: Path | None) -> "TrainResult":
    """Train, alone in its folders."""
    from alrsim.training.asked import job_of, weights_digest
    from alrsim.training.auto import with_stored_plan
    from alrsim.training.checkpoint import load_checkpoint, read_checkpoint
    from alrsim.training.loop import initial_state
    from alrsim.training.result import train_result
    from alrsim.training.setup import feed_job, open_training

    named = isinstance(model, str | Path)
    job, placement = job_of(str(model) if named else "", asked)
    with stretch(1, "load") as step:
        step(job.model)
        loaded = load_model(model, option=job.model_options if named else asked.option, bind=asked.bind)
        fed = feed_job(job, loaded, data)
        assert fed.splits is not None
        if not named:
            weights = weights_digest(fed.torch_model.module)
            job = replace(job, model=loaded.name, weights=weights, batch=asked.batch or loaded.batch or job.batch)
        steps = job.steps if asked.epochs is None else max(1, ceil(asked.epochs * len(fed.splits.train) / job.batch))
        job = replace(job, data=fed.dataset, steps=steps)
        if job.method == "auto" and asked.resume and file is not None:
            job = with_stored_plan(job, read_checkpoint(file).job)
        training = open_training(job, placement=placement, fed=fed)
        state = initial_state(training)
    resumed = None
    if asked.resume and file is not None:
        load_checkpoint(file, training.job, state)
        resumed = state.step
    carry_out(training, state, file, asked.out)
    result = train_result(training, state, placement, resumed)
    if asked.out is not None:
        result.save(asked.out)
    if asked.update_model and loaded.torch_model is not None:
        put(loaded.torch_model.module, result.weights)
    return result


def carry_out(training: "Training", state: "TrainState", checkpoint: Path | None, out: Path | None) -> None:
    """Train, with a checkpoint and the log at every row.

    Raises:
        KeyboardInterrupt: Ctrl-C. The first one lets the step finish, so that the checkpoint is a whole one.
    """
    from alrsim.training.checkpoint import save_checkpoint
    from alrsim.training.log import to_csv, to_jsonl
    from alrsim.training.loop import run_training

    job = training.job

    def save(now: "TrainState") -> None:
        if checkpoint is not None:
            save_checkpoint(checkpoint, job, now)
        if out is not None:
            write_atomically(out / "log.csv", to_csv(now.rows))
            write_atomically(out / "log.jsonl", to_jsonl(now.rows))

    with stretch(job.steps - state.step, job.method) as advance, _first_interrupt() as asked_to_stop:

        def after(now: "TrainState") -> None:
            if now.step < job.steps:
                advance(f"step {now.step + 1}/{job.steps}, test {100 * now.rows[-1].test_accuracy:.1f} %")

        advance(f"step {state.step + 1}/{job.steps}")
        run_training(training, state, progress=after, save=save, stop=asked_to_stop)
    if state.step < job.steps:
        where = f"; go on with the same options and `resume` ({checkpoint})" if checkpoint else ""
        warn(f"stopped after step {state.step} of {job.steps}{where}")
        raise KeyboardInterrupt


def put(module: "nn.Module", weights: "dict[str, Tensor]") -> None:
    """Trained weights into a module; what it does not hold in that shape (a data set's own graph) is left out."""
    own = module.state_dict()
    module.load_state_dict(
        {**own, **{name: value for name, value in weights.items() if value.shape == own[name].shape}}
    )


@contextmanager
def _first_interrupt() -> Iterator[Callable[[], bool]]:
    """Take the first Ctrl-C as a wish; the second one interrupts as usual."""
    stopped = False
    before = signal.getsignal(signal.SIGINT)

    def note(_signal: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        signal.signal(signal.SIGINT, before)

    try:
        signal.signal(signal.SIGINT, note)
    except ValueError:  # not the main thread: nobody sends it signals
        yield lambda: False
        return
    try:
        yield lambda: stopped
    finally:
        signal.signal(signal.SIGINT, before)
