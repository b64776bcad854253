"""From the text of an option to a value, with messages that list what exists."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction
from typing import TypeVar, get_args

from alrsim.errors import OptionError
from alrsim.estimators.policy import PRESETS
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.units import parse_rational

METHOD_RULES = ("bp", "bp-split", "segments", *(name for name in PRESETS if name != "bp"))
DEFAULT_METHODS = "bp:gpipe,bp:1f1b,bp:zb-h1,lr:lr-fixed,alr:lr-free"

_PRECISION_KEYS = {
    "params": "parameters",
    "parameters": "parameters",
    "activations": "activations",
    "saved": "saved",
    "noise": "noise",
}

T = TypeVar("T", bound=str)


@dataclass(frozen=True, slots=True)
class MethodName:
    """``rule:scheduler`` as typed, and what it stands for.

    Attributes:
        label: As typed, and as printed.
        rule: Key of :data:`alrsim.rules.RULES`.
        preset: Key of :data:`alrsim.estimators.policy.PRESETS`: how gradients are estimated; ``None`` for exact ones.
    """

    label: str
    rule: str
    scheduler: str
    preset: str | None = None

    @property
    def is_lr(self) -> bool:
        return self.rule in ("lr", "segments")


def choose(value: str, choices: Iterable[str], *, where: str, what: str = "value") -> str:
    """The value if it exists.

    Raises:
        OptionError: names the closest choices, and lists them all.
    """
    known = tuple(choices)
    if value in known:
        return value
    close = get_close_matches(value.lower(), known, n=2, cutoff=0.5)
    meant = f"did you mean {' or '.join(close)}? " if close else ""
    raise OptionError(f"{value!r} is no {what}", where=where, fix=f"{meant}choose from {', '.join(known)}")


def choose_literal(value: str, literal: object, *, where: str) -> str:
    """:func:`choose` from the members of a ``Literal`` type."""
    return choose(value, get_args(literal), where=where, what="choice")


def parse_method(text: str, *, where: str = "--method") -> MethodName:
    """``bp:zb-h1`` -> rule ``bp-split`` with scheduler ``zb-h1``.

    Raises:
        OptionError: not of the form rule:scheduler, unknown parts, or parts that do not go together.
    """
    from alrsim.schedulers import SCHEDULERS

    label = text.strip()
    word, colon, scheduler = label.partition(":")
    if not colon or not word or not scheduler:
        raise OptionError(
            f"{label!r} is not of the form rule:scheduler",
            where=where,
            fix=f"rules: {', '.join(METHOD_RULES)}; schedulers: {', '.join(SCHEDULERS)}; e.g. bp:1f1b",
        )
    choose(word, METHOD_RULES, where=where, what="rule")
    choose(scheduler, SCHEDULERS, where=where, what="scheduler")
    accepted = SCHEDULERS[scheduler].rules
    rule = word if word in ("bp", "bp-split", "segments") else "lr"
    if rule == "bp" and accepted == ("bp-split",):
        rule = "bp-split"
    if rule not in accepted:
        fitting = ", ".join(f"{word}:{name}" for name, entry in SCHEDULERS.items() if rule in entry.rules)
        raise OptionError(
            f"{label!r}: scheduler {scheduler} takes rule {' or '.join(accepted)}, not {word}",
            where=where,
            fix=f"use {fitting}",
        )
    return MethodName(label, rule, scheduler, estimator_of(word))


def estimator_of(word: str) -> str | None:
    """The preset that a rule's name stands for."""
    return None if word in ("bp", "bp-split") else "lr" if word == "segments" else word


def parse_methods(text: str) -> tuple[MethodName, ...]:
    """A comma-separated list of methods, each once."""
    parts = [part.strip() for part in text.split(",")]
    if not any(parts):
        raise OptionError("needs at least one method", where="--methods", fix=f"for example {DEFAULT_METHODS}")
    methods = tuple(parse_method(part, where="--methods") for part in parts)
    twice = next((part for part in parts if parts.count(part) > 1), None)
    if twice is not None:
        raise OptionError(f"{twice!r} is listed twice", where="--methods")
    return methods


def parse_pairs(items: Sequence[str] | None, *, where: str) -> dict[str, str]:
    """``["norm=group", "width=8"]`` -> a dict.

    Raises:
        OptionError: an item without ``=``, an empty key, or a key given twice.
    """
    pairs: dict[str, str] = {}
    for item in items or ():
        key, equals, value = item.partition("=")
        key = key.strip()
        if not equals or not key or not value.strip():
            raise OptionError(f"{item!r} is not of the form KEY=VALUE", where=where)
        if key in pairs:
            raise OptionError(f"{key!r} is given twice", where=where)
        pairs[key] = value.strip()
    return pairs


def parse_bind(items: Sequence[str] | None) -> dict[str, int]:
    """``["N=32"]`` -> ``{"N": 32}``.

    Raises:
        OptionError: a size that is not a whole number of at least 1.
    """
    sizes = {}
    for name, text in parse_pairs(items, where="--bind").items():
        if not text.isdecimal() or int(text) < 1:
            raise OptionError(
                f"{name}={text}: a dimension is a whole number of at least 1", where="--bind", fix=f"--bind {name}=32"
            )
        sizes[name] = int(text)
    return sizes


def parse_precision(text: str | None, *, default: PrecisionPlan) -> PrecisionPlan:
    """``None`` -> the default; ``bf16`` -> that for everything; ``params=bf16,saved=int8`` -> over the default.

    Raises:
        OptionError: unknown keys or formats.
    """
    if text is None:
        return default
    if "=" not in text:
        every = _format(text.strip(), "--precision")
        return PrecisionPlan(every, every, every, every)
    given = {
        "parameters": default.parameters,
        "activations": default.activations,
        "saved": default.saved,
        "noise": default.noise,
    }
    for key, value in parse_pairs(text.split(","), where="--precision").items():
        choose(key, _PRECISION_KEYS, where="--precision", what="kind of state")
        given[_PRECISION_KEYS[key]] = _format(value, f"--precision {key}")
    return PrecisionPlan(**given)


def _format(text: str, where: str) -> Precision:
    return Precision(choose(text.lower(), [p.value for p in Precision], where=where, what="number format"))


def parse_durations(text: str) -> dict[str, Fraction]:
    """``f=2,b=3,w=1,transfer=0.25`` -> exact rationals, every key filled in (g defaults to w, the rest to 0).

    Raises:
        OptionError: unknown keys, no f, numbers that are negative or not numbers.
    """
    from alrsim.steps.textbook_problem import DURATION_KEYS, fill_durations

    given: dict[str, Fraction] = {}
    for key, value in parse_pairs(text.split(","), where="--durations").items():
        choose(key, DURATION_KEYS, where="--durations", what="duration")
        given[key] = parse_rational(value, where=f"--durations {key}")
    if "f" not in given:
        raise OptionError("needs at least f", where="--durations", fix="for example f=2,b=3,w=1")
    return fill_durations(given)


def parse_segments(text: str | None) -> tuple[int, ...] | None:
    """``2,4`` -> ``(2, 4)``."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() for part in parts):
        raise OptionError(f"{text!r} is not a list of stage numbers", where="--segments", fix="for example 2,4")
    return tuple(int(part) for part in parts)


def parse_overlap(text: str) -> Fraction:
    """A share above 0, exactly."""
    value = parse_rational(text, where="--overlap")
    if not 0 < value <= 1:
        raise OptionError(f"{text} is not above 0 and at most 1", where="--overlap", fix="1 means no gain")
    return value


def require_positive(values: Mapping[str, int | None]) -> None:
    """Refuse numbers below 1; ``None`` is an option that was not given."""
    for option, value in values.items():
        if value is not None and value < 1:
            raise OptionError(f"is {value}, must be at least 1", where=option)
