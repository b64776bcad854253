"""Textbook problems: stages without a model, durations as typed, and everything else read off the schedule."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from alrsim.errors import OptionError
from alrsim.options import Options, choose, keyword, parse_pairs
from alrsim.rules.options import RuleOptions
from alrsim.schedule.schedule import Schedule
from alrsim.steps.method import Method
from alrsim.steps.textbook_problem import DURATION_KEYS, fill_durations, textbook_problem
from alrsim.tasks.problem import Problem
from alrsim.tasks.token import NONE, Kind, TaskId
from alrsim.units import parse_rational


@dataclass(frozen=True)
class Outline:
    """What a schedule says about its problem.

    Attributes:
        rule: Key of :data:`alrsim.rules.RULES`.
        units: Lane names in order.
        kinds: Kinds of the layer stages.
        loss_kinds: Kinds of the loss module.
        groups: Copy groups, ``()`` where copies are not split.
        first_input_gradient: Stage 0 has an I; a full backward does not tell.
        has_clean_baseline: The clean forward (copy group 0) has a loss, or is there for nothing but one.
        trained: Stages with parameters, ``None`` for all.
    """

    rule: str
    stages: int
    microbatches: int
    units: tuple[str, ...]
    kinds: frozenset[Kind]
    loss_kinds: frozenset[Kind]
    groups: tuple[int, ...] = ()
    first_input_gradient: bool = False
    has_clean_baseline: bool = False
    trained: frozenset[int] | None = None

    def options(self, options: RuleOptions, *, baseline_typed: bool = False) -> RuleOptions:
        """The given options, with what the schedule's tokens decide put in their place.

        Tokens tell a clean baseline, but not a mean over copies or pairs of them: those must be typed.
        """
        changed = replace(
            options,
            microbatches=self.microbatches,
            loss="L" in self.loss_kinds,
            loss_gradient="B" in self.loss_kinds,
            update=options.update and ("U" in self.kinds or "U" in self.loss_kinds),
            loss_update="U" in self.loss_kinds,
            first_input_gradient=options.first_input_gradient or self.first_input_gradient,
        )
        if self.rule != "lr":
            return changed
        noisy = [group for group in self.groups if group > 0]
        copies = max(options.copies, len(noisy), 1)
        return replace(
            changed,
            copies=copies,
            group=copies // len(noisy) if noisy and copies % len(noisy) == 0 else None,
            baseline=options.baseline if baseline_typed or self.has_clean_baseline else "none",
            reduction="accumulate" if "C" in self.kinds else "stack",
        )


def outline(schedule: Schedule) -> Outline:
    """Read stages, micro-batches, rule and options off the tokens of a schedule.

    The loss module is the stage after the last; it is told from a layer by having L, or no forward.

    Raises:
        OptionError: a schedule without forwards.
    """
    tasks = [task for lane in schedule.lanes for task in lane.tasks]
    forward = [task for task in tasks if task.kind == "F"]
    if not forward:
        raise OptionError("has no forward task, so it is no training step", where=f"schedule {schedule.name}")
    stages = 1 + max(task.stage for task in forward)
    kinds = frozenset(task.kind for task in tasks if task.stage < stages)
    rule = "lr" if kinds & {"G", "C"} else "bp-split" if kinds & {"I", "W"} else "bp"
    return Outline(
        rule=rule,
        stages=stages,
        microbatches=1 + max(task.microbatch for task in forward),
        units=tuple(lane.unit for lane in schedule.lanes),
        kinds=kinds,
        loss_kinds=frozenset(task.kind for task in tasks if task.stage == stages),
        groups=tuple(sorted({task.group for task in forward if task.group != NONE})),
        first_input_gradient=any(task.kind == "I" and task.stage == 0 for task in tasks),
        has_clean_baseline=_has_clean_baseline(tasks),
        trained=_trained(tasks, stages),
    )


def _has_clean_baseline(tasks: Sequence[TaskId]) -> bool:
    losses = [task for task in tasks if task.kind == "L"]
    if losses:
        return any(task.group == 0 for task in losses)
    clean = any(task.kind == "F" and task.group == 0 for task in tasks)
    return clean and not any(task.kind == "C" for task in tasks)  # accumulation needs the clean input too


def _trained(tasks: Sequence[TaskId], stages: int) -> frozenset[int]:
    """Stages that have parameters: those with an update, or, in a schedule without updates, with a gradient."""
    updated = frozenset(task.stage for task in tasks if task.kind == "U" and task.stage < stages)
    return updated or frozenset(task.stage for task in tasks if task.kind in "BWG" and task.stage < stages)


def outline_of_method(
    method: Method, durations: Mapping[str, Fraction], stages: int, microbatches: int, units: tuple[str, ...]
) -> Outline:
    """The problem of a method without a file: L and U are tasks only if they take time."""
    gradients: dict[str, set[Kind]] = {"bp": {"B"}, "bp-split": {"I", "W"}, "lr": {"G"}}
    kinds: set[Kind] = {"F", *gradients.get(method.rule, {"G"})}
    if durations["u"]:
        kinds.add("U")
    if durations["c"] and method.is_lr:
        kinds.add("C")
    loss: frozenset[Kind] = frozenset({"L"}) if durations["l"] else frozenset()
    return Outline(method.rule, stages, microbatches, units, frozenset(kinds), loss)


def method_options(
    found: Outline, durations: Mapping[str, Fraction], options: RuleOptions, typed: Collection[str]
) -> RuleOptions:
    """Options of a method's textbook problem: as typed, and where nothing is typed as the textbooks draw it.

    L and U are tasks only if they take time, stage 0 has an input gradient, LR has no baseline (as in the paper's
    Figure 2), and cotangents are accumulated if that takes time.
    """
    accumulates = durations["c"] > 0 and "reduce" not in typed
    return replace(
        options,
        loss=bool(found.loss_kinds),
        update=options.update and "U" in found.kinds,
        first_input_gradient=True,
        baseline=options.baseline if "baseline" in typed else "none",
        reduction="accumulate" if accumulates else options.reduction,
    )


def file_problem(
    found: Outline,
    durations: Mapping[str, Fraction],
    options: RuleOptions,
    *,
    overlap: Fraction = Fraction(1),
    loss_unit: int | None = None,
) -> Problem:
    """A textbook problem on units named as the schedule's lanes, fine enough for fused pairs to stay exact.

    Args:
        options: From :meth:`Outline.options`, a recipe, or :func:`method_options`.
    """
    return textbook_problem(
        found.rule,
        durations,
        stages=found.stages,
        units=len(found.units),
        options=options,
        loss_unit=loss_unit,
        trained=found.trained,
        names=found.units,
        finer=overlap.denominator,
    )


def unit_names(count: int) -> tuple[str, ...]:
    """``u0``, ``u1``..."""
    return tuple(f"u{index}" for index in range(count))


def parse_durations(given: "str | Mapping[str, Any]", field: str = "durations") -> dict[str, Fraction]:
    """``f=2,b=3,w=1,transfer=0.25``, or a mapping, as exact rationals, every key filled in (g: w, the rest: 0).

    Raises:
        OptionError: unknown keys, no f, numbers that are negative or not numbers.
    """
    found: dict[str, Fraction] = {}
    for key, value in parse_pairs(given.split(",") if isinstance(given, str) else given, field).items():
        choose(key, DURATION_KEYS, field=field, what="duration")
        found[key] = parse_rational(value, where=f"`{field}` {key}")
    if "f" not in found:
        raise OptionError("needs at least f", field=field, fix="for example f=2,b=3,w=1")
    return fill_durations(found)


TEXTBOOK = "Durations instead of a model"
"""Panel of the help."""


@dataclass(frozen=True, kw_only=True)
class ProblemOptions(Options):
    """The size of a textbook problem."""

    stages: int | None = keyword(
        "With durations: how many stages. Default: one per unit.", default=None, metavar="N", least=1, panel=TEXTBOOK
    )
    loss_unit: int | None = keyword(
        "With durations: the loss has this unit.", default=None, metavar="N", least=0, panel=TEXTBOOK
    )


@dataclass(frozen=True, kw_only=True)
class DurationOptions(ProblemOptions):
    """A textbook problem instead of a model."""

    durations: dict[str, Fraction] | None = keyword(
        "Instead of a model: f=2,b=3,w=1,u=0,l=0,g=1,c=0,transfer=0.25 per stage; a full backward is b+w.",
        default=None,
        metavar="TABLE",
        parse=parse_durations,
        panel=TEXTBOOK,
    )
