"""A verb's options and arguments as those of click, made from the fields of its options."""

from collections.abc import Callable, Iterable
from dataclasses import MISSING, Field
from inspect import Parameter
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from alrsim.cli.entry import Entry, Given
from alrsim.options import about, options_of, plain_type
from alrsim.showing import load_attribute
from alrsim.verbs import Verb

OUTPUT, OTHER = "Output", "Options"
"""Panels of the help: the options of this module, and those that name no panel."""

MOST_SHOWN = 8
"""Items of a default that is a list; longer ones are cut."""

NO_CODE = "--no-code"

UNBROKEN = "\N{NO-BREAK SPACE}"
"""A space at which help is not wrapped; it is printed as a plain one."""

_NUMBERS = {int: click.INT, float: click.FLOAT}


class Words(click.ParamType):  # type: ignore[type-arg]  # newer releases only
    """A value as it is typed; the option's own check makes something of it.

    Attributes:
        known: The values that exist, for the shell's completion.
    """

    name = "text"

    def __init__(self, known: Iterable[str] | Callable[[], Iterable[str]] = (), *, file: bool = False) -> None:
        self.known, self.file = known, file

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The values that begin like this; of a list, those of its last item."""
        begun, comma, last = incomplete.rpartition(",")
        known = self.known() if callable(self.known) else self.known
        found = [CompletionItem(begun + comma + one) for one in known if one.startswith(last)]
        return found or ([CompletionItem(incomplete, type="file")] if self.file else [])


class Option(click.Option):
    """An option that knows the panel it is shown in."""

    def __init__(self, names: list[str], *, panel: str = OTHER, **settings: Any) -> None:
        super().__init__(names, **settings)
        self.panel = panel


class Argument(click.Argument):
    """An argument that help explains."""

    def __init__(self, name: str, words: str, **settings: Any) -> None:
        super().__init__([name], **settings)
        self.words = words


def parameters_of(entry: Entry, verb: Verb[Any]) -> list[click.Parameter]:
    """All parameters of a verb's command."""
    given = [_given(one, verb.positional[one.name]) for one in entry.given]
    return [
        *given,
        *(option_of(one) for one in options_of(verb.options) if one.name not in entry.without),
        *_outputs(entry),
    ]


def option_of(one: "Field[Any]") -> Option:
    """An option from a field: its name, help, default and what is known of it."""
    known, dashed = about(one), one.name.replace("_", "-")
    names, settings = [f"--{dashed}"], _kind(one)
    if settings.get("is_flag"):
        names = [f"--{dashed}" if one.default is False else f"--{dashed}/--no-{dashed}"]
    if known.short:
        names.append(f"-{known.short}")
    required = one.default is MISSING
    shown = "" if required else _default(one)
    return Option(
        [*names, one.name],
        panel=known.panel or OTHER,
        help=" ".join(filter(None, (known.help, shown))),
        metavar=None if settings.get("is_flag") else known.metavar or dashed.upper(),
        required=required,
        **settings,
    )


def _kind(one: "Field[Any]") -> dict[str, Any]:
    known, plain = about(one), plain_type(one.type)
    if plain is bool:
        return {"is_flag": True}
    if plain in _NUMBERS and not known.many:
        return {"type": _NUMBERS[plain]}
    if plain is Path and known.parse is None:
        return {"type": click.Path(path_type=Path)}
    return {"type": Words(known.choices, file=known.metavar == "FILE"), "multiple": known.many}


def _default(one: "Field[Any]") -> str:
    value, dashed = one.default, one.name.replace("_", "-")
    if value is None or value is False or value in ("", ()):
        return ""
    if value is True:
        return default_words(dashed)
    items = [str(item) for item in (value if isinstance(value, (tuple, list)) else (value,))]
    if len(items) > MOST_SHOWN:
        items = [*items[:3], "...", items[-1]]
    return default_words(",".join(items))


def default_words(value: object) -> str:
    """``[default: 4]``, which no line of help breaks."""
    return f"[default:{UNBROKEN}{value}]"


def _given(one: Given, parameter: Parameter) -> click.Parameter:
    required = parameter.default is Parameter.empty
    words = Words(load_attribute(one.known) if one.known else (), file=True)
    metavar = one.metavar if required or one.typed else f"[{one.metavar}]"
    settings: dict[str, Any] = {"type": words, "metavar": metavar, "required": required}
    if parameter.kind is Parameter.VAR_POSITIONAL:
        required = not one.metavar.startswith("[")
        return Argument(one.name, one.help, type=words, metavar=one.metavar, nargs=-1, required=required)
    if not one.typed:
        return Argument(one.name, one.help, **settings)
    shown = "" if required or parameter.default is None else f" {default_words(parameter.default)}"
    panel = OUTPUT if one.target else "Model and batch"
    return Option([*one.typed, one.name], panel=panel, help=one.help + shown, **settings)


def _outputs(entry: Entry) -> list[click.Parameter]:
    path = click.Path(path_type=Path)
    found = [Option(["--json"], panel=OUTPUT, metavar="FILE", help="Write JSON to a file, or to stdout with -.")]
    if entry.out:
        words = "Folder for the result, pictures and traces; made if missing."
        shown = f" {default_words(entry.out)}" if isinstance(entry.out, str) else ""
        found.append(Option(["--out"], panel=OUTPUT, metavar="DIR", type=path, help=words + shown))
    if (saving := entry.saving) is not None:
        ending = saving.endings[0] if len(saving.endings) == 1 else ""
        settings: dict[str, Any] = {"type": path, "help": saving.help, "required": saving.required}
        found.append(Option(["--output", "-o"], panel=OUTPUT, metavar=f"FILE{ending}", **settings))
    return [*found, plugin_option(), no_code_option()]


def plugin_option() -> Option:
    """``--plugin``, which the command and every verb have."""
    return Option(
        ["--plugin"],
        panel=OUTPUT,
        metavar="FILE.py",
        multiple=True,
        type=click.Path(path_type=Path),
        help="Read own schedulers, rules, models from a Python file first. Repeatable.",
    )


def no_code_option() -> Option:
    """``--no-code``, which the command and every verb have."""
    help = "Run nobody's code: zoo names and files of data only, no factory, no plug-in."
    return Option([NO_CODE], panel=OUTPUT, is_flag=True, help=help)
