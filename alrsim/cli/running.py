"""A verb's call: targets checked first, then plug-ins, then the function, then files and text."""

from collections.abc import Mapping, Sequence
from inspect import Parameter
from pathlib import Path
from typing import Any

from alrsim.cli.entry import Entry
from alrsim.cli.output import Targets, checked_targets, publish, showing_progress, telling_warnings
from alrsim.cli.partial import keeping_partial
from alrsim.cli.ranks import hush, writes
from alrsim.errors import AlrsimError, OptionError, Spelling, spell
from alrsim.verbs import Verb


class UserError(Exception):
    """What a user did wrong, in the words of the command line."""


def run_verb(entry: Entry, verb: Verb[Any], typed: Mapping[str, Any], spelling: Spelling) -> None:
    """Call a verb and show its result.

    Args:
        typed: By name of parameter, only what stood on the command line.

    Raises:
        UserError: what the verb refused, spelled as it is typed.
    """
    try:
        load_plugins(typed.get("plugin", ()))
        targets, values, keywords = _sort(entry, verb, typed)
        with checked_targets(targets), telling_warnings(spelling), showing_progress() as listener:
            hush()
            with keeping_partial(targets):
                result = verb(*values, **keywords, progress=listener)
            if not writes():
                return
            publish(result, targets, spelling)
            failure = getattr(result, "failure", None)
            if failure is not None:
                raise failure
    except AlrsimError as error:
        raise UserError(spell(error, spelling)) from error


def load_plugins(paths: Sequence[Path]) -> None:
    """Read the Python files whose schedulers, rules and models the verb shall know."""
    if paths:
        from alrsim.registry import load_file

        for path in paths:
            load_file(path)


def _sort(entry: Entry, verb: Verb[Any], typed: Mapping[str, Any]) -> tuple[Targets, list[Any], dict[str, Any]]:
    """Where results go, and the values and keywords of the verb."""
    rest: dict[str, Any] = {name: list(value) if isinstance(value, tuple) else value for name, value in typed.items()}
    rest.pop("plugin", None)
    json = rest.pop("json", None)
    out = rest.pop("out", None) if entry.out else None  # else it is an option of the verb itself
    file = rest.pop("output", None) if entry.saving else None
    if out is None and isinstance(entry.out, str):
        out = Path(entry.out)
    written = [(one.typed[-1], Path(rest[one.name])) for one in entry.given if one.target and one.name in rest]
    written += [(f"--{name}", Path(rest[name])) for name in entry.files if name in rest]
    if file is not None and entry.saving and (needed := entry.saving.needs) and needed not in rest:
        raise OptionError(f"what it writes is made by `{needed}`", where="--output", fix=f"add `{needed}`")
    several = next((name for name, one in verb.positional.items() if one.kind is Parameter.VAR_POSITIONAL), "")
    values = rest.pop(several, [])
    targets = Targets(
        json,
        out,
        folder=None if entry.out or "out" not in rest else Path(rest["out"]),
        file=file,
        endings=entry.saving.endings if entry.saving else (),
        written=tuple(written),
    )
    return targets, values, rest
