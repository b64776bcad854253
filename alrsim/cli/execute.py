"""``alrsim execute``: run a schedule for real on this host."""

from pathlib import Path
from typing import Annotated, Any

import typer

from alrsim.cli.common import load_with_warnings
from alrsim.cli.measuring import execute_file, execute_method, open_bench, require_measurable
from alrsim.cli.model import request
from alrsim.cli.options import (
    Baseline,
    Batch,
    Chunks,
    Copies,
    Cut,
    FirstInputGradient,
    Group,
    Hardware,
    JsonTarget,
    Loss,
    Microbatches,
    ModelArgument,
    ModelOptions,
    Optimizer,
    OutFolder,
    OutputFile,
    PrecisionText,
    Reduce,
    Repeats,
    Scope,
    Seed,
    Segments,
    Signs,
    Units,
    Update,
)
from alrsim.cli.output import check_targets, publish
from alrsim.cli.parse import parse_method, require_positive
from alrsim.cli.pipeline import find_machine, settings_from
from alrsim.cli.planning import Setup
from alrsim.cli.simulating import Simulated, simulation_document, simulation_files, tell
from alrsim.errors import OptionError


def run(
    context: typer.Context,
    model: ModelArgument,
    schedule: Annotated[
        Path | None, typer.Option("--schedule", metavar="FILE", help="A schedule that `alrsim schedule -o` wrote.")
    ] = None,
    method: Annotated[
        str | None, typer.Option("--method", metavar="RULE:SCHEDULER", help="Instead of a file, such as bp:1f1b.")
    ] = None,
    signs: Signs = False,
    hardware: Hardware = "cpu-2core",
    units: Units = None,
    microbatches: Microbatches = 4,
    copies: Copies = 1,
    precision: PrecisionText = None,
    batch: Batch = None,
    option: ModelOptions = None,
    cut: Cut = None,
    chunks: Chunks = None,
    group: Group = None,
    baseline: Baseline = "clean",
    scope: Scope = "joint",
    reduction: Reduce = "stack",
    optimizer: Optimizer = "sgd",
    update: Update = True,
    loss: Loss = True,
    segments: Segments = None,
    first_input_gradient: FirstInputGradient = False,
    repeats: Repeats = 5,
    seed: Seed = 0,
    json: JsonTarget = None,
    out: OutFolder = None,
    output: OutputFile = None,
) -> None:
    """Run a schedule on this host, one worker thread per unit; the timeline is that of the median repeat."""
    check_targets(json, out, output)
    require_positive({"--repeats": repeats})
    if (schedule is None) == (method is None):
        raise OptionError("needs --schedule FILE or --method, one of the two", where="execute", fix="--method bp:1f1b")
    settings = settings_from(context.params)
    chosen = None if method is None else parse_method(method)
    profile, machine = find_machine(hardware, units)
    asked = request(model, option, None, batch, microbatches)
    require_measurable(profile, asked.source)
    bench = open_bench(Setup(load_with_warnings(asked), settings, profile, machine), seed)
    if chosen is not None:
        done = execute_method(bench, chosen, repeats)
    else:
        assert schedule is not None
        done = execute_file(bench, schedule, repeats)
    publish_run(done, json, out, output)


def publish_run(done: Simulated, json: str | None, out: Path | None, output: Path | None) -> None:
    """Write and print a measured run."""
    document: dict[str, Any] = simulation_document(done)
    files = simulation_files(done) if out is not None else {}
    if output is not None:
        from alrsim.files import save_value

        save_value("timeline", done.timeline, output)
    publish(document, json_target=json, out=out, files=files, text=lambda: tell(done, out, files, output))
