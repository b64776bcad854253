"""``alrsim execute``: run a schedule for real on this host."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from alrsim.cli.common import load_with_warnings, typed_options
from alrsim.cli.fitting import ScheduleFile, batch_of, open_schedule, refuse_plan_beside
from alrsim.cli.measuring import execute_file, execute_method, open_bench, require_measurable
from alrsim.cli.model import request
from alrsim.cli.options import (
    Baseline,
    Batch,
    Chunks,
    Copies,
    Cut,
    ExecutorName,
    FirstInputGradient,
    Group,
    Hardware,
    Inject,
    InputCode,
    JsonTarget,
    Limit,
    Loss,
    Microbatches,
    ModelArgument,
    ModelOptions,
    Noise,
    NoiseCode,
    Optimizer,
    OutFolder,
    OutputFile,
    PlanPath,
    PrecisionText,
    Reduce,
    Repair,
    Repeats,
    Scope,
    Search,
    Seed,
    Segments,
    Signs,
    TimeLimit,
    Units,
    Update,
)
from alrsim.cli.output import check_targets, publish
from alrsim.cli.parse import parse_method, require_positive
from alrsim.cli.pipeline import Settings, find_machine, refuse_unread, settings_from
from alrsim.cli.planning import Setup
from alrsim.cli.ranks import writes
from alrsim.cli.running import check_running, keeping_partial
from alrsim.cli.simulating import Simulated, simulation_document, simulation_files, tell
from alrsim.errors import OptionError


def run(
    context: typer.Context,
    model: ModelArgument,
    schedule: Annotated[
        Path | None,
        typer.Option("--schedule", metavar="FILE", help="A file of `alrsim schedule -o`, or PyTorch's CSV."),
    ] = None,
    method: Annotated[
        str | None, typer.Option("--method", metavar="RULE:SCHEDULER", help="Instead of a file, such as bp:1f1b.")
    ] = None,
    signs: Signs = False,
    repair: Repair = False,
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
    noise: Noise = None,
    input_code: InputCode = None,
    noise_code: NoiseCode = None,
    plan: PlanPath = None,
    inject: Inject = "pre",
    optimizer: Optimizer = "sgd",
    update: Update = True,
    loss: Loss = True,
    segments: Segments = None,
    first_input_gradient: FirstInputGradient = False,
    time_limit: TimeLimit = None,
    search: Search = None,
    executor: ExecutorName = "threads",
    limit: Limit = None,
    repeats: Repeats = 5,
    seed: Seed = 0,
    json: JsonTarget = None,
    out: OutFolder = None,
    output: OutputFile = None,
) -> None:
    """Run a schedule on this host, one worker per unit; the timeline is that of the median repeat."""
    check_targets(json, out, output)
    require_positive({"--repeats": repeats})
    if (schedule is None) == (method is None):
        raise OptionError("needs --schedule FILE or --method, one of the two", where="execute", fix="--method bp:1f1b")
    running = check_running(executor, limit)
    settings = settings_from(context.params, typed_options(context))
    chosen = None if method is None else parse_method(method)
    if chosen is not None:
        refuse_unread(settings, [chosen])
    refuse_plan_beside(schedule, settings)
    profile, machine = find_machine(hardware, units)
    file = None if schedule is None else open_for(schedule, settings, repair)
    if file is not None:
        settings = replace(settings, microbatches=file.outline.microbatches)
    asked = request(model, option, None, batch, settings.microbatches)
    require_measurable(profile, asked.source)
    if file is not None:
        asked = replace(asked, batch=batch_of(file, batch, torch_model=True))
    running.take_place(len(machine.units))
    bench = open_bench(Setup(load_with_warnings(asked), settings, profile, machine), seed, running)
    with keeping_partial(output, out):
        if chosen is not None:
            done = execute_method(bench, chosen, repeats)
        else:
            assert file is not None
            done = execute_file(bench, file, repeats)
    if writes():
        publish_run(done, json, out, output)


def open_for(path: Path, settings: Settings, repair: bool) -> ScheduleFile:
    """The schedule file, if what was typed beside it agrees.

    Raises:
        OptionError: another number of micro-batches.
    """
    file = open_schedule(path, repair=repair)
    has = file.outline.microbatches
    if "microbatches" in settings.typed and settings.microbatches != has:
        raise OptionError(
            f"is {settings.microbatches}, but {path} has {has}", where="--microbatches", fix=f"--microbatches {has}"
        )
    return file


def publish_run(done: Simulated, json: str | None, out: Path | None, output: Path | None) -> None:
    """Write and print a measured run."""
    document: dict[str, Any] = simulation_document(done)
    files = simulation_files(done) if out is not None else {}
    if output is not None:
        from alrsim.files import save_value

        save_value("timeline", done.timeline, output)
    publish(document, json_target=json, out=out, files=files, text=lambda: tell(done, out, files, output))
