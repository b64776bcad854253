"""``validate``: predict a grid of training steps, measure them, and say how far the predictions were off."""

import os
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alrsim.errors import AlrsimError
from alrsim.execution.workers.ranks import rank_place
from alrsim.files import make_folder, write_atomically
from alrsim.options import keyword
from alrsim.reports.parts import Parts, axes_or_new
from alrsim.reports.tables import plain_table, to_text
from alrsim.steps.measuring import Running, join_ranks, running_of
from alrsim.steps.options import RUN, ExecutorOptions
from alrsim.validation import tables
from alrsim.validation.cells import GRIDS, Cell, Grid, pick_cells, with_units
from alrsim.validation.chart import draw_scatter, worst_files
from alrsim.validation.journal import Header, Journal, open_journal
from alrsim.validation.records import Host
from alrsim.validation.result import ValidateResult
from alrsim.validation.run import Plan, run_validation
from alrsim.validation.score import score
from alrsim.validation.trace import recorded_runs, trace_bytes, trace_name
from alrsim.verbs import verb
from alrsim.version import __version__
from alrsim.warning import warn


@dataclass(frozen=True, kw_only=True)
class ValidateOptions(ExecutorOptions):
    """Options of :func:`validate`."""

    executor: str = keyword(
        "What runs the steps: threads | processes | torchrun | cuda.", default="processes", metavar="E", panel=RUN
    )
    repeats: int | None = keyword(
        "Measured steps per cell. Default: 5 quick, 9 full.", default=None, metavar="N", least=1, panel=RUN
    )
    quick: bool = keyword("Under five minutes on two cores: fewer models, cells and repeats.", default=False)
    cells: str | None = keyword(
        "Only these, by name; comma-separated, * for anything: 'mlp/*,*/bp:gpipe'.", default=None, metavar="LIST"
    )
    units: int | None = keyword(
        "Units that every step runs on. Default: 2.", default=None, metavar="N", short="n", least=1
    )
    check_gradients: bool = keyword("Compare every cell's gradients with those of the reference order.", default=False)
    list: bool = keyword("Name the cells and measure nothing.", default=False)
    record: Path | None = keyword(
        "Folder of one small file per cell, to be replayed. Default: traces in the folder of the journal.",
        default=None,
        metavar="DIR",
        parse=lambda text, _: Path(text),
    )
    out: Path | None = keyword(
        "Folder of the journal, tables and picture; the same call with the same folder goes on where it stopped. "
        "Default: out/validation-quick or -full.",
        default=None,
        metavar="DIR",
        parse=lambda text, _: Path(text),
    )


@verb(ValidateOptions)
def validate(*, asked: ValidateOptions) -> ValidateResult:
    """Predict a grid of training steps, run them for real, and score the predictions.

    Per model: costs are measured on other steps, all predictions are written down, then the steps run in turn. The
    journal holds every prediction and every measured step as it is made: interrupt it, and the same call goes on.

    Raises:
        OptionError: a cell that does not exist, or an executor that this host cannot run.
        AlrsimError: a cell cannot be built or run; what was done before is in the journal.
    """
    grid = with_units(GRIDS["quick" if asked.quick else "full"], asked.units)
    grid = grid if asked.repeats is None else replace(grid, repeats=asked.repeats)
    chosen = pick_cells(grid, asked.cells)
    running = running_of(asked, grid.repeats)
    folder = asked.out or Path("out") / f"validation-{grid.name}"
    if asked.list:
        header = Header(grid.name, grid.repeats, grid.warmup, find_host_facts(running.executor, asked.seed))
        return score(Journal(None, header), chosen)
    join_ranks(running, chosen[0].units)
    journal = _measure(grid, chosen, running, folder, check_gradients=asked.check_gradients)
    result = score(journal, chosen)
    if _writes():
        record = asked.record or folder / "traces"
        make_folder(record)
        for run in recorded_runs(journal, chosen):
            write_atomically(record / trace_name(run), trace_bytes(run))
        result.save(folder)
    if result.host_busy:
        warn(result.host_verdict)
    return result


def _writes() -> bool:
    """Whether this process writes: of the ranks that torchrun started, the first one."""
    place = rank_place()
    return place is None or place.rank == 0


def _measure(grid: Grid, cells: tuple[Cell, ...], running: Running, folder: Path, *, check_gradients: bool) -> Journal:
    """Do what is left to do; a failure says how to go on."""
    header = Header(grid.name, grid.repeats, grid.warmup, find_host_facts(running.executor, running.seed))
    journal = open_journal(folder if _writes() else None, header)
    plan = Plan(grid, cells, running.executor, running.limits, running.seed, check_gradients)
    try:
        run_validation(plan, journal)
    except KeyboardInterrupt:
        left, every = journal.left(cells), len(cells) * grid.repeats
        warn(f"stopped with {left} of {every} steps to measure; the same call goes on")
        raise
    except AlrsimError as error:
        left, every = journal.left(cells), len(cells) * grid.repeats
        error.fix = f"{error.fix}; " * bool(error.fix) + f"{left} of {every} steps are left; the same call goes on"
        raise
    finally:
        journal.close()
    return journal


def find_host_facts(executor: str, seed: int, threads: int = 1) -> Host:
    """This host, with what measures on it."""
    import torch

    from alrsim.execution.measuring.timelines import device_name
    from alrsim.execution.workers.thread_workers import core_count

    kind = "cuda" if executor == "cuda" else "cpu"
    device = torch.cuda.get_device_name() if kind == "cuda" else device_name()
    return Host(kind, device, core_count(), torch.__version__, __version__, find_commit(), executor, threads, seed)


def find_commit() -> str:
    """The commit of the source tree, with ``-dirty`` where files differ; empty for an installed package."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return ""
    try:
        found = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()


def validate_text(result: ValidateResult) -> str:
    """Tables and sentences; where nothing is measured, what would be."""
    if not result.cells:
        count = f"{len(result.planned)} cells, {result.repeats} measured steps each after {result.warmup} to warm up"
        return "\n".join([*result.planned, count])
    found = tables.tables_of(result)
    return "\n".join(
        [
            tables.headline(result),
            to_text(plain_table(*found["cells"])),
            to_text(plain_table(*found["classes"])),
            to_text(plain_table(*found["errors"])),
            tables.order_line(result),
            "\nWorst cells, and which terms of the makespan were off:",
            to_text(plain_table(*found["worst"], left=5)),
            to_text(plain_table(*found["goals"])),
            result.host_verdict,
        ]
    )


def validate_rows(result: ValidateResult) -> list[dict[str, Any]]:
    """One row per cell."""
    keys = ("name", "model", "method", "units", "microbatches", "copies", "predicted_ns", "measured_ns", "error")
    return [{key: getattr(row, key) for key in keys} for row in result.cells]


def draw_validation(result: ValidateResult, axes: Any = None) -> Any:
    """Predicted against measured makespans."""
    axes = axes_or_new(axes)
    measured = [row.measured_ns / 1e6 for row in result.cells]
    axes.scatter(measured, [row.predicted_ns / 1e6 for row in result.cells], s=16)
    axes.plot(measured, measured, color="#999999", linewidth=0.8)
    axes.set(xlabel="measured, ms", ylabel="predicted, ms")
    return axes


def validate_files(result: ValidateResult) -> dict[str, bytes]:
    """Tables as markdown, the errors as a picture, the worst cells as chart and trace."""
    if result.journal is None or not result.cells:
        return {}
    return {
        "validate.md": tables.markdown(result).encode(),
        "scatter.png": draw_scatter(result),
        **worst_files(result),
    }


RENDERER = Parts(validate_text, validate_rows, draw_validation, validate_files)
