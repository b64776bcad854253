"""``alrsim gradcheck``: how close estimated gradients come to the true one, and what a copy buys."""

from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Annotated

import typer

from alrsim.cli.common import load_with_warnings, typed_options
from alrsim.cli.gradcheck_run import Asked, check, draw
from alrsim.cli.gradcheck_text import tell
from alrsim.cli.model import LoadedModel, ModelRequest, request
from alrsim.cli.options import (
    Baseline,
    Inject,
    InputCode,
    JsonTarget,
    ModelOptions,
    Noise,
    NoiseCode,
    OutFolder,
    OutputFile,
    PrecisionText,
    Reduce,
    Scope,
    Seed,
    TorchModelArgument,
)
from alrsim.cli.output import check_targets, encode, publish
from alrsim.cli.parse import choose, choose_literal, require_positive
from alrsim.cli.pipeline import INJECTION_CUTS, Settings, settings_from
from alrsim.errors import OptionError
from alrsim.estimators.policy import PRESETS, SigmaRule, WeightCode

METHODS = tuple(name for name in PRESETS if name != "bp")
POINTS = 16
"""Numbers of copies that a range is measured at, evenly spaced on a logarithmic axis."""

MOST_COPIES = 1_000_000

MASKS = ("none", "reach")

DATA_SETS = (
    "digits",
    "random",
    "synthetic-text",
    "synthetic-graph",
    "cifar10",
    "cifar100",
    "tiny-imagenet",
    "fashion-mnist",
    "ag-news",
    "cora",
)
"""Keys of :data:`alrsim.datasets.DATASETS`, which takes torch to import: help must not wait for that."""


def run(
    context: typer.Context,
    model: TorchModelArgument,
    methods: Annotated[str, typer.Option("--methods", metavar="M1,M2", help=f"Of {', '.join(METHODS)}.")] = "lr,alr",
    copies: Annotated[
        str, typer.Option("--copies", metavar="C", help=f"A range such as 10..2000 ({POINTS} numbers) or a list.")
    ] = "10..200",
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="D", help=f"Of {', '.join(DATA_SETS)}. Default: what fits."),
    ] = None,
    data_folder: Annotated[
        Path | None, typer.Option("--data-folder", metavar="DIR", help="Where the files of the data set are.")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", metavar="N", help="Samples in the batch.")] = 32,
    option: ModelOptions = None,
    cut: Annotated[
        str | None,
        typer.Option(
            "--cut", metavar="SPEC", help="Where noise enters; see `alrsim stages`. Default: what --inject says."
        ),
    ] = None,
    inject: Inject = "pre",
    baseline: Baseline = "clean",
    scope: Scope = "joint",
    reduction: Reduce = "stack",
    precision: PrecisionText = None,
    sigma: Annotated[
        float,
        typer.Option(
            "--sigma", metavar="S", help="Standard deviation of the noise; relative: of that of the noisy values."
        ),
    ] = 0.02,
    sigma_rule: Annotated[
        str, typer.Option("--sigma-rule", metavar="R", help="fixed, or relative to the values that get noise.")
    ] = "fixed",
    noise: Noise = None,
    input_code: InputCode = None,
    noise_code: NoiseCode = None,
    weight_code: Annotated[
        str, typer.Option("--weight-code", metavar="C", help="Loss weights in gradient products: fp32 | int8 | int4.")
    ] = "fp32",
    mask: Annotated[
        str | None,
        typer.Option(
            "--mask",
            metavar="M",
            help="reach: a noise element is weighed with the losses that it can influence only; none: with all of its "
            "sample. Default: reach where every node or position has a loss, none elsewhere.",
            show_default=False,
        ),
    ] = None,
    draws: Annotated[int, typer.Option("--draws", metavar="K", help="Independent repetitions.")] = 10,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="New noise for every number of copies, not more of the same: slower.")
    ] = False,
    train_steps: Annotated[
        int, typer.Option("--train-steps", metavar="N", help="First train with BP and Adam for N steps.")
    ] = 0,
    suggest: Annotated[
        float | None,
        typer.Option(
            "--suggest",
            metavar="COS",
            help="Also measure every layer's noise and say which layers are better off with noise on their "
            "parameters (ES), and how many copies each needs for this cosine.",
        ),
    ] = None,
    seed: Seed = 0,
    json: JsonTarget = None,
    out: OutFolder = None,
    output: OutputFile = None,
) -> None:
    """Cosine of estimated with true gradients over the number of copies, per layer; the papers' Acc and Sta; the
    effective noise dimension rho of every layer. -o FILE saves the plan of --suggest."""
    check_targets(json, out, output)
    settings = settings_from(
        {**context.params, "microbatches": 1, "update": False, "cut": None, "copies": 2}, typed_options(context)
    )
    numbers = parse_copies(copies)
    _check_numbers(draws, batch, train_steps, sigma, suggest)
    if output is not None and suggest is None:
        raise OptionError("the plan that -o saves is made by --suggest", where="--output", fix="add --suggest 0.7")
    _refuse_single_copies(settings, numbers)
    _check_names(sigma_rule, data, weight_code, mask)
    spec = cut or INJECTION_CUTS[inject]
    asked = Asked(
        parse_names(methods),
        settings,
        numbers,
        data,
        data_folder,
        spec,
        sigma,
        sigma_rule,
        draws,
        train_steps,
        seed,
        fresh,
        suggest,
        mask,
        weight_code,
    )
    checked = check(_load(request(model, option, None, batch)), asked)
    files = {}
    if out is not None:
        files = {"gradcheck.json": encode(checked.document), "cosines.png": draw(checked)}
    if output is not None and checked.suggestion is not None:
        from alrsim.files import save_value

        save_value("plan", checked.suggestion.plan, output)
    written = [f"{out}/{name}" for name in files] + ([str(output)] if output is not None else [])
    publish(
        checked.document,
        json_target=json,
        out=out,
        files=files,
        text=lambda: tell(checked.document, checked.qualities, written),
    )


def _load(wanted: ModelRequest) -> LoadedModel:
    if wanted.source not in ("zoo", "factory"):
        raise OptionError(
            "only torch models can be run: an .onnx file or a saved graph has no torch code",
            where="MODEL",
            fix="give a zoo name or a factory file.py:make",
        )
    return load_with_warnings(wanted)


def parse_names(text: str) -> tuple[str, ...]:
    """``lr,alr`` -> the methods, each once.

    Raises:
        OptionError: none, one twice, one that does not exist or has no noise.
    """
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise OptionError("needs at least one method", where="--methods", fix="for example lr,alr")
    for name in names:
        choose(name, METHODS, where="--methods", what="method with estimated gradients")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise OptionError(f"{twice!r} is listed twice", where="--methods")
    return tuple(names)


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


def _check_names(sigma_rule: str, data: str | None, weight_code: str, mask: str | None) -> None:
    choose_literal(weight_code, WeightCode, where="--weight-code")
    if mask is not None:
        choose(mask, MASKS, where="--mask", what="mask")
    choose_literal(sigma_rule, SigmaRule, where="--sigma-rule")
    if sigma_rule not in ("fixed", "relative"):
        raise OptionError(
            f"{sigma_rule!r} is a rule of training: a check has one step",
            where="--sigma-rule",
            fix="choose from fixed, relative",
        )
    if data is not None:
        choose(data, DATA_SETS, where="--data", what="data set")


def _refuse_single_copies(settings: Settings, copies: tuple[int, ...]) -> None:
    if settings.baseline == "copy-mean" and copies[0] < 2:
        raise OptionError(
            "baseline copy-mean needs at least 2 copies", where="--copies", fix="start at 2, or use clean"
        )


def _check_numbers(draws: int, batch: int, train_steps: int, sigma: float, suggest: float | None) -> None:
    require_positive({"--draws": draws, "--batch": batch})
    if train_steps < 0:
        raise OptionError(f"is {train_steps}, must be at least 0", where="--train-steps")
    if not (isfinite(sigma) and sigma > 0):
        raise OptionError(
            f"is {sigma}, must be positive", where="--sigma", fix="1 to 5 % of the values' spread is usual"
        )
    if suggest is not None and not 0 < suggest < 1:
        raise OptionError(f"is {suggest}, must be between 0 and 1", where="--suggest", fix="for example 0.7")
