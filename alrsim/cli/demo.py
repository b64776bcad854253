"""``alrsim demo``: the main job in one command, with nothing to choose."""

from pathlib import Path
from typing import Annotated

import typer

from alrsim.cli.common import load_with_warnings
from alrsim.cli.compare import finish
from alrsim.cli.measuring import plan_and_measure
from alrsim.cli.model import request
from alrsim.cli.options import JsonTarget, Repeats, Seed
from alrsim.cli.output import check_targets, tell_progress
from alrsim.cli.parse import parse_methods, require_positive
from alrsim.cli.pipeline import Settings, find_machine
from alrsim.cli.planning import Setup

MODEL, HARDWARE, UNITS = "resnet5", "cpu-2core", 2
BATCH, MICROBATCHES, COPIES = 128, 4, 1
METHODS = "bp:gpipe,bp:1f1b,lr:lr-fixed,alr:lr-fixed,alr:lr-free"


def run(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for pictures, trace and result.")] = Path(
        "out"
    ),
    repeats: Repeats = 7,
    seed: Seed = 0,
    json: JsonTarget = None,
) -> None:
    """ResNet-5 on handwritten digits, 2 units: calibrate this host, predict BP, LR and ALR, run them, compare."""
    check_targets(json, out)
    require_positive({"--repeats": repeats})
    settings = Settings(microbatches=MICROBATCHES, copies=COPIES)
    profile, machine = find_machine(HARDWARE, UNITS)
    tell_progress(f"{MODEL} on scikit-learn's digits, {UNITS} worker threads: export, calibrate, predict, run ...")
    loaded = load_with_warnings(request(MODEL, None, None, BATCH, MICROBATCHES))
    setup = Setup(loaded, settings, profile, machine)
    planned, measured = plan_and_measure(setup, parse_methods(METHODS), repeats=repeats, seed=seed)
    finish(setup, planned, measured, json, out)
