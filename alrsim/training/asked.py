"""From the options of ``train`` to a job; what nothing would read is refused."""

from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from alrsim.errors import FileError, OptionError
from alrsim.estimators.policy import PRESETS, Plan, preset
from alrsim.quality.options import noise_cut
from alrsim.rules.options import RuleOptions
from alrsim.rules.policy import default_precision, plan_options
from alrsim.steps.chain import estimator_changes
from alrsim.steps.estimators_file import OVERRULED, refuse_overruled
from alrsim.steps.method import BUILTIN_RULES, SEQUENTIAL, parse_method
from alrsim.steps.model import DEFAULT_BATCH
from alrsim.steps.options import parse_precision
from alrsim.training.checkpoint import previous
from alrsim.training.job import TrainJob
from alrsim.training.methods import most_copies
from alrsim.training.options import TrainOptions
from alrsim.training.place import Placement
from alrsim.training.setup import default_cut, with_model_seed
from alrsim.training.table import OWN, learner_entry

if TYPE_CHECKING:
    from torch import nn

LEARNING = ("copies_min", "copies_max")
NOISY = (
    *OVERRULED,
    *LEARNING,
    "group",
    "sigma",
    "sigma_rule",
    "sigma_lr",
    "weight_code",
    "mask",
    "precision",
    "segments",
    "inject",
    "monitor",
    "target_cosine",
)
"""Options of methods with noise."""

SAME = [
    "group",
    "segments",
    "mask",
    "microbatches",
    "optimizer",
    "momentum",
    "weight_decay",
    "direction",
    "steps",
    "eval_every",
    "seed",
    "monitor",
    "target_cosine",
    "copies_min",
    "copies_max",
]
"""Options that are fields of the job."""

RENAMED = {
    "lr": "rate",
    "lr_schedule": "rate_schedule",
    "lr_every": "rate_every",
    "lr_factor": "rate_factor",
    "sigma_lr": "sigma_rate",
    "estimators": "plan",
}
"""Options that are fields of the job by another name."""


def job_of(name: str, asked: TrainOptions) -> tuple[TrainJob, Placement | None]:
    """The job that is asked for; data, weights and epochs are settled when the model is there.

    Args:
        name: Of the model.

    Raises:
        OptionError: the first option that makes no sense, or that nothing reads.
    """
    method, placement = method_of(asked)
    refuse_unread(asked, method)
    plan = asked.estimators
    copies = asked.copies if plan is None else most_copies(plan, even=asked.monitor > 0)
    kernels = {"beta": asked.beta, "sigma": asked.kernel_sigma}
    numbers = {name: getattr(asked, name) for name in ("sigma", "sigma_rule", "weight_code") if name in asked.given}
    changes = estimator_changes(asked) | numbers
    job = TrainJob(
        name,
        method=method,
        model_options=dict(asked.option or {}),
        data=asked.dataset or "",
        data_folder=None if asked.data_folder is None else str(asked.data_folder),
        changes=cast("dict[str, str | float]", changes),
        precision=precision_of(asked, method, changes),
        cut=noise_cut(asked, default_cut(method, placement)),
        copies=copies,
        batch=asked.batch or DEFAULT_BATCH,
        learner_options={key: value for key, value in kernels.items() if value is not None},
        **{key: getattr(asked, key) for key in SAME},
        **{field: getattr(asked, key) for key, field in RENAMED.items()},
    )
    return with_model_seed(job, asked.option or {}), placement


def method_of(asked: TrainOptions) -> tuple[str, Placement | None]:
    """The job's method, and where its tasks run.

    Raises:
        OptionError: a scheduler said twice, or one that does not fit.
    """
    word, _, said = asked.method.partition(":")
    scheduler = asked.scheduler or said
    if asked.scheduler is not None and said:
        raise OptionError("is said by `method`, too", field="scheduler", fix="give one of the two")
    if word not in OWN:
        parsed = parse_method(f"{word}:{scheduler}" if scheduler else word)
        if parsed.rule not in BUILTIN_RULES:
            raise OptionError(f"rule {word} has no gradients that train", field="method", fix="use bp, lr or alr")
        word = "segments" if parsed.rule == "segments" else parsed.preset or "bp"
    if asked.estimators is not None:
        if "method" in asked.given and word != "lr":
            raise OptionError(
                "says the method of every stage, and so does `method`", field="estimators", fix="give one"
            )
        word = "plan"
    if scheduler and scheduler != SEQUENTIAL:
        return word, Placement(scheduler, asked.units or 2)
    if asked.units is not None:
        raise OptionError(
            "says how many worker threads a schedule has, and there is none",
            field="units",
            fixes=[("scheduler", "lr-fixed")],
        )
    return word, None


def refuse_unread(asked: TrainOptions, method: str) -> None:
    """Refuse the first option that the others leave without a reader.

    Raises:
        OptionError: names the option and what would read it.
    """
    planned, word = asked.estimators is not None, "bp is exact: it has no noise and no copies"
    noiseless = word if method == "bp" else f"{method} has no noise"
    limits = LEARNING[:1] if method == "auto" else LEARNING
    falls = asked.lr_schedule == "step"
    learned = asked.sigma_rule == "learned" or planned
    for options, is_read, why, fix in (
        (NOISY, learner_entry(method).noisy, noiseless, "leave it out, or choose a `method` with noise"),
        (("copies",), method != "auto", "is what auto measures", "give `target_cosine` or `copies_max`"),
        (("beta", "kernel_sigma"), method == "hsic", f"{method} has no kernels", "use `method=hsic`"),
        (("momentum",), asked.optimizer == "momentum", f"{asked.optimizer} does not read it", "`optimizer=momentum`"),
        (("lr_every", "lr_factor"), falls, f"a {asked.lr_schedule} rate has no falls", "use `lr_schedule=step`"),
        (("sigma_lr",), learned, "no sigma is learned", "use `sigma_rule=learned`"),
        (limits, asked.target_cosine, "nothing changes the number of copies", "add `target_cosine` and `monitor`"),
        (("steps",), asked.epochs is None, "`epochs` says how long, too", "give one of them"),
    ):
        found = next((name for name in options if name in asked.given), None)
        if found is not None and not is_read:
            raise OptionError(why, field=found, fix=fix)
    if planned:
        refuse_overruled(asked.given)
    if asked.copies_min > asked.copies_max:
        raise OptionError(f"{asked.copies_min} is more than `copies_max={asked.copies_max}`", field="copies_min")


def precision_of(asked: TrainOptions, method: str, changes: dict[str, object]) -> dict[str, str]:
    """The formats by name that were given, over those of the method; empty without any.

    Raises:
        OptionError: unknown kinds of state or formats.
    """
    if asked.precision is None:
        return {}
    plan: Plan = asked.estimators or preset(method if method in PRESETS else "lr").plan([True] * 3)
    changed: dict[str, Any] = {**changes, **({} if asked.estimators else {"copies": max(2, asked.copies)})}
    plan = tuple(one if one.kind == "bp" else replace(one, **changed) for one in plan)
    options = plan_options(plan, RuleOptions(update=False))
    found = parse_precision(asked.precision, default=default_precision(options))
    return {name: str(value) for name, value in asdict(found).items()}


def weights_digest(module: "nn.Module") -> str:
    """Of all parameters and buffers."""
    found = sha256()
    for name, value in module.state_dict().items():
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def require_fresh(asked: TrainOptions) -> None:
    """A checkpoint is neither overwritten nor gone on from by chance.

    Raises:
        OptionError: ``resume`` without a file.
        FileError: the file is there, and nobody said ``resume``.
    """
    file = checkpoint_of(asked)
    if asked.resume and file is None:
        raise OptionError("needs the checkpoint to go on from", field="resume", fix="add `out` or `checkpoint`")
    if file is None or asked.resume:
        return
    found = file if file.exists() else previous(file)
    if found.exists():
        raise FileError(
            "is the checkpoint of a run", where=str(found), fix="add `resume` to go on, or delete it to begin anew"
        )


def checkpoint_of(asked: TrainOptions) -> Path | None:
    """The checkpoint's file; ``None``: there is none."""
    return asked.checkpoint or (None if asked.out is None else asked.out / "checkpoint.pt")
