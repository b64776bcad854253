"""Commands made from data: a verb becomes one when somebody asks for it, so that help of all verbs imports none."""

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

import click

from alrsim.cli.entry import Entry, Section
from alrsim.cli.parameters import OTHER, OUTPUT, UNBROKEN, Argument, Option, parameters_of
from alrsim.cli.running import run_verb
from alrsim.cli.spelling import did_you_mean, no_such_option, respelled, spelling_of
from alrsim.errors import respell
from alrsim.showing import load_attribute

SETTINGS: Mapping[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 80}


class VerbCommand(click.Command):
    """A verb."""

    def __init__(self, entry: Entry) -> None:
        self.entry, self.verb = entry, load_attribute(entry.verb)
        parameters = parameters_of(entry, self.verb)
        self.spelling = spelling_of(parameters)
        for one in parameters:
            if isinstance(one, Option):
                one.help = respell(one.help or "", self.spelling)
        words = respell(described(self.verb.function), self.spelling)
        super().__init__(entry.name, params=parameters, help=words, context_settings=dict(SETTINGS))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does; what does not exist, or no more, is told in our words."""
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            words = respelled(self.entry.name, given)
            if isinstance(error, click.NoSuchOption):
                options = [one for one in self.get_params(ctx) if isinstance(one, click.Option)]
                known = [name for one in options for name in (*one.opts, *one.secondary_opts)]
                words = words or no_such_option(self.entry.name, error.option_name, known)
            if not words:
                raise
            raise click.UsageError(words, ctx) from None

    def invoke(self, ctx: click.Context) -> None:
        """Call the verb with what was typed."""
        typed = {name: value for name, value in ctx.params.items() if _is_typed(ctx, name)}
        run_verb(self.entry, self.verb, typed, self.spelling)

    def get_help(self, ctx: click.Context) -> str:
        """Help as text."""
        return super().get_help(ctx).replace(UNBROKEN, " ")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Arguments, then every panel of options; what is written comes last."""
        panels: dict[str, list[tuple[str, str]]] = {"Arguments": [], OTHER: []}
        for one in self.get_params(ctx):
            if isinstance(one, Argument):
                panels["Arguments"].append((one.metavar or one.name.upper(), one.words))
            elif (record := one.get_help_record(ctx)) is not None:
                panels.setdefault(one.panel if isinstance(one, Option) else OUTPUT, []).append(record)
        panels[OUTPUT] = panels.pop(OUTPUT)
        for name, records in panels.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)


class Verbs(click.Group):
    """Verbs by name."""

    def __init__(self, name: str, help: str, entries: Sequence[Entry | Section], **settings: Any) -> None:
        super().__init__(name, help=help, context_settings=dict(SETTINGS), no_args_is_help=False, **settings)
        self.entries = {one.name: one for one in entries}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, as in the table."""
        return list(self.entries)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command, made now."""
        one = self.entries.get(name)
        if one is None:
            return None
        return VerbCommand(one) if isinstance(one, Entry) else Verbs(one.name, one.line, one.entries)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; a verb that does not exist is told in our words."""
        if args and args[0] not in self.entries and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}{did_you_mean(args[0], self.entries)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One line for each verb, in the table's words: nothing is imported."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, one.line) for name, one in self.entries.items()])


def described(function: Any) -> str:
    """What a function's docstring says before arguments, errors and examples, as plain text."""
    text = (inspect.getdoc(function) or "").split(">>>")[0]
    text = re.split(r"^(?:Args|Raises|Returns):$", text, maxsplit=1, flags=re.MULTILINE)[0]
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"\1", text)
    return re.sub(r"``([^`]+)``", r"\1", text).strip()


def _is_typed(ctx: click.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
