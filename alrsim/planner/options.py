"""What can be asked of ``plan``."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alrsim.errors import OptionError
from alrsim.options import choose, keyword, parse_list, parse_positive, parse_share
from alrsim.planner.candidate import DEFAULT_MODES, MODES
from alrsim.planner.evaluate import DEFAULT_SEARCH, TARGETS
from alrsim.planner.space import RULES_OF_PLANS
from alrsim.schedulers import SearchOptions
from alrsim.schedulers.search import parse_search
from alrsim.steps.options import MachineOptions, ModelOptions, StepOptions, TaskOptions, TransferOptions
from alrsim.steps.textbook import TEXTBOOK, DurationOptions

CHOICE, COSINE = "What to choose from", "Target"
"""Panels of the help."""

EXACT_AND_LR = ("bp", "bp-split", "lr")
FOR_MODELS = (
    "batch",
    "option",
    "bind",
    "modes",
    "cut",
    "copies",
    "precision",
    "optimizer",
    "noise_per_dim",
    "quality",
    "idle_power",
)
FOR_DURATIONS = ("stages", "loss_unit", "loss_row")


def parse_numbers(given: "int | str | Iterable[Any]", name: str) -> tuple[int, ...]:
    """``"4,8"``, ``4`` or ``[8, 4]`` as ``(4, 8)``.

    Raises:
        OptionError: something that is no whole number of at least 1.
    """
    items = given.split(",") if isinstance(given, str) else [given] if isinstance(given, int) else given
    parts = [str(item).strip() for item in items if str(item).strip()]
    if not parts or not all(part.isdecimal() and int(part) >= 1 for part in parts):
        raise OptionError(f"{given!r} is no list of whole numbers of at least 1", field=name, fixes=[(name, "4,8")])
    return tuple(sorted({int(part) for part in parts}))


def _names(known: Iterable[str]) -> Callable[[Any, str], tuple[str, ...]]:
    def parse(given: Any, name: str) -> tuple[str, ...]:
        return tuple(choose(part, known, field=name) for part in parse_list(given, name))

    return parse


@dataclass(frozen=True, kw_only=True)
class PlanOptions(DurationOptions, TaskOptions, TransferOptions, MachineOptions, ModelOptions):
    """Options of :func:`alrsim.planner.planning.plan`."""

    target: str = keyword(
        "step-time | memory | energy | time-to-cosine: what is least.",
        default="step-time",
        metavar="T",
        choices=TARGETS,
        panel=COSINE,
    )
    cosine: float | None = keyword(
        "time-to-cosine: of the gradient with the true one, such as 0.3.", default=None, parse=parse_share, panel=COSINE
    )
    noise_per_dim: float | None = keyword(
        "time-to-cosine: noise-to-signal of one copy per noise dimension. Default 1 (see the manual).",
        default=None,
        metavar="R",
        parse=parse_positive,
        panel=COSINE,
    )
    quality: Path | None = keyword(
        "time-to-cosine: the same per layer, from the JSON of gradcheck.",
        default=None,
        metavar="FILE",
        parse=lambda given, _: Path(given),
        panel=COSINE,
    )
    idle_power: float = keyword(
        "energy: share of its power that an idle unit draws.", default=0.0, metavar="SHARE", panel=COSINE
    )
    rules: tuple[str, ...] | None = keyword(
        "Of bp, bp-split, lr, segments. Default: the first three, for time-to-cosine all.",
        default=None,
        metavar="LIST",
        parse=_names(RULES_OF_PLANS),
        panel=CHOICE,
    )
    microbatches: tuple[int, ...] | None = keyword(
        "Numbers of micro-batches to choose from. Default: divisors of the batch up to 32.",
        default=None,
        metavar="LIST",
        short="m",
        parse=parse_numbers,
        panel=CHOICE,
    )
    copies: tuple[int, ...] | None = keyword(
        "LR: numbers of copies to choose from. Default: 1; for time-to-cosine what the cosine takes.",
        default=None,
        metavar="LIST",
        parse=parse_numbers,
        panel=CHOICE,
    )
    modes: tuple[str, ...] = keyword(
        "LR: how noise and inputs are kept: stored, int8, regenerated, bits, accumulated, alr. Default: all but alr, "
        "whose gradient is not the true one.",
        default=DEFAULT_MODES,
        metavar="LIST",
        parse=_names(MODES),
        panel=CHOICE,
    )
    cut: str | None = keyword(
        "One cut instead of a choice, as `compare` takes it.", default=None, metavar="SPEC", panel=CHOICE
    )
    what_if: bool = keyword("Plan again for one unit more, to tell what it would bring.", default=True, panel=CHOICE)
    loss_row: bool = keyword(
        "With durations: the loss has gradient cells and an update, as in Figure 2.", default=False, panel=TEXTBOOK
    )

    @property
    def wanted_rules(self) -> tuple[str, ...]:
        """The rules to choose from."""
        every = self.target == "time-to-cosine"
        return self.rules or (RULES_OF_PLANS if every else EXACT_AND_LR)

    @property
    def searching(self) -> SearchOptions:
        """Freedom, caps and effort, over the planner's own defaults."""
        pairs = self.search or {}
        if not pairs and self.time_limit is None:
            return DEFAULT_SEARCH
        found = parse_search(pairs, time_limit=self.time_limit)
        kept = {name for name in ("placement", "gradients", "effort") if name not in pairs}
        if "placement" in pairs:
            kept.discard("gradients")  # a placement that is typed is meant as it stands
        if self.time_limit is not None:
            kept.discard("effort")
        return replace(found, **{name: getattr(DEFAULT_SEARCH, name) for name in kept})

    def of_step(self, **more: Any) -> StepOptions:
        """The options of a step that say the same as these, and more."""
        names = ("batch", "option", "bind", "units", "precision", "optimizer", "update", "loss", "transfer_semantics")
        return StepOptions.take({name: getattr(self, name) for name in names if name in self.given} | more)


def refuse_unread(asked: PlanOptions, model: Any, hardware_given: bool) -> None:
    """Options that nothing would read, or that contradict each other, are refused.

    Raises:
        OptionError: the first of them.
    """
    if (asked.cosine is not None) != (asked.target == "time-to-cosine"):
        raise OptionError(
            "time-to-cosine needs a cosine, and no other target has one",
            field="target",
            fix="for example `target=time-to-cosine` with `cosine=0.3`",
        )
    textbook = asked.durations is not None
    given = asked.given | ({"hardware"} if hardware_given else set())
    for names, applies, reason in (
        (("hardware", *FOR_MODELS), textbook, "is for a model, not for `durations`"),
        (FOR_DURATIONS, not textbook, "is for `durations`"),
        (("noise_per_dim", "quality"), asked.target != "time-to-cosine", "is for `target=time-to-cosine`"),
        (("idle_power",), asked.target != "energy", "is for `target=energy`"),
    ):
        name = next((name for name in names if name in given), None)
        if applies and name is not None:
            raise OptionError(reason, field=name, fix="leave it out")
    if textbook and model is not None:
        raise OptionError(f"got a model ({model}) and durations", field="durations", fix="give one of the two")
    if textbook and asked.target != "step-time":
        raise OptionError("a table of durations has times only", field="target", fix="leave it out")
    if not textbook and model is None:
        raise OptionError(
            "needs a model, or `durations`", field="model", fix="give one of the zoo, such as resnet9, or `durations`"
        )
