"""``alrsim simulate``: carry out a schedule in simulated time, against a model or a table of durations."""

from pathlib import Path
from typing import Annotated

import typer

from alrsim.cli.common import typed_options
from alrsim.cli.options import (
    Baseline,
    Batch,
    Bind,
    Chunks,
    Copies,
    Cost,
    Cut,
    Engine,
    FirstInputGradient,
    Group,
    Hardware,
    Inject,
    InputCode,
    JsonTarget,
    Loss,
    ModelOptions,
    Noise,
    NoiseCode,
    Optimizer,
    OutFolder,
    OutputFile,
    Overlap,
    PlanPath,
    PrecisionText,
    Reduce,
    Repair,
    Scope,
    Search,
    Segments,
    Semantics,
    Signs,
    TimeLimit,
    Units,
    Update,
)
from alrsim.cli.output import check_targets, publish
from alrsim.cli.pipeline import settings_from
from alrsim.cli.simulating import (
    Asked,
    refuse_model_options,
    simulate_durations,
    simulate_model,
    simulation_document,
    simulation_files,
    sort_arguments,
    tell,
)


def run(
    context: typer.Context,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SCHEDULE] [MODEL]",
            help="A schedule file (.json of alrsim, .csv of PyTorch) and/or a model; see `alrsim compare --help`.",
        ),
    ] = None,
    schedule: Annotated[
        Path | None, typer.Option("--schedule", metavar="FILE", help="The schedule file, if not given as argument.")
    ] = None,
    method: Annotated[
        str | None, typer.Option("--method", metavar="RULE:SCHEDULER", help="Instead of a file, such as bp:1f1b.")
    ] = None,
    durations: Annotated[
        str | None,
        typer.Option(
            "--durations",
            metavar="TABLE",
            help="Instead of a model: f=2,b=3,w=1,u=0,l=0,g=1,c=0,transfer=0.25 per stage; a full backward is b+w.",
        ),
    ] = None,
    stages: Annotated[
        int | None, typer.Option("--stages", metavar="N", help="With --durations and --method. Default: one per unit.")
    ] = None,
    loss_unit: Annotated[
        int | None, typer.Option("--loss-unit", metavar="N", help="With --durations: the loss has this unit.")
    ] = None,
    units: Units = None,
    microbatches: Annotated[
        int | None,
        typer.Option("--microbatches", "-m", metavar="M", help="Default: what the schedule file has, else 4."),
    ] = None,
    repair: Repair = False,
    signs: Signs = False,
    hardware: Hardware = "cpu-2core",
    cost: Cost = "auto",
    semantics: Semantics = "link",
    engine: Engine = "auto",
    overlap: Overlap = "1",
    copies: Copies = 1,
    precision: PrecisionText = None,
    batch: Batch = None,
    option: ModelOptions = None,
    bind: Bind = None,
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
    json: JsonTarget = None,
    out: OutFolder = None,
    output: OutputFile = None,
) -> None:
    """Simulate a schedule file or a method. -o FILE saves the timeline, --out DIR draws it."""
    check_targets(json, out, output)
    model, file = sort_arguments(arguments or [], schedule)
    given = {**context.params, "microbatches": 4 if microbatches is None else microbatches}
    asked = Asked(model, file, method, microbatches, units, stages, batch, option, bind, hardware, repair, loss_unit)
    typed = typed_options(context)
    settings = settings_from(given, typed)
    if durations is not None:
        refuse_model_options(typed)
    done = simulate_model(asked, settings) if durations is None else simulate_durations(asked, settings, durations)
    files = simulation_files(done) if out is not None else {}
    document = simulation_document(done)
    if output is not None:
        from alrsim.files import save_value

        save_value("timeline", done.timeline, output)
    publish(document, json_target=json, out=out, files=files, text=lambda: tell(done, out, files, output))
