"""Options as fields of frozen dataclasses: name, type, default, help and check of an option are written once, here.

A verb's options are the fields of one :class:`Options` class, which may inherit groups of fields that several verbs
share. Python calls :meth:`Options.take` with keywords; the command line makes its own options from the same fields.

>>> @dataclass(frozen=True, kw_only=True)
... class Paint(Options):
...     colour: str = keyword("Colour of the wall.", default="red", choices=("red", "blue"))
...     coats: int = keyword("How many coats.", default=2, least=1)
>>> Paint.take({"colour": "blue"})
Paint(colour='blue', coats=2)
>>> Paint.take({"colour": "blu"})
Traceback (most recent call last):
    ...
alrsim.errors.OptionError: colour: 'blu' is not a choice
  try: blue; choose from red, blue
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from difflib import get_close_matches
from math import isfinite, nan
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from types import UnionType
from typing import Any, Self, TypeVar, Union, cast, get_args, get_origin

from alrsim.errors import OptionError

KEY = "alrsim.option"

T = TypeVar("T", bound="Options")


@dataclass(frozen=True, slots=True)
class About:
    """What is known of an option besides its name, type and default.

    Attributes:
        help: One or two sentences.
        metavar: What stands for the value in help: ``N``, ``FILE``.
        short: A one-letter name for the command line: ``m``.
        choices: The values that exist, or what lists them when asked.
        least: The smallest number allowed.
        parse: Makes the value from what was given: text of the command line, or a Python value. Called with the value
            and the name of the option.
        many: May be repeated on the command line; the value is then a list of texts.
        panel: Group of options under which help shows it.
    """

    help: str
    metavar: str = ""
    short: str = ""
    choices: Iterable[str] | Callable[[], Iterable[str]] = ()
    least: float | None = None
    parse: Callable[[Any, str], Any] | None = None
    many: bool = False
    panel: str = ""

    def check(self, value: Any, name: str, kind: object) -> Any:
        """The value, checked; ``None`` (not said) passes.

        Args:
            kind: The field's type, by :func:`plain_type`.

        Raises:
            OptionError: as :meth:`Options.take`.
        """
        if value is None:
            return None
        value = self.parse(value, name) if self.parse is not None else parse_as(kind, value, name)
        known = tuple(self.choices() if callable(self.choices) else self.choices)
        if known:
            choose(value, known, field=name)
        if self.least is not None and not value >= self.least:
            raise OptionError(f"is {value}, must be at least {self.least:g}", field=name)
        return value


def keyword(help: str, *, default: Any = MISSING, **about: Any) -> Any:
    """A dataclass field that is an option, given by keyword.

    Args:
        help: One or two sentences.
        default: Its value where nobody says anything; left out: it must be given.
        about: The other attributes of :class:`About`.
    """
    return field(default=default, metadata={KEY: About(help, **about)})


def about(one: "Field[Any]") -> About:
    """What is known of an option."""
    return cast(About, one.metadata[KEY])


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base of every class of options."""

    @property
    def given(self) -> frozenset[str]:
        """Names of the options that somebody gave; the others are defaults."""
        return cast(frozenset[str], self.__dict__.get("_given", frozenset()))

    @classmethod
    def take(cls, keywords: Mapping[str, Any]) -> Self:
        """The options, every one checked.

        Raises:
            OptionError: a keyword that is no option (names the closest), a value that is no choice, a number that is
                too small, or what an option's own check says. ``field`` names the option.
        """
        known = {one.name: one for one in options_of(cls)}
        for name in keywords:
            if name not in known:
                choose(name, known, what="keyword here")
        for name, one in known.items():
            if one.default is MISSING and name not in keywords:
                raise OptionError("is missing", field=name)
        made = cls(**{name: checked(known[name], value) for name, value in keywords.items()})
        return made._saying(frozenset(keywords))

    def with_(self, **changes: Any) -> Self:
        """The same options with others in place of some, checked; what was given stays known."""
        cls = type(self)
        kept = {one.name: getattr(self, one.name) for one in options_of(cls)}
        known = {one.name: one for one in options_of(cls)}
        new = {name: checked(known[name], value) for name, value in changes.items()}
        return cls(**{**kept, **new})._saying(self.given)

    def saying(self, names: Iterable[str]) -> Self:
        """The same options, where somebody gave these, too."""
        return type(self)(**{one.name: getattr(self, one.name) for one in options_of(type(self))})._saying(
            self.given | set(names)
        )

    def only(self, cls: "type[T]") -> "T":
        """The part of the options that is of a class of which this one has all fields."""
        names = [one.name for one in options_of(cls)]
        return cls(**{name: getattr(self, name) for name in names})._saying(self.given & set(names))

    def _saying(self, given: frozenset[str]) -> Self:
        object.__setattr__(self, "_given", given)
        return self


def options_of(cls: type[Options]) -> "list[Field[Any]]":
    """The fields of a class that are options, in order."""
    return [one for one in fields(cls) if KEY in one.metadata]


def checked(one: "Field[Any]", value: Any) -> Any:
    """What was given for an option, as it is kept.

    Raises:
        OptionError: as :meth:`Options.take`.
    """
    return about(one).check(value, one.name, plain_type(one.type))


def plain_type(annotation: Any) -> object:
    """``int`` of ``int | None``; ``object`` of other unions."""
    if get_origin(annotation) in (Union, UnionType):
        members = [one for one in get_args(annotation) if one is not type(None)]
        return members[0] if len(members) == 1 else object
    return annotation


def parse_as(kind: object, given: Any, name: str) -> Any:
    """A value of a field that has no check of its own: a number, switch or text, or the name of a file (a path then).

    Raises:
        OptionError: ``"2"`` or ``True`` for a number, ``1`` for a switch, ``3`` for a text.
    """
    if kind is Path and isinstance(given, str | PathLike):
        return Path(given)
    expected, words = {
        bool: (bool, "True or False"),
        int: (Integral, "a whole number"),
        float: (Real, "a number"),
        str: (str, "a text"),
        Path: (Path, "the name of a file"),
    }.get(cast(type, kind), (object, ""))
    if not isinstance(given, expected) or (isinstance(given, bool) and kind in (int, float)):
        raise OptionError(f"is {given!r}, must be {words}", field=name)
    if kind is float and not isfinite(cast(float, given)):
        raise OptionError(f"is {given}, must be a number", field=name)
    return cast(type, kind)(given) if kind in (int, float) else given


def choose(value: str, choices: Iterable[str], *, field: str = "", what: str = "choice") -> str:
    """The value if it exists.

    Raises:
        OptionError: names the closest choices, and lists them all.
    """
    known = tuple(choices)
    if value in known:
        return value
    close = get_close_matches(str(value).lower(), known, n=2, cutoff=0.5)
    meant = f"{' or '.join(close)}; " if close else ""
    raise OptionError(f"{value!r} is not a {what}", field=field, fix=f"{meant}choose from {', '.join(known)}")


def parse_pairs(given: "Sequence[str] | Mapping[str, Any] | None", name: str) -> dict[str, str]:
    """``["norm=group", "width=8"]``, or a mapping, as a dict of texts.

    Raises:
        OptionError: an item without ``=``, an empty key, or a key given twice.
    """
    if isinstance(given, Mapping):
        return {str(key): str(value) for key, value in given.items()}
    pairs: dict[str, str] = {}
    for item in [given] if isinstance(given, str) else given or ():
        key, equals, value = item.partition("=")
        key = key.strip()
        if not equals or not key or not value.strip():
            raise OptionError(f"{item!r} is not of the form KEY=VALUE", field=name)
        if key in pairs:
            raise OptionError(f"{key!r} is given twice", field=name)
        pairs[key] = value.strip()
    return pairs


def parse_list(given: "str | Iterable[Any]", name: str) -> tuple[str, ...]:
    """``"a, b"``, or any iterable, as a tuple of texts, each once.

    Raises:
        OptionError: nothing in it, an empty item, or something twice.
    """
    items = given.split(",") if isinstance(given, str) else [str(item) for item in given]
    found = tuple(item.strip() for item in items)
    if not any(found):
        raise OptionError("needs at least one", field=name)
    if not all(found):
        raise OptionError("has an item without a word: two commas, or one at an end", field=name)
    twice = next((item for item in found if found.count(item) > 1), None)
    if twice is not None:
        raise OptionError(f"{twice!r} is listed twice", field=name)
    return found


def parse_number(given: Any, name: str) -> float:
    """A finite number, as such or as text.

    Raises:
        OptionError: anything else.
    """
    try:
        found = float(given)
    except (TypeError, ValueError):
        found = nan
    if not isfinite(found):
        raise OptionError(f"{given!r} is no number", field=name)
    return found


def parse_positive(given: Any, name: str) -> float:
    """A number above 0.

    Raises:
        OptionError: anything else.
    """
    found = parse_number(given, name)
    if found <= 0:
        raise OptionError(f"is {found:g}, must be above 0", field=name)
    return found


def parse_scale(given: Any, name: str) -> float:
    """A number from 1e-12 to 1e12, which computing in fp32 neither loses nor overflows by.

    Raises:
        OptionError: anything else.
    """
    found = parse_positive(given, name)
    if not 1e-12 <= found <= 1e12:
        raise OptionError(f"is {found:g}, must be between 1e-12 and 1e12", field=name)
    return found


def parse_share(given: Any, name: str) -> float:
    """A number between 0 and 1.

    Raises:
        OptionError: anything else.
    """
    found = parse_number(given, name)
    if not 0 < found < 1:
        raise OptionError(f"is {given}, must be between 0 and 1", field=name, fixes=[(name, 0.7)])
    return found
