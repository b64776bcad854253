"""Training runs behind accuracy claims: which model and data stand for a paper's, and every method of its tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from alrsim.datasets import DATASETS
from alrsim.datasets.folders import Layout
from alrsim.experiments.context import Context
from alrsim.training.job import Direction, TrainJob
from alrsim.training.loop import initial_state, run_training
from alrsim.training.setup import open_training

METHODS: Mapping[str, tuple[str, Direction]] = {
    "BP": ("bp", "gradient"),
    "HSIC": ("hsic", "gradient"),
    "FA": ("fa", "gradient"),
    "ES": ("es", "gradient"),
    "LR": ("lr", "gradient"),
    "Hybrid": ("hybrid", "gradient"),
    "BP w A": ("bp", "sign"),
    "HSIC w A": ("hsic", "sign"),
    "FA w A": ("fa", "sign"),
    "ES w A": ("aes", "gradient"),
    "LR w A": ("alr", "gradient"),
    "Hybrid w A": ("a-hybrid", "gradient"),
    "lr-rademacher": ("lr-rademacher", "gradient"),
}
"""Columns of the papers' tables: preset and update. "w A" of an estimator is its sign-encoded form, of the others the
sign of the update."""

EXACT = ("bp", "fa", "hsic")


@dataclass(frozen=True)
class Setting:
    """What a table is measured on.

    Attributes:
        data: The paper's data set; ``model`` and ``options`` are the paper's model.
        quick: Stand-in of a quick run: model, data and options.
        full: Stand-in of a full run.
        copies: Of quick and full runs.
        steps: Of quick and full runs; in real time on the real data set they are a fraction of the paper's.
        rate: Of quick and full runs.
        sign_copies: Factor on the copies of "w A" methods (4: the paper's copies in equal memory).
    """

    data: str
    model: str
    quick: TrainJob
    full: TrainJob
    options: Mapping[str, str] = field(default_factory=dict)
    sign_copies: int = 1


_MLP = TrainJob("mlp", data="digits", batch=50, copies=10, rate=2e-3, steps=200, eval_every=10)
_RESNET = TrainJob(
    "resnet5",
    data="digits",
    model_options={"width": "8", "in_channels": "1", "image_size": "16"},
    batch=50,
    copies=20,
    rate=2e-3,
    steps=600,
    eval_every=20,
)
_SNN = {"image_size": "8", "hidden": "128"}
_TEXT = {"sequence": "16", "vocabulary": "64", "hidden": "32"}
_NODES = {"nodes": "64", "features": "32", "classes": "4"}


def _small(model: str, data: str, options: Mapping[str, str], rate: float, **more: Any) -> tuple[TrainJob, TrainJob]:
    """Quick and full form of a small stand-in."""
    quick = TrainJob(model, data=data, model_options=options, rate=rate, copies=10, steps=160, eval_every=20, **more)
    return quick, replace(quick, copies=50, steps=900, eval_every=100)


SETTINGS: Mapping[str, Setting] = {
    one.data: one
    for one in (
        Setting("cifar10", "resnet5", _MLP, _RESNET),
        Setting("cifar100", "resnet9", _MLP, _RESNET),
        Setting("tiny-imagenet", "resnet12", _MLP, _RESNET, sign_copies=4),
        Setting("fashion-mnist", "snn", *_small("snn", "digits", _SNN, 2e-3, batch=50, changes={"sigma": 0.5})),
        Setting("ag-news", "lstm", *_small("lstm", "synthetic-text", _TEXT, 5e-3, batch=50)),
        Setting("cora", "gat", *_small("gat", "synthetic-graph", _NODES, 1e-2, batch=8)),
    )
}
"""By the paper's data set."""


def found(context: Context, data: str) -> str | None:
    """The folder of a data set in the data folder: named as in the registry, or as its archive unpacks."""
    layout: Layout | None = DATASETS[data].layout
    if context.folder is None or layout is None:
        return None
    named = context.folder / data
    if named.is_dir():
        return str(named)
    if any((context.folder / name).is_dir() for name in layout.inner):
        return str(context.folder)
    return None


def job_for(context: Context, setting: Setting, column: str, seed: int, **changes: Any) -> TrainJob:
    """The training of one cell of a table.

    Args:
        column: Key of :data:`METHODS`.
        changes: Fields of the job; ``estimator`` adds to the fields of its estimator.
    """
    method, direction = METHODS[column]
    job = context.pick(setting.quick, setting.full)
    folder = found(context, setting.data)
    if folder is not None:
        job = replace(
            job,
            model=setting.model,
            model_options=setting.options,
            data=setting.data,
            data_folder=folder,
            changes={},
        )
    factor = setting.sign_copies if column.endswith("w A") and method not in EXACT else 1
    estimator = {**job.changes, **changes.pop("estimator", {})}
    job = replace(
        job,
        method=method,
        direction=direction,
        copies=1 if method in EXACT else job.copies * factor,
        changes={} if method in EXACT else estimator,
        cut="block" if method in ("fa", "hsic") else job.cut,
        model_options={**job.model_options, "seed": str(seed)},
        seed=seed,
    )
    return replace(job, **changes)


def trained(context: Context, job: TrainJob) -> dict[str, Any]:
    """The log of a training: ``steps``, ``accuracy`` (percent), ``loss`` and ``forwards`` by row; done once."""

    def run() -> dict[str, Any]:
        training = open_training(job)
        state = run_training(training, initial_state(training))
        return {
            "steps": [row.step for row in state.rows],
            "accuracy": [100 * row.test_accuracy for row in state.rows],
            "loss": [row.test_loss for row in state.rows],
            "forwards": state.forwards,
            "work": state.work,
            "epochs": state.rows[-1].epoch,
            "test": len(training.splits.test),
            "sigma": None if state.sigma is None else list(state.sigma),
        }

    what = {"part": "train", "job": job.identity, "steps": job.steps, "every": job.eval_every}
    words = f"train {job.model} on {job.data}: {job.method}, {job.copies} copies, seed {job.seed}"
    log: dict[str, Any] = context.once(what, run, words=words)
    return log


def describe(context: Context, setting: Setting) -> str:
    """The setting in words."""
    job = job_for(context, setting, "LR", context.seed)
    stand_in = "" if job.data == setting.data else f" (stands in for {setting.model} on {setting.data})"
    more = f", {setting.sign_copies}x with A" if setting.sign_copies > 1 else ""
    return (
        f"{job.model} on {job.data}{stand_in}, {job.steps} steps of {job.batch}, {job.optimizer} {job.rate:g}, "
        f"{job.copies} copies{more}, {len(context.seeds)} seeds"
    )
