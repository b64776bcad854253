"""``alrsim validate``: predict a grid of training steps, measure them, and say how far the predictions were off."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alrsim.cli.options import ExecutorName, JsonTarget, Limit, Seed
from alrsim.cli.output import check_targets, encode, publish, say, show, tell_progress, warn
from alrsim.cli.parse import require_positive
from alrsim.cli.ranks import writes
from alrsim.cli.running import Running, check_running
from alrsim.errors import AlrsimError

if TYPE_CHECKING:
    from alrsim.validation.cells import Cell, Grid
    from alrsim.validation.journal import Journal
    from alrsim.validation.score import Score

DEFAULT_OUT = "out/validation"


def run(
    quick: Annotated[
        bool, typer.Option("--quick", help="Under five minutes on two cores: fewer models, cells and repeats.")
    ] = False,
    executor: ExecutorName = "processes",
    limit: Limit = None,
    cells: Annotated[
        str | None,
        typer.Option(
            "--cells", metavar="LIST", help="Only these, by name; comma-separated, * for anything: 'mlp/*,*/bp:gpipe'."
        ),
    ] = None,
    units: Annotated[
        int | None, typer.Option("--units", "-n", metavar="N", help="Units that every step runs on. Default: 2.")
    ] = None,
    repeats: Annotated[
        int | None, typer.Option("--repeats", metavar="N", help="Measured steps per cell. Default: 5 quick, 9 full.")
    ] = None,
    check_gradients: Annotated[
        bool,
        typer.Option("--check-gradients", help="Compare every cell's gradients with those of the reference order."),
    ] = False,
    listing: Annotated[bool, typer.Option("--list", help="Print the cells and measure nothing.")] = False,
    record: Annotated[
        Path | None,
        typer.Option(
            "--record",
            metavar="DIR",
            help="Folder of one small file per cell, for `alrsim replay`. Default: traces in --out.",
        ),
    ] = None,
    seed: Seed = 0,
    json: JsonTarget = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Folder of the journal, tables and picture. A rerun with the same folder goes on where it stopped. "
            f"Default: {DEFAULT_OUT}-quick or -full.",
        ),
    ] = None,
) -> None:
    """Predict a grid of training steps, run them for real, and score the predictions.

    Per model: costs are measured on other steps, all predictions are written down, then the steps run in turn. The
    journal in --out holds every prediction and every measured step as it is made: interrupt it, and the same command
    goes on.
    """
    from alrsim.validation.cells import GRIDS, pick_cells, with_units

    require_positive({"--repeats": repeats, "--units": units})
    grid = with_units(GRIDS["quick" if quick else "full"], units)
    grid = grid if repeats is None else replace(grid, repeats=repeats)
    chosen = pick_cells(grid, cells)
    if listing:
        tell_list(grid, chosen, json)
        return
    folder = out or Path(f"{DEFAULT_OUT}-{grid.name}")
    check_targets(json, folder)
    check_targets(None, record)
    running = check_running(executor, limit)
    running.take_place(chosen[0].units)
    journal = measure(grid, chosen, running, seed, folder, check_gradients=check_gradients)
    if writes():
        finish(journal, chosen, folder, record or folder / "traces", json)


def finish(journal: "Journal", cells: "tuple[Cell, ...]", folder: Path, record: Path | None, json: str | None) -> None:
    """Score, record, write and print."""
    score, document, files = results(journal, cells)
    written = recorded_files(journal, cells)
    publish({}, out=record, files=written)
    publish(document, json_target=json, out=folder, files=files, text=lambda: tell(score, document))
    if json != "-":
        for name in files:
            say(f"wrote {folder}/{name}")
        size = sum(map(len, written.values()))
        say(f"recorded {len(written)} runs in {record}, {size / 1000:.0f} KB")


def tell_list(grid: "Grid", cells: "tuple[Cell, ...]", json: str | None) -> None:
    """What would be measured."""
    document = {"grid": grid.name, "repeats": grid.repeats, "warmup": grid.warmup, "cells": [c.name for c in cells]}

    def text() -> None:
        for cell in cells:
            say(cell.name)
        say(f"{len(cells)} cells, {grid.repeats} measured steps each after {grid.warmup} to warm up")

    publish(document, json_target=json, text=text)


def measure(
    grid: "Grid", cells: "tuple[Cell, ...]", running: Running, seed: int, folder: Path, *, check_gradients: bool
) -> "Journal":
    """Do what is left to do; an interrupt or a failure says how to go on."""
    from alrsim.validation.host import find_host_facts
    from alrsim.validation.journal import Header, open_journal
    from alrsim.validation.run import Plan, run_validation

    header = Header(grid.name, grid.repeats, grid.warmup, find_host_facts(running.executor, seed))
    journal = open_journal(folder if writes() else None, header)
    left, every = journal.left(cells), len(cells) * grid.repeats
    if left < every:
        tell_progress(f"{folder}: {every - left} of {every} steps are there already")
    plan = Plan(grid, cells, running.executor, running.limits, seed, check_gradients, tell_progress)
    try:
        run_validation(plan, journal)
    except (KeyboardInterrupt, AlrsimError):
        left = journal.left(cells)
        tell_progress(f"stopped with {left} of {every} steps to measure; the same command goes on")
        raise
    finally:
        journal.close()
    return journal


def results(journal: "Journal", cells: "tuple[Cell, ...]") -> "tuple[Score, dict[str, Any], dict[str, bytes]]":
    """The score, its JSON, and the files that --out gets."""
    from alrsim.validation.chart import draw_scatter
    from alrsim.validation.document import validation_document
    from alrsim.validation.score import score
    from alrsim.validation.tables import markdown
    from alrsim.validation.worst import worst_files

    found = score(journal, cells)
    document = validation_document(found, journal, journal.left(cells))
    files = {
        "validate.json": encode(document),
        "validate.md": markdown(found, document).encode(),
        "scatter.png": draw_scatter(document),
        **worst_files(found, journal),
    }
    return found, document, files


def recorded_files(journal: "Journal", cells: "tuple[Cell, ...]") -> dict[str, bytes]:
    """One recorded run per cell, by file name."""
    from alrsim.validation.trace import recorded_runs, trace_bytes, trace_name

    return {trace_name(run): trace_bytes(run) for run in recorded_runs(journal, cells)}


def tell(score: "Score", document: Mapping[str, Any]) -> None:
    """Tables for people."""
    from alrsim.reports.tables import plain_table
    from alrsim.validation import tables
    from alrsim.validation.score import goals

    say(tables.headline(document))
    show(plain_table(tables.CELL_COLUMNS, tables.cell_rows(score)))
    show(plain_table(tables.CLASS_COLUMNS, [tables.error_cells(*one) for one in score.classes.items()]))
    show(plain_table(tables.ERROR_COLUMNS, tables.summary_rows(score)))
    say(tables.order_line(score))
    say("\nWorst cells, and which terms of the makespan were off:")
    show(plain_table(tables.WORST_COLUMNS, tables.worst_cells(score), left=5))
    show(plain_table(tables.GOAL_COLUMNS, [tables.goal_cells(goal) for goal in goals(score)]))
    (warn if document["host_busy"] else say)(document["host_verdict"])
