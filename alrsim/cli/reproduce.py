"""``alrsim reproduce``: every quantitative claim of the two papers, measured on this host, with a verdict."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alrsim.cli.options import JsonTarget, OutFolder, Seed
from alrsim.cli.output import check_targets, encode, publish, say, show, tell_progress
from alrsim.errors import FileError, OptionError

if TYPE_CHECKING:
    from alrsim.experiments.claim import Claim
    from alrsim.experiments.run import Finished


def run(
    claims: Annotated[
        str | None,
        typer.Option("--claims", metavar="LIST", help="Only these: ids or their beginnings, comma-separated."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A few minutes: fewer seeds, steps and copies, smaller models.")
    ] = False,
    listing: Annotated[bool, typer.Option("--list", help="Print the claims and measure nothing.")] = False,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            metavar="DIR",
            help="Folder with data sets, one folder each: cifar10, cifar100, tiny-imagenet, ag-news, cora, "
            "fashion-mnist. What is missing is stood in for, or not testable.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on in --out; a rerun with the same --out does so anyway.")
    ] = False,
    seed: Seed = 0,
    json: JsonTarget = None,
    out: OutFolder = None,
) -> None:
    """Measure what the papers claim, claim by claim, on this host: reproduced, exceeded, not, or not testable here.

    Finished claims are kept in --out as they finish: interrupt it, and the same command goes on.
    """
    from alrsim.experiments.registry import pick_claims

    check_targets(json, out)
    if resume and out is None:
        raise OptionError("needs the folder to go on in", where="--resume", fix="add --out DIR")
    if data_dir is not None and not data_dir.is_dir():
        raise FileError("is no folder", where=f"--data-dir {data_dir}", fix="give the folder that holds the data sets")
    chosen = pick_claims(claims)
    if listing:
        tell_list(chosen, json)
        return
    document = measure(chosen, quick=quick, seed=seed, data_dir=data_dir, out=out)
    files = result_files(document) if out is not None else {}
    publish(document, json_target=json, out=out, files=files, text=lambda: tell(document, out, files))


def tell_list(claims: "Sequence[Claim]", json: str | None) -> None:
    """What would be measured."""
    from alrsim.experiments.document import number
    from alrsim.reports.tables import plain_table

    rows = [
        [one.id, one.where, "–" if one.figure is None else number(one.figure, one.unit), one.budget, one.text]
        for one in claims
    ]
    document = {
        "claims": [
            {
                "id": one.id,
                "paper": one.paper,
                "where": one.where,
                "text": one.text,
                "figure": one.figure,
                "unit": one.unit,
                "rule": one.rule.describe(one.figure) if one.measure else "",
                "needs": list(one.needs),
                "missing": one.missing,
                "budget": one.budget,
            }
            for one in claims
        ]
    }
    table = plain_table(("claim", "where", "paper", "full run", "what"), rows, left=5)
    publish(document, json_target=json, text=lambda: show(table))


def measure(
    claims: "Sequence[Claim]", *, quick: bool, seed: int, data_dir: Path | None, out: Path | None
) -> dict[str, Any]:
    """Measure, keep and judge; an interrupt says how to go on."""
    import torch

    from alrsim.execution.measuring.timelines import device_name
    from alrsim.execution.workers.thread_workers import core_count
    from alrsim.experiments.context import Context
    from alrsim.experiments.document import reproduce_document
    from alrsim.experiments.run import keeper, open_run, run_claims
    from alrsim.version import __version__

    version = f"alrsim {__version__}, torch {torch.__version__}"
    context = Context("quick" if quick else "full", seed, data_dir, version, tell=tell_progress)
    context, done = open_run(context, out)
    found: list[Finished] = []
    try:
        for one in run_claims(claims, context, done, keeper(out)):
            found.append(one)
            if one.key not in done:
                tell_progress(f"  {one.outcome.verdict}: {one.outcome.why} ({one.seconds:.0f} s)")
    except KeyboardInterrupt:
        left = len(claims) - len(found)
        more = "the same command goes on" if out is not None else "with --out DIR a rerun would go on"
        tell_progress(f"stopped with {left} of {len(claims)} claims to do; {more}")
        raise
    facts = {
        "mode": context.mode,
        "seed": seed,
        "data_folder": None if data_dir is None else str(data_dir),
        "version": __version__,
        "host": {"device": device_name(), "cores": core_count(), "torch": torch.__version__},
    }
    return reproduce_document(found, facts)


def result_files(document: Mapping[str, Any]) -> dict[str, bytes]:
    """What ``--out`` holds besides the finished claims and their parts."""
    from alrsim.experiments.chart import draw_overview
    from alrsim.experiments.document import markdown

    return {
        "reproduce.json": encode(document),
        "report.md": markdown(document).encode(),
        "overview.png": draw_overview(document),
    }


def tell(document: Mapping[str, Any], out: Path | None, files: Mapping[str, bytes]) -> None:
    """The table, and why not, for people."""
    from alrsim.experiments.document import COLUMNS, cells, headline, summary
    from alrsim.reports.tables import plain_table

    say(headline(document))
    table = plain_table(COLUMNS, [cells(row) for row in document["claims"]], left=2)
    for column in table.columns[-1:]:
        column.justify = "left"
    show(table)
    say(summary(document))
    for verdict in ("not reproduced", "not testable here", "failed"):
        rows = [row for row in document["claims"] if row["verdict"] == verdict]
        if rows:
            say(f"\n{verdict}:")
            for row in rows:
                say(f"  {row['id']}: {row['why']}")
    for name in files:
        say(f"wrote {out}/{name}")
