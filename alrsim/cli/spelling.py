"""How keywords of the library are typed: ``units`` is ``--units``, ``update=False`` is ``--no-update``."""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

import click

from alrsim.errors import Spelling

RENAMED: dict[tuple[str, str], str] = {
    ("", "--plan"): "--estimators",
    ("gradcheck", "--data"): "--dataset",
    ("reproduce", "--data-dir"): "--data-folder",
    ("sweep", "--csv"): "--out",
    ("train", "--data"): "--dataset",
    ("train", "--data-dir"): "--data-folder",
    ("train", "--schedule"): "--scheduler",
    ("train", "--update"): "--direction",
}
"""Verb (empty: any) and an option that it had -> what does it now."""


RESPELLED: tuple[tuple[str, str, str], ...] = (
    ("plan", r"--target[ =]time-to-cosine ([0-9.]+)", r"the cosine is an option of its own: --cosine \1"),
)
"""Verb, words that it took, and what to type now: regular expression and expansion."""


def respelled(verb: str, words: Sequence[str]) -> str:
    """What to type instead of words that a verb took once; empty: nothing is known of them."""
    line = " ".join(words)
    for name, old, new in RESPELLED:
        if name == verb and (found := re.search(old, line)):
            return found.expand(new)
    return ""


def spelling_of(parameters: Iterable[click.Parameter]) -> Spelling:
    """The spelling of a verb's keywords; words that are none of them stay as they are."""
    known = {one.name: one for one in parameters}

    def spelled(name: str, value: object) -> str:
        one = known.get(name)
        if one is None:
            return name if value is None else f"{name}={value}"
        if isinstance(one, click.Argument):
            word = (one.metavar or name).strip("[]").upper()
            return word if value is None else f"{word} {value}"
        assert isinstance(one, click.Option)
        if one.is_flag:
            off = value is False or str(value).lower() in ("false", "no")
            return (one.secondary_opts if off and one.secondary_opts else one.opts)[0]
        return one.opts[0] if value is None else f"{one.opts[0]} {_typed(value)}"

    return spelled


def _typed(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key}={one}" for key, one in value.items())
    return ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def no_such_option(verb: str, name: str, known: Iterable[str]) -> str:
    """The message for an option that a verb does not have: what it is called now, or what is like it."""
    renamed = RENAMED.get((verb, name)) or RENAMED.get(("", name))
    known = list(known)
    if renamed in known:
        return f"No such option: {name}; use {renamed}"
    return f"No such option: {name}{did_you_mean(name, known)}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean --units?``, or nothing."""
    close = get_close_matches(word, list(known), n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(close)}?" if close else ""
