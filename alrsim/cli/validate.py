"""``alrsim validate``: predict a grid of training steps, measure them, and say how far the predictions were off."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alrsim.cli.options import JsonTarget, Seed
from alrsim.cli.output import check_targets, encode, publish, say, show, tell_progress, warn
from alrsim.cli.parse import choose, require_positive
from alrsim.errors import AlrsimError, OptionError

if TYPE_CHECKING:
    from alrsim.validation.cells import Cell, Grid
    from alrsim.validation.journal import Journal
    from alrsim.validation.score import Score

DEFAULT_OUT = "out/validation"


def run(
    quick: Annotated[
        bool, typer.Option("--quick", help="Under five minutes on two cores: fewer models, cells and repeats.")
    ] = False,
    executor: Annotated[
        str, typer.Option("--executor", metavar="E", help="What runs the steps: threads | processes | ...")
    ] = "processes",
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
        typer.Option("--record", metavar="DIR", help="Write one small file per cell, for `alrsim replay`."),
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
    score, document, files = measure(grid, chosen, executor, seed, folder, check_gradients=check_gradients)
    written = recorded_files(folder, chosen) if record is not None else {}
    if record is not None:
        publish({}, json_target=None, out=record, files=written)
    publish(document, json_target=json, out=folder, files=files, text=lambda: tell(score, document))
    if json != "-":
        for name in files:
            say(f"wrote {folder}/{name}")
        if record is not None:
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
    grid: "Grid", cells: "tuple[Cell, ...]", executor: str, seed: int, folder: Path, *, check_gradients: bool
) -> "tuple[Score, dict[str, Any], dict[str, bytes]]":
    """Do what is left to do, and score; an interrupt says how to go on."""
    from alrsim.execute.executors import EXECUTORS, unavailable
    from alrsim.validation.host import find_host_facts
    from alrsim.validation.journal import Header, open_journal
    from alrsim.validation.run import Plan, run_validation

    choose(executor, EXECUTORS, where="--executor", what="executor")
    if why := unavailable(executor):
        raise OptionError(f"{executor} cannot run here: {why}", where="--executor", fix="use processes or threads")
    header = Header(grid.name, grid.repeats, grid.warmup, find_host_facts(executor, seed))
    journal = open_journal(folder, header)
    left, every = journal.left(cells), len(cells) * grid.repeats
    if left < every:
        tell_progress(f"{folder}: {every - left} of {every} steps are there already")
    try:
        run_validation(Plan(grid, cells, executor, seed, check_gradients, tell_progress), journal)
    except (KeyboardInterrupt, AlrsimError):
        left = journal.left(cells)
        tell_progress(f"stopped with {left} of {every} steps to measure; the same command goes on")
        raise
    finally:
        journal.close()
    return results(journal, cells)


def results(journal: "Journal", cells: "tuple[Cell, ...]") -> "tuple[Score, dict[str, Any], dict[str, bytes]]":
    """The score, its JSON, and the files that --out gets."""
    from alrsim.validation.chart import draw_scatter
    from alrsim.validation.document import validation_document
    from alrsim.validation.score import score
    from alrsim.validation.tables import markdown

    found = score(journal, cells)
    document = validation_document(found, journal, journal.left(cells))
    files = {
        "validate.json": encode(document),
        "validate.md": markdown(found, document).encode(),
        "scatter.png": draw_scatter(document),
    }
    return found, document, files


def recorded_files(folder: Path, cells: "tuple[Cell, ...]") -> dict[str, bytes]:
    """One recorded run per cell, by file name."""
    from alrsim.validation.journal import JOURNAL, read_journal
    from alrsim.validation.trace import recorded_runs, trace_bytes, trace_name

    journal = read_journal(folder / JOURNAL)
    assert journal is not None, "a run has just written it"
    return {trace_name(run): trace_bytes(run) for run in recorded_runs(journal, cells)}


def tell(score: "Score", document: Mapping[str, Any]) -> None:
    """Tables for people."""
    from alrsim.report.tables import plain_table
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
