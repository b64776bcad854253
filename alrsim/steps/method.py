"""Methods: ``rule:scheduler`` as people write it, and what it stands for."""

from collections.abc import Iterable
from dataclasses import dataclass

from alrsim.errors import OptionError
from alrsim.estimators.policy import PRESETS
from alrsim.options import choose, parse_list
from alrsim.rules import RULES

DEFAULT_METHODS = ("bp:gpipe", "bp:1f1b", "bp:zb-h1", "lr:lr-fixed", "alr:lr-free")
SEQUENTIAL = "serial"
"""The scheduler of a method that names none: everything on the first unit, in reference order."""


@dataclass(frozen=True)
class Method:
    """A rule with a scheduler.

    Attributes:
        label: As written, and as printed.
        rule: Key of :data:`alrsim.rules.RULES`.
        scheduler: Key of :data:`alrsim.schedulers.SCHEDULERS`.
        preset: Key of :data:`alrsim.estimators.policy.PRESETS`: how gradients are estimated; ``None`` for exact ones.
    """

    label: str
    rule: str
    scheduler: str
    preset: str | None = None

    def __str__(self) -> str:
        return self.label

    @property
    def is_lr(self) -> bool:
        """Whether gradients are estimated, at least those in front of a segment that reaches the loss."""
        return self.rule in ("lr", "segments")


def method_rules() -> tuple[str, ...]:
    """Every word that may stand in front of the colon."""
    own = [name for name in RULES if name not in BUILTIN_RULES]
    return ("bp", "bp-split", "segments", *(name for name in PRESETS if name != "bp"), *own)


BUILTIN_RULES = ("bp", "bp-split", "segments", "lr")


def parse_method(text: "str | Method", field: str = "method") -> Method:
    """``bp:zb-h1`` -> rule ``bp-split`` with scheduler ``zb-h1``; ``lr`` alone is sequential.

    >>> parse_method("bp:zb-h1").rule
    'bp-split'

    Raises:
        OptionError: unknown parts, or parts that do not go together.
    """
    from alrsim.schedulers import SCHEDULERS

    if isinstance(text, Method):
        return text
    label = text.strip()
    word, colon, scheduler = label.partition(":")
    if not word or (colon and not scheduler) or (not colon and word in SCHEDULERS):
        raise OptionError(
            f"{label!r} is not of the form rule:scheduler",
            field=field,
            fix=f"rules: {', '.join(method_rules())}; schedulers: {', '.join(SCHEDULERS)}; e.g. bp:1f1b",
        )
    choose(word, method_rules(), field=field, what="rule")
    scheduler = choose(scheduler or SEQUENTIAL, SCHEDULERS, field=field, what="scheduler")
    accepted = SCHEDULERS[scheduler].rules
    own = word not in PRESETS and word not in BUILTIN_RULES
    rule = word if own or word in ("bp", "bp-split", "segments") else "lr"
    if rule == "bp" and accepted == ("bp-split",):
        rule = "bp-split"
    if (getattr(RULES[rule], "like", rule) if own else rule) not in accepted:
        fitting = ", ".join(f"{word}:{name}" for name, entry in SCHEDULERS.items() if rule in entry.rules)
        raise OptionError(
            f"{label!r}: scheduler {scheduler} takes rule {' or '.join(accepted)}, not {word}",
            field=field,
            fix=f"use {fitting}",
        )
    return Method(label, rule, scheduler, preset_of(word))


def preset_of(word: str) -> str | None:
    """The preset that a rule's name stands for."""
    if word in PRESETS and word != "bp":
        return word
    return "lr" if word == "segments" else None


def parse_methods(given: "str | Iterable[str | Method]", field: str = "methods") -> tuple[Method, ...]:
    """A comma-separated list of methods, or any iterable of them, each once."""
    if not isinstance(given, str):
        items = tuple(given)
        if items and all(isinstance(item, Method) for item in items):
            return tuple(item for item in items if isinstance(item, Method))
        given = [item.label if isinstance(item, Method) else item for item in items]
    return tuple(parse_method(part, field) for part in parse_list(given, field))
