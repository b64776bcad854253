"""``validate``: predict a grid of training steps, measure them, and say how far the predictions were off."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

from alrsim.errors import AlrsimError
from alrsim.execution.workers.ranks import rank_place
from alrsim.steps.measuring import Running, join_ranks, running_of
from alrsim.validation.cells import GRIDS, Cell, Grid, pick_cells, with_units
from alrsim.validation.journal import Header, Journal, open_journal
from alrsim.validation.options import ValidateOptions
from alrsim.validation.records import Host
from alrsim.validation.result import ValidateResult
from alrsim.validation.run import Plan, run_validation
from alrsim.validation.score import score
from alrsim.validation.trace import recorded_runs, trace_bytes, trace_name
from alrsim.version import __version__
from alrsim.warning import warn
from alrsim.writing import make_folder, write_atomically


def validated(asked: ValidateOptions) -> ValidateResult:
    """What :func:`alrsim.validate` does."""
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
