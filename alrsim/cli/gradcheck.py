"""``alrsim gradcheck``: how close estimated gradients come to the true one, and what a copy buys."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from alrsim.cli.common import load_with_warnings
from alrsim.cli.gradcheck_text import tell
from alrsim.cli.model import LoadedModel, request
from alrsim.cli.options import (
    Baseline,
    JsonTarget,
    ModelArgument,
    ModelOptions,
    OutFolder,
    PrecisionText,
    Reduce,
    Scope,
    Seed,
)
from alrsim.cli.output import check_targets, encode, progress, publish
from alrsim.cli.parse import choose, choose_literal, parse_precision, require_positive
from alrsim.cli.pipeline import FP32, cut_stages
from alrsim.errors import OptionError
from alrsim.graph.stages import StageGraph
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.rules.options import Baseline as BaselineName
from alrsim.rules.options import NoiseScope, Reduction, RuleOptions

if TYPE_CHECKING:
    from alrsim.execute.executor import Batch
    from alrsim.quality.gradcheck import Quality

METHODS = ("lr", "alr")
SIGNS = PrecisionPlan(saved=Precision.INT8, noise=Precision.INT8)
POINTS = 16
"""Numbers of copies that a range is measured at, evenly spaced on a logarithmic axis."""

MOST_COPIES = 1_000_000


@dataclass(frozen=True)
class Asked:
    """What was typed, checked."""

    methods: Mapping[str, RuleOptions]
    copies: tuple[int, ...]
    data: str | None
    cut: str
    sigma: float
    noise: str
    draws: int
    train_steps: int
    seed: int
    fresh: bool


@dataclass(frozen=True)
class Checked:
    """What was found."""

    document: dict[str, Any]
    qualities: "list[Quality]"


def run(
    model: ModelArgument,
    methods: Annotated[str, typer.Option("--methods", metavar="M1,M2", help="lr, alr or both.")] = "lr,alr",
    copies: Annotated[
        str, typer.Option("--copies", metavar="C", help=f"A range such as 10..2000 ({POINTS} numbers) or a list.")
    ] = "10..200",
    data: Annotated[
        str | None, typer.Option("--data", metavar="D", help="digits | random. Default: what fits.")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", metavar="N", help="Samples in the batch.")] = 32,
    option: ModelOptions = None,
    cut: Annotated[
        str, typer.Option("--cut", metavar="SPEC", help="Where noise enters; see `alrsim stages`.")
    ] = "layer",
    baseline: Baseline = "clean",
    scope: Scope = "joint",
    reduction: Reduce = "stack",
    precision: PrecisionText = None,
    sigma: Annotated[float, typer.Option("--sigma", metavar="S", help="Standard deviation of the noise.")] = 0.02,
    noise: Annotated[str, typer.Option("--noise", metavar="N", help="gauss | rademacher.")] = "gauss",
    draws: Annotated[int, typer.Option("--draws", metavar="K", help="Independent repetitions.")] = 10,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="New noise for every number of copies, not more of the same: slower.")
    ] = False,
    train_steps: Annotated[
        int, typer.Option("--train-steps", metavar="N", help="First train with BP and Adam for N steps.")
    ] = 0,
    seed: Seed = 0,
    json: JsonTarget = None,
    out: OutFolder = None,
) -> None:
    """Cosine of estimated with true gradients over the number of copies, per layer; the papers' Acc and Sta; the
    effective noise dimension rho of every layer."""
    check_targets(json, out)
    options = _options(methods, baseline, scope, reduction, precision, noise)
    numbers = parse_copies(copies)
    _check_numbers(draws, batch, train_steps, sigma)
    if baseline == "copy-mean" and numbers[0] < 2:
        raise OptionError(
            "baseline copy-mean needs at least 2 copies", where="--copies", fix="start at 2, or use clean"
        )
    _check_names(noise, data)
    asked = Asked(options, numbers, data, cut, sigma, noise, draws, train_steps, seed, fresh)
    wanted = request(model, option, None, batch)
    if wanted.source not in ("zoo", "factory"):
        raise OptionError(
            "only torch models can be run: an .onnx file or a saved graph has no torch code",
            where="MODEL",
            fix="give a zoo name or a factory file.py:make",
        )
    loaded = load_with_warnings(wanted)
    checked = check(loaded, asked)
    files = {}
    if out is not None:
        files = {"gradcheck.json": encode(checked.document), "cosines.png": draw(checked)}
    publish(
        checked.document,
        json_target=json,
        out=out,
        files=files,
        text=lambda: tell(checked.document, checked.qualities, [f"{out}/{f}" for f in files]),
    )


def parse_copies(text: str) -> tuple[int, ...]:
    """``10..2000`` -> so many numbers, evenly spaced in their logarithm; ``10,50,200`` -> these.

    Raises:
        OptionError: anything else.
    """
    range_, where, fix = ".." in text, "--copies", "for example 10..2000 or 10,50,200"
    parts = [part.strip() for part in (text.split("..") if range_ else text.split(","))]
    if not all(part.isdecimal() for part in parts) or (range_ and len(parts) != 2):
        raise OptionError(f"{text!r} is neither a range nor a list of whole numbers", where=where, fix=fix)
    numbers = [int(part) for part in parts]
    if min(numbers) < 1 or max(numbers) > MOST_COPIES:
        raise OptionError(f"{text!r}: a number of copies is 1 to {MOST_COPIES}", where=where, fix=fix)
    if any(later <= earlier for earlier, later in pairwise(numbers)):
        raise OptionError(f"{text!r} does not ascend", where=where, fix=fix)
    if not range_:
        return tuple(numbers)
    low, high = numbers
    ratio = (high / low) ** (1 / (POINTS - 1))
    return tuple(dict.fromkeys(round(low * ratio**step) for step in range(POINTS)))


def _check_names(noise: str, data: str | None) -> None:
    choose(noise, ("gauss", "rademacher"), where="--noise", what="noise")
    if data is not None:
        choose(data, ("digits", "random"), where="--data", what="data set")


def _check_numbers(draws: int, batch: int, train_steps: int, sigma: float) -> None:
    require_positive({"--draws": draws, "--batch": batch})
    if train_steps < 0:
        raise OptionError(f"is {train_steps}, must be at least 0", where="--train-steps")
    if not (isfinite(sigma) and sigma > 0):
        raise OptionError(
            f"is {sigma}, must be positive", where="--sigma", fix="1 to 5 % of the values' spread is usual"
        )


def _options(
    text: str, baseline: str, scope: str, reduction: str, precision: str | None, noise: str
) -> dict[str, RuleOptions]:
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise OptionError("needs at least one method", where="--methods", fix="for example lr,alr")
    for name in names:
        choose(name, METHODS, where="--methods", what="method (es, aes and hybrid are not built yet)")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise OptionError(f"{twice!r} is listed twice", where="--methods")
    choose_literal(baseline, BaselineName, where="--baseline")
    choose_literal(scope, NoiseScope, where="--scope")
    choose_literal(reduction, Reduction, where="--reduce")
    return {
        name: RuleOptions(
            copies=2,
            baseline=cast(BaselineName, baseline),
            scope=cast(NoiseScope, scope),
            reduction=cast(Reduction, reduction),
            input_code="sign" if name == "alr" else "plain",
            noise_code="sign" if name == "alr" else "plain",
            noise="gauss" if noise == "gauss" else "rademacher",
            update=False,
            precision=parse_precision(precision, default=SIGNS if name == "alr" else FP32),
        )
        for name in names
    }


def check(loaded: LoadedModel, asked: Asked) -> Checked:
    """Measure.

    Raises:
        ExecutionError: a model that LR cannot estimate, or that cannot be executed.
    """
    import numpy as np

    from alrsim.datasets import default_dataset
    from alrsim.execute.job import Settings
    from alrsim.execute.program import build_program
    from alrsim.quality.document import BANDS, quality_document, table4
    from alrsim.quality.gradcheck import gradcheck
    from alrsim.quality.reference import true_gradient, warm_start
    from alrsim.quality.sampler import subject_of

    assert loaded.torch_model is not None
    assert loaded.exported is not None
    module = loaded.torch_model.module
    stages: StageGraph = cut_stages(loaded.graph, asked.cut)
    program = build_program(loaded.graph, loaded.exported.program, stages)
    dataset = asked.data or default_dataset(loaded.torch_model)
    batch = _batches(loaded, dataset, asked.seed)
    _refuse_early(program, stages, asked)
    if asked.train_steps:
        with progress(asked.train_steps, "train") as step:
            program = warm_start(
                module, program, lambda at: batch(at + 1), asked.train_steps, progress=lambda at: step(f"step {at + 1}")
            )
    subject = subject_of(program, stages, batch(0))
    loss, gradient = true_gradient(module, program.parameters, subject.batch)
    truth = np.concatenate([gradient[name].numpy().ravel() for name in subject.names]).astype(np.float64)
    settings = Settings(sigma=asked.sigma, seed=asked.seed)
    with progress(len(asked.methods) * asked.draws, "gradcheck") as step:
        found = gradcheck(
            subject, truth, asked.methods, settings, asked.copies, asked.draws, fresh=asked.fresh, progress=step
        )
    first = next(iter(asked.methods.values()))
    document = {
        "model": loaded.name,
        "cut": asked.cut,
        "dataset": dataset,
        "batch": loaded.samples,
        "state": {"train_steps": asked.train_steps, "loss": loss},
        "sigma": asked.sigma,
        "noise": asked.noise,
        "baseline": first.baseline,
        "scope": first.scope,
        "reduction": first.reduction,
        "seed": asked.seed,
        "draws": asked.draws,
        "copies": list(asked.copies),
        "copies_share_noise": not (asked.fresh or first.baseline == "copy-mean"),
        "bands": BANDS,
        "methods": [quality_document(quality) for quality in found],
        "table4": table4(found),
    }
    return Checked(document, found)


def _batches(loaded: LoadedModel, dataset: str, seed: int) -> "Callable[[int], Batch]":
    """Batch 0 is the one whose gradient is checked, batch ``i`` that of training step ``i``."""
    from alrsim.datasets import load_samples
    from alrsim.execute.executor import Batch

    model = loaded.torch_model
    assert model is not None
    try:
        load_samples(dataset, model, 1, seed)
    except OptionError as error:
        raise OptionError(error.what, where="--data", fix="--data random") from None

    def batch(step: int) -> Batch:
        samples = load_samples(dataset, model, loaded.samples, seed + step)
        return Batch(samples.inputs, samples.labels)

    return batch


def _refuse_early(program: Any, stages: StageGraph, asked: Asked) -> None:
    """What the executor refuses, before training."""
    from alrsim.execute.job import Settings, build_job
    from alrsim.rules import RULES

    for options in asked.methods.values():
        build_job(program, RULES["lr"](stages, options), options, Settings())


def draw(checked: Checked) -> bytes:
    """The picture of all curves."""
    from alrsim.quality.charts import draw_cosines

    document = checked.document
    state = f"after {document['state']['train_steps']} steps of BP" if document["state"]["train_steps"] else "at init"
    title = f"{document['model']} on {document['dataset']}, {state}: estimated against true gradient"
    note = (
        f"batch {document['batch']}, sigma {document['sigma']:g}, {document['noise']} noise, {document['scope']}, "
        f"baseline {document['baseline']}, mean of {document['draws']} draws; bands: 95 %; dashed: fitted law"
    )
    return draw_cosines(checked.qualities, title, note)
