"""Every error that a user can cause: what is wrong, where, and what to do about it.

Messages speak of keywords as Python spells them, in backquotes ("use fewer `units`"). The command line prints the
same messages with its own spelling (:func:`spell`), so that nothing below it knows how an option is typed.
"""

import re
from collections.abc import Callable, Sequence

Fix = tuple[str, object]
"""A keyword and a value that would do: ``("units", 1)``."""


class AlrsimWarning(UserWarning):
    """What a user should know of a result, or of how an input was read."""


class AlrsimError(Exception):
    """A user error. The command line prints it and exits 1, without a traceback.

    Args:
        what: What is wrong, in one sentence.
        where: The file, key path, token or unit that is to blame.
        field: The keyword that is to blame: ``copies``.
        fix: What the user can do, in words.
        fixes: Keywords with values that would do.
    """

    def __init__(
        self, what: str, *, where: str = "", field: str = "", fix: str = "", fixes: Sequence[Fix] = ()
    ) -> None:
        self.what, self.where, self.field, self.fix, self.fixes = what, where, field, fix, tuple(fixes)
        super().__init__(what)

    def __str__(self) -> str:
        return spell(self, _python)


class OptionError(AlrsimError):
    """An option, or a combination of options, that makes no sense."""


class FileError(AlrsimError):
    """A file that cannot be read, is cut off, or does not hold what it should."""


class ModelError(AlrsimError):
    """A model that cannot be loaded, exported, priced or cut."""


class ProfileError(AlrsimError):
    """A hardware profile that is wrong: unknown key, missing unit, negative number."""


class ScheduleError(AlrsimError):
    """A schedule that does not fit its problem."""


class DeadlockError(ScheduleError):
    """A schedule whose lanes wait for each other; the message names the cycle and prints the lanes."""


class ExecutionError(AlrsimError):
    """A measured run that could not be carried out; names the token."""


Spelling = Callable[[str, object], str]
"""A keyword and its value (``None``: the keyword alone) as somebody types it."""


def spell(error: AlrsimError, spelling: Spelling) -> str:
    """The message, with every keyword spelled by ``spelling``.

    >>> print(OptionError("is 0, must be at least 1", field="copies", fixes=[("copies", 4)]))
    copies: is 0, must be at least 1
      try: copies=4
    """
    place = ": ".join(
        part for part in (respell(error.where, spelling), error.field and spelling(error.field, None)) if part
    )
    words = respell(error.what, spelling)
    tries = [respell(error.fix, spelling)] if error.fix else []
    tries += [spelling(field, value) for field, value in error.fixes]
    text = f"{place}: {words}" if place else words
    return printable(_LONG.sub(_shortened, f"{text}\n  try: {' or '.join(tries)}" if tries else text))


def respell(text: str, spelling: Spelling) -> str:
    """A sentence with its `keywords` (and `keyword=value` pairs), in backquotes, spelled as ``spelling`` does."""
    return re.sub(
        r"`([a-z_]+)(?:=([^`]*))?`", lambda found: spelling(found[1], found[2] if found[2] is not None else None), text
    )


_LONG = re.compile(r"\S{600,}")
"""No word, and no path that a system takes often: a name of thousands of characters, which would hide the message."""


def _shortened(found: re.Match[str]) -> str:
    return f"{found[0][:100]}...{found[0][-100:]}"


_STEERING = r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"


def printable(text: str) -> str:
    """Text for a terminal or a page: characters that steer one, or turn the direction of reading, become escapes.

    Tabs and the ends of lines stay.

    >>> print(printable(chr(27) + "[2Jname"))
    \\x1b[2Jname
    """
    return re.sub(_STEERING, lambda found: found[0].encode("unicode_escape").decode(), text)


def _python(field: str, value: object) -> str:
    return field if value is None else f"{field}={value}"
