"""``alrsim train``: train a model with any estimator, in sequence or on a schedule, and go on after a kill."""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from math import ceil, isfinite
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import typer

from alrsim.cli import train_options as options
from alrsim.cli.common import typed_options
from alrsim.cli.model import ModelRequest, request, torch_model
from alrsim.cli.options import ModelArgument, ModelOptions
from alrsim.cli.output import check_targets, encode, progress, publish, tell_progress
from alrsim.cli.parse import choose, choose_literal, parse_segments, require_positive
from alrsim.cli.planfile import read_plan
from alrsim.cli.train_checks import precision_of, refuse_unread
from alrsim.cli.train_text import tell
from alrsim.errors import FileError, OptionError
from alrsim.estimators.policy import (
    Baseline,
    Injection,
    InputCode,
    NoiseCode,
    NoiseKind,
    NoiseScope,
    Reduction,
    SigmaRule,
    WeightCode,
)
from alrsim.files import write_atomically

if TYPE_CHECKING:
    from alrsim.datasets import Splits
    from alrsim.frontend.torch_model import TorchModel
    from alrsim.training.job import TrainJob
    from alrsim.training.place import Placement
    from alrsim.training.setup import Training
    from alrsim.training.state import TrainState

STEPS = 600

CHANGES: Mapping[str, tuple[str, object]] = {
    "sigma_rule": ("--sigma-rule", SigmaRule),
    "baseline": ("--baseline", Baseline),
    "noise": ("--noise", NoiseKind),
    "input_code": ("--input-code", InputCode),
    "noise_code": ("--noise-code", NoiseCode),
    "reduction": ("--reduce", Reduction),
    "scope": ("--scope", NoiseScope),
    "weight_code": ("--weight-code", WeightCode),
}
"""Options that change the method's estimators, with what they may say."""


def run(
    context: typer.Context,
    model: ModelArgument,
    option: ModelOptions = None,
    data: options.Data = None,
    data_folder: options.DataFolder = None,
    batch: options.Batch = 50,
    steps: options.Steps = None,
    epochs: options.Epochs = None,
    eval_every: options.EvalEvery = 50,
    seed: options.Seed = 0,
    method: options.MethodName = "bp",
    copies: options.Copies = 1,
    group: options.Group = None,
    sigma: options.Sigma = None,
    sigma_rule: options.SigmaRule = None,
    sigma_rate: options.SigmaRate = 0.01,
    baseline: options.Baseline = None,
    noise: options.Noise = None,
    input_code: options.InputCode = None,
    noise_code: options.NoiseCode = None,
    reduction: options.Reduce = None,
    scope: options.Scope = None,
    weight_code: options.WeightCode = None,
    mask: options.Mask = None,
    precision: options.Precision = None,
    segments: options.Segments = None,
    plan: options.PlanFile = None,
    inject: options.Inject = None,
    cut: options.Cut = None,
    beta: options.Beta = None,
    kernel_sigma: options.KernelSigma = None,
    optimizer: options.OptimizerName = "adam",
    rate: options.Rate = 1e-3,
    momentum: options.Momentum = 0.9,
    weight_decay: options.WeightDecay = 0.0,
    rate_schedule: options.RateScheduleName = "constant",
    rate_every: options.RateEvery = 1000,
    rate_factor: options.RateFactor = 0.5,
    update: options.Update = "gradient",
    monitor: options.Monitor = 0,
    target_cosine: options.TargetCosine = None,
    copies_min: options.CopiesMin = 2,
    copies_max: options.CopiesMax = 1024,
    schedule: options.Schedule = None,
    units: options.Units = None,
    microbatches: options.Microbatches = 1,
    out: options.Out = None,
    checkpoint: options.Checkpoint = None,
    resume: options.Resume = False,
    json: options.Json = None,
) -> None:
    """Train a model: BP, LR, ALR, ES, hybrids, feedback alignment or the HSIC bottleneck, with torch optimizers.

    The gradients come from the tasks that `simulate` prices and `execute` runs. Evaluated is always the clean model.
    """
    check_targets(json, out, checkpoint)
    asked = request(model, option, None, batch, microbatches)
    if asked.source not in ("zoo", "factory"):
        raise OptionError(
            "only torch models can be trained: an .onnx file or a saved graph has no torch code",
            where="MODEL",
            fix="give a zoo name or a factory file.py:make",
        )
    typed = dict(context.params)
    refuse_unread(typed_options(context), typed)
    file = checkpoint or (None if out is None else out / "checkpoint.pt")
    _check_checkpoint(file, resume)
    job, placement = job_of(asked, typed)
    finish(asked, job, placement, Files(json, out, file, resume), epochs)


class Files:
    """Where results go."""

    def __init__(self, json: str | None, out: Path | None, checkpoint: Path | None, resume: bool) -> None:
        self.json, self.out, self.checkpoint, self.resume = json, out, checkpoint, resume


def job_of(asked: ModelRequest, typed: Mapping[str, Any]) -> "tuple[TrainJob, Placement | None]":
    """The job that was typed; data and steps are settled when the model is there.

    Raises:
        OptionError: the first option that makes no sense.
    """
    from alrsim.execution.job import Mask
    from alrsim.training.job import OptimizerName, RateSchedule, TrainJob, UpdateRule
    from alrsim.training.learner import LEARNERS
    from alrsim.training.place import Placement
    from alrsim.training.setup import with_model_seed

    choose(typed["method"], [name for name in LEARNERS if name != "plan"], where="--method", what="method")
    typed = {**typed, **_planned(typed)}
    for name, key, literal in (
        ("--optimizer", "optimizer", OptimizerName),
        ("--lr-schedule", "rate_schedule", RateSchedule),
        ("--update", "update", UpdateRule),
        ("--mask", "mask", Mask),
    ):
        if typed[key] is not None:
            choose_literal(typed[key], literal, where=name)
    require_positive({"--copies": typed["copies"], "--group": typed["group"], "--steps": typed["steps"]})
    placement = None
    if typed["schedule"] is not None:
        placement = Placement(typed["schedule"], typed["units"] or 2)
    elif typed["units"] is not None:
        raise OptionError(
            "says how many worker threads a schedule has, and there is none",
            where="--units",
            fix="add --schedule lr-fixed, or another scheduler",
        )
    same = (
        "method copies group batch microbatches optimizer rate momentum weight_decay update rate_schedule rate_every "
        "rate_factor plan eval_every seed monitor target_cosine copies_min copies_max sigma_rate mask"
    )
    learner = {"beta": typed["beta"], "sigma": typed["kernel_sigma"]}
    changes = _changes(typed)
    job = TrainJob(
        asked.text,
        model_options=dict(asked.options),
        data=typed["data"] or "",
        data_folder=None if typed["data_folder"] is None else str(typed["data_folder"]),
        changes=changes,
        segments=parse_segments(typed["segments"]),
        precision=precision_of(typed, changes),
        cut=_cut(typed, placement),
        steps=typed["steps"] or STEPS,
        learner_options=_learner_options(typed["method"], {k: v for k, v in learner.items() if v is not None}),
        **{name: typed[name] for name in same.split()},
    )
    return with_model_seed(job, asked.options), placement


def _planned(typed: Mapping[str, Any]) -> dict[str, Any]:
    """Method, plan and copies where a file says them; the monitor's halves need an even number."""
    from alrsim.training.methods import most_copies

    if typed["plan"] is None:
        return {}
    plan = read_plan(typed["plan"])
    copies = most_copies(plan)
    return {"method": "plan", "plan": plan, "copies": copies + (copies % 2 if typed["monitor"] else 0)}


def _changes(typed: Mapping[str, Any]) -> dict[str, str | float]:
    found: dict[str, str | float] = {}
    for key, (name, literal) in CHANGES.items():
        if typed[key] is not None:
            found[key] = choose_literal(typed[key], literal, where=name)
    sigma = typed["sigma"]
    if sigma is not None:
        if not (isfinite(sigma) and sigma > 0):
            raise OptionError(f"is {sigma}, must be positive", where="--sigma", fix="0.01 to 0.05 is usual")
        found["sigma"] = sigma
    return found


def _cut(typed: Mapping[str, Any], placement: "Placement | None") -> str:
    from alrsim.cli.pipeline import INJECTION_CUTS
    from alrsim.training.setup import default_cut

    cut, inject = typed["cut"], typed["inject"]
    if cut is not None and inject is not None:
        raise OptionError("says where noise goes, and so does --cut", where="--inject", fix="give one of the two")
    if inject is not None:
        return INJECTION_CUTS[choose_literal(inject, Injection, where="--inject")]
    return cut or default_cut(typed["method"], placement)


def _learner_options(method: str, given: dict[str, float]) -> dict[str, float]:
    if given and method != "hsic":
        raise OptionError(f"{method} has no kernels", where="--beta, --kernel-sigma", fix="--method hsic")
    if any(not (isfinite(value) and value > 0) for value in given.values()):
        raise OptionError("must be positive", where="--beta, --kernel-sigma")
    return given


def _check_checkpoint(file: Path | None, resume: bool) -> None:
    from alrsim.training.checkpoint import previous

    if resume and file is None:
        raise OptionError(
            "needs the checkpoint to go on from", where="--resume", fix="add --out DIR or --checkpoint FILE"
        )
    if file is None:
        return
    found = file if file.exists() else previous(file)
    if found.exists() and not resume:
        raise FileError(
            "is the checkpoint of a run", where=str(found), fix="add --resume to go on, or delete it to begin anew"
        )


def finish(
    asked: ModelRequest, job: "TrainJob", placement: "Placement | None", files: Files, epochs: float | None
) -> None:
    """Load, train, write and print."""
    from alrsim.training.auto import plan_lines, with_stored_plan
    from alrsim.training.checkpoint import load_checkpoint, read_checkpoint
    from alrsim.training.document import train_document
    from alrsim.training.loop import initial_state
    from alrsim.training.setup import open_training

    with progress(1, "load") as step:
        step(asked.text)
        job, model, splits = with_data(asked, job, epochs)
        if job.method == "auto" and files.resume and files.checkpoint is not None:
            job = with_stored_plan(job, read_checkpoint(files.checkpoint)["job"])
        training = open_training(job, placement=placement, model=model, splits=splits)
        job = training.job
        state = initial_state(training)
    if job.method == "auto" and job.plan is not None:
        for line in plan_lines(job.plan, tuple(stage.name for stage in training.stages.stages)):
            tell_progress(line)
    resumed = None
    if files.resume and files.checkpoint is not None:
        load_checkpoint(files.checkpoint, job, state)
        resumed = state.step
        tell_progress(f"resumed at step {state.step} of {job.steps}")
    interrupted = carry_out(training, state, files)
    document = train_document(training, state, placement, resumed)
    written = result_files(training, state, document) if files.out is not None else {}
    if interrupted:
        where = f"; go on with the same command and --resume ({files.checkpoint})" if files.checkpoint else ""
        tell_progress(f"stopped after step {state.step} of {job.steps}{where}")
        raise KeyboardInterrupt
    names = [f"{files.out}/{name}" for name in written]
    publish(document, json_target=files.json, out=files.out, files=written, text=lambda: tell(document, names))


def with_data(asked: ModelRequest, job: "TrainJob", epochs: float | None) -> "tuple[TrainJob, TorchModel, Splits]":
    """The model on its data's graph, the data, and the job with both named."""
    from alrsim.datasets import default_dataset, load_splits, with_graph_of

    model = torch_model(replace(asked, options=job.model_options))
    name = job.data or default_dataset(model)
    folder = None if job.data_folder is None else Path(job.data_folder)
    model = with_graph_of(name, model, folder)
    splits = load_splits(name, model, folder=folder)
    if epochs is not None:
        if not (isfinite(epochs) and epochs > 0):
            raise OptionError(f"is {epochs}, must be positive", where="--epochs")
        job = replace(job, steps=max(1, ceil(epochs * len(splits.train) / job.batch)))
    return replace(job, data=name), model, splits


def carry_out(training: "Training", state: "TrainState", files: Files) -> bool:
    """Train; whether Ctrl-C ended it. The first Ctrl-C lets the step finish, so that the checkpoint is a whole one."""
    from alrsim.training.checkpoint import save_checkpoint
    from alrsim.training.log import to_csv, to_jsonl
    from alrsim.training.loop import train

    job, told = training.job, len(state.decisions)

    def save(now: "TrainState") -> None:
        if files.checkpoint is not None:
            files.checkpoint.parent.mkdir(parents=True, exist_ok=True)
            save_checkpoint(files.checkpoint, job, now)
        if files.out is not None:
            files.out.mkdir(parents=True, exist_ok=True)
            write_atomically(files.out / "log.csv", to_csv(now.rows))
            write_atomically(files.out / "log.jsonl", to_jsonl(now.rows))

    with progress(job.steps - state.step, job.method) as advance, _first_interrupt() as asked_to_stop:
        advance("step 1")

        def after(now: "TrainState") -> None:
            nonlocal told
            for line in now.decisions[told:]:
                tell_progress(line)
            told = len(now.decisions)
            last = now.rows[-1]
            advance(f"step {now.step}/{job.steps}, test {100 * last.test_accuracy:.1f} %")

        train(training, state, progress=after, save=save, stop=asked_to_stop)
    return state.step < job.steps


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


def result_files(training: "Training", state: "TrainState", document: Mapping[str, Any]) -> dict[str, bytes]:
    """What ``--out`` holds besides the checkpoint."""
    from alrsim.training.chart import draw_training
    from alrsim.training.log import to_csv, to_jsonl

    return {
        "train.json": encode(document),
        "log.csv": to_csv(state.rows),
        "log.jsonl": to_jsonl(state.rows),
        "curves.png": draw_training(state.rows, document["text"][0], document["text"][1]),
    }
