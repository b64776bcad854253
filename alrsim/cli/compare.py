"""``alrsim compare``: the main job. Methods side by side on one model and machine, predicted and measured."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from alrsim.cli.common import load_with_warnings, typed_options
from alrsim.cli.measuring import plan_and_measure, require_measurable
from alrsim.cli.model import request
from alrsim.cli.options import (
    Baseline,
    Batch,
    Bind,
    Chunks,
    Copies,
    Cost,
    Cut,
    Engine,
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
    Overlap,
    PlanPath,
    PrecisionText,
    Reduce,
    Repeats,
    Scope,
    Search,
    Seed,
    Segments,
    Semantics,
    TimeLimit,
    Units,
    Update,
)
from alrsim.cli.output import check_targets, progress, publish, say, show
from alrsim.cli.parse import DEFAULT_METHODS, parse_methods, require_positive
from alrsim.cli.pipeline import Planned, find_machine, refuse_unread, settings_from
from alrsim.cli.planning import Setup, plan_all
from alrsim.cli.ranks import writes
from alrsim.cli.results import compare_result, cost_model_note, report_files
from alrsim.cli.running import Running, check_running, keeping_partial
from alrsim.errors import OptionError
from alrsim.reports.result import CompareResult, compare_document, verdict
from alrsim.reports.tables import compare_table, headline
from alrsim.timeline.timeline import Timeline


def run(
    context: typer.Context,
    model: ModelArgument,
    hardware: Hardware = "cpu-2core",
    units: Units = None,
    microbatches: Microbatches = 4,
    copies: Copies = 1,
    precision: PrecisionText = None,
    methods: Annotated[
        str, typer.Option("--methods", metavar="LIST", help="Methods, comma-separated; the first is the base.")
    ] = DEFAULT_METHODS,
    measure: Annotated[
        bool, typer.Option("--measure", help="Run every schedule on this host too; predict from calibrated costs.")
    ] = False,
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
    cost: Cost = "auto",
    semantics: Semantics = "link",
    engine: Engine = "auto",
    overlap: Overlap = "1",
    executor: ExecutorName = "threads",
    limit: Limit = None,
    repeats: Repeats = 5,
    seed: Seed = 0,
    json: JsonTarget = None,
    out: OutFolder = None,
) -> None:
    """Compare methods on a model and a machine: time, every named bubble, memory; with --measure also for real."""
    check_targets(json, out)
    running = running_of(typed_options(context), executor, limit, measure=measure)
    settings = settings_from(context.params, typed_options(context))
    chosen = parse_methods(methods)
    refuse_unread(settings, chosen)
    require_positive({"--repeats": repeats})
    profile, machine = find_machine(hardware, units)
    asked = request(model, option, bind, batch, microbatches)
    if measure:
        require_measurable(profile, asked.source)
    running.take_place(len(machine.units))
    loaded = load_with_warnings(asked)
    setup = Setup(loaded, settings, profile, machine)
    measured: list[Timeline | None] = [None] * len(chosen)
    if measure:
        with keeping_partial(None, out):
            planned, measured = plan_and_measure(setup, chosen, repeats=repeats, seed=seed, running=running)
    else:
        planned = plan_all(setup, chosen)
    if writes():
        finish(setup, planned, measured, json, out)


def running_of(typed: Collection[str], executor: str, limit: float | None, *, measure: bool) -> Running:
    """How to measure; options about it are refused where nothing is measured.

    Raises:
        OptionError: as :func:`alrsim.cli.running.check_running`.
    """
    if measure:
        return check_running(executor, limit)
    unread = next((name for name in ("executor", "limit") if name in typed), None)
    if unread is not None:
        raise OptionError("says how schedules are measured", where=f"--{unread}", fix="add --measure, or leave it out")
    return Running()


def finish(
    setup: Setup,
    planned: Sequence[Planned],
    measured: Sequence[Timeline | None],
    json: str | None,
    out: Path | None,
) -> None:
    """Draw, write and print a comparison; everything is computed before the first file is written."""
    warnings = setup.loaded.graph.warnings
    result = compare_result(setup.loaded.name, setup.profile.name, planned, measured, warnings=warnings)
    files = {}
    if out is not None:
        with progress(1, "draw") as step:
            step(str(out))
            files = report_files(result, planned, measured)
    publish(compare_document(result), json_target=json, out=out, files=files, text=lambda: tell(result, out, files))


def tell(result: CompareResult, out: Path | None, files: Mapping[str, bytes]) -> None:
    """Print the comparison for people."""
    say(headline(result))
    show(compare_table(result))
    say(cost_model_note(result) + ".")
    if executor := next((one.measured.executor for one in result.methods if one.measured), ""):
        say(f"measured by executor {executor}.")
    say(verdict(result))
    for method in result.methods:
        for shortage in method.shortages:
            say(f"{method.method} does not fit: {shortage}; try more units, more micro-batches or --precision")
        for note in method.notes:
            say(f"{method.method}: {note}")
        for flag in method.measured.flags if method.measured else ():
            say(f"{method.method}, measured: {flag}")
    for name in files:
        say(f"wrote {out}/{name}")
