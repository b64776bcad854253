"""What was asked of ``alrsim plan``, checked."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast, get_args

from alrsim.cli.parse import choose, require_positive
from alrsim.cli.pipeline import SEMANTICS, search_options
from alrsim.errors import OptionError
from alrsim.planner.candidate import DEFAULT_MODES, MODES
from alrsim.planner.evaluate import DEFAULT_SEARCH, TARGETS, Target
from alrsim.planner.space import RULES_OF_PLANS
from alrsim.rules.options import Optimizer
from alrsim.schedulers import SearchOptions
from alrsim.schedulers.search import parse_search
from alrsim.tasks.problem import Semantics

FOR_MODELS = {
    "hardware": "--hardware",
    "batch": "--batch",
    "option": "--option",
    "bind": "--bind",
    "modes": "--modes",
    "cut": "--cut",
    "copies": "--copies",
    "precision": "--precision",
    "optimizer": "--optimizer",
    "noise_per_dim": "--noise-per-dim",
    "quality": "--quality",
    "idle_power": "--idle-power",
}
FOR_DURATIONS = {"stages": "--stages", "loss_unit": "--loss-unit", "loss_row": "--loss-row"}
FOR_COSINES = {"noise_per_dim": "--noise-per-dim", "quality": "--quality"}


@dataclass(frozen=True)
class Asked:
    """The options of one call; lists are parsed, ``None`` stands for the default."""

    model: str | None
    cosine: float | None
    target: Target
    hardware: str
    units: int | None
    batch: int | None
    rules: tuple[str, ...]
    microbatches: tuple[int, ...] | None
    copies: tuple[int, ...] | None
    modes: tuple[str, ...]
    cut: str | None
    noise_per_dim: float | None
    quality: Path | None
    idle_power: float
    option: list[str] | None
    bind: list[str] | None
    precision: str | None
    optimizer: Optimizer
    update: bool
    loss: bool
    semantics: Semantics
    search: SearchOptions
    what_if: bool
    durations: str | None
    stages: int | None
    loss_unit: int | None
    loss_row: bool
    typed: frozenset[str]

    @classmethod
    def of(cls, params: Mapping[str, Any], typed: Collection[str], model: str | None, cosine: float | None) -> "Asked":
        """Check what can be checked without a model.

        Raises:
            OptionError: the first option that makes no sense.
        """
        given = {field.name: params[field.name] for field in fields(cls) if field.name in params}
        given["target"] = cast(Target, choose(given["target"], TARGETS, where="--target", what="target"))
        choose(given["optimizer"], get_args(Optimizer), where="--optimizer", what="choice")
        choose(given["semantics"], SEMANTICS, where="--transfer-semantics", what="choice")
        if (cosine is not None) != (given["target"] == "time-to-cosine"):
            raise OptionError(
                "time-to-cosine needs a cosine, and no other target has one",
                where="--target",
                fix="for example --target time-to-cosine 0.3",
            )
        given["microbatches"] = _numbers(given["microbatches"], "--microbatches")
        given["copies"] = _numbers(given["copies"], "--copies")
        given["modes"] = _names(given["modes"], tuple(MODES), "--modes") or DEFAULT_MODES
        rules = _names(given["rules"], RULES_OF_PLANS, "--rules")
        given["rules"] = rules or (RULES_OF_PLANS if given["target"] == "time-to-cosine" else RULES_OF_PLANS[:3])
        require_positive({"--units": given["units"], "--batch": given["batch"], "--stages": given["stages"]})
        if given["noise_per_dim"] is not None and not given["noise_per_dim"] > 0:
            raise OptionError(f"is {given['noise_per_dim']}, must be above 0", where="--noise-per-dim")
        given["search"] = _search(params.get("search"), params.get("time_limit"))
        return cls(**{**given, "model": model, "cosine": cosine, "typed": frozenset(typed)})


def _search(pairs: Sequence[str] | None, time_limit: float | None) -> SearchOptions:
    """Over the planner's own defaults."""
    from alrsim.cli.parse import parse_pairs

    if not pairs and time_limit is None:
        return DEFAULT_SEARCH
    search_options(pairs, time_limit)  # refuses what makes no sense
    typed = parse_pairs(pairs, where="--search")
    found = parse_search(typed, time_limit=time_limit)
    kept = {name for name in ("placement", "gradients", "effort") if name not in typed}
    if "placement" in typed:
        kept.discard("gradients")  # a placement that is typed is meant as it stands
    if time_limit is not None:
        kept.discard("effort")
    return replace(found, **{name: getattr(DEFAULT_SEARCH, name) for name in kept})


def sort_arguments(arguments: Sequence[str]) -> tuple[str | None, float | None]:
    """Tell the cosine from the model.

    Raises:
        OptionError: more than one of either, or a number that is no cosine.
    """
    numbers = [text for text in arguments if _is_number(text)]
    models = [text for text in arguments if not _is_number(text)]
    if len(models) > 1 or len(numbers) > 1:
        raise OptionError(f"got {' and '.join(models if len(models) > 1 else numbers)}", where="plan", fix="give one")
    cosine = float(numbers[0]) if numbers else None
    if cosine is not None and not 0 < cosine < 1:
        raise OptionError(f"is {cosine:g}, a cosine is between 0 and 1", where="COSINE", fix="for example 0.3")
    return (models[0] if models else None), cosine


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(text: str | None, where: str) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() and int(part) >= 1 for part in parts):
        raise OptionError(f"{text!r} is no list of whole numbers of at least 1", where=where, fix=f"{where} 4,8")
    return tuple(sorted({int(part) for part in parts}))


def _names(text: str | None, known: tuple[str, ...], where: str) -> tuple[str, ...]:
    parts = [part.strip() for part in (text or "").split(",") if part.strip()]
    for part in parts:
        choose(part, known, where=where, what="choice")
    return tuple(dict.fromkeys(parts))


def refuse_unread(asked: Asked) -> None:
    """Options that nothing would read are refused.

    Raises:
        OptionError: the first of them.
    """
    unread: tuple[tuple[Mapping[str, str], bool, str], ...] = (
        (FOR_MODELS, asked.durations is not None, "is for a model, not for --durations"),
        (FOR_DURATIONS, asked.durations is None, "is for --durations"),
        (FOR_COSINES, asked.target != "time-to-cosine", "is for --target time-to-cosine"),
        ({"idle_power": "--idle-power"}, asked.target != "energy", "is for --target energy"),
    )
    for options, applies, reason in unread:
        name = next((name for name in options if name in asked.typed), None)
        if applies and name is not None:
            raise OptionError(reason, where=options[name], fix="leave it out")
    if asked.durations is not None and asked.model is not None:
        raise OptionError(f"got a model ({asked.model}) and --durations", where="plan", fix="give one of the two")
    if asked.durations is not None and asked.target != "step-time":
        raise OptionError("a table of durations has times only", where="--target", fix="leave it out")
    if asked.durations is None and asked.model is None:
        raise OptionError(
            "needs a model, or --durations",
            where="plan",
            fix="alrsim plan resnet9 --hardware h100 --units 8, or alrsim plan --durations f=1,b=1,w=1 --units 4",
        )
