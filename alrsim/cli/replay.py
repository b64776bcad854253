"""``alrsim replay``: predict recorded runs again from their recorded costs, without torch and without the models."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alrsim.cli.options import JsonTarget
from alrsim.cli.output import check_targets, publish, say, show
from alrsim.files import write_atomically

if TYPE_CHECKING:
    from alrsim.validation.replay import Replayed


def run(
    traces: Annotated[
        list[Path],
        typer.Argument(
            metavar="TRACE...", help="Files of `alrsim validate --record`, or folders of them.", show_default=False
        ),
    ],
    accept: Annotated[
        bool,
        typer.Option("--accept", help="Write today's prediction into the files where it is different and not worse."),
    ] = False,
    json: JsonTarget = None,
) -> None:
    """Predict recorded runs with this version of the program, and print the error beside that at record time."""
    from alrsim.validation.replay import accepted, replay, replay_document
    from alrsim.validation.trace import find_traces

    check_targets(json)
    found = [replay(path) for path in find_traces(traces)]
    written = []
    for one in found if accept else ():
        data = accepted(one)
        if data is not None:
            write_atomically(one.path, data)
            written.append(one.path)
    publish(replay_document(found), json_target=json, text=lambda: tell(found, written))


def tell(found: "list[Replayed]", written: list[Path]) -> None:
    """The table, for people."""
    from alrsim.reports.tables import plain_table
    from alrsim.validation.replay import COLUMNS, cells_of, summary

    show(plain_table(COLUMNS, [cells_of(one) for one in found]))
    say(summary(found))
    for path in written:
        say(f"wrote {path}")
