"""``alrsim schedule``: place and order the tasks of a model's step, as a file for later verbs."""

from functools import partial
from pathlib import Path
from typing import Any

import typer

from alrsim.cli.common import load_with_warnings, typed_options
from alrsim.cli.model import LoadedModel, request
from alrsim.cli.options import (
    Baseline,
    Batch,
    Bind,
    Chunks,
    Copies,
    Cost,
    Cut,
    FirstInputGradient,
    Group,
    Hardware,
    Inject,
    InputCode,
    JsonTarget,
    Loss,
    Method,
    Microbatches,
    ModelArgument,
    ModelOptions,
    Noise,
    NoiseCode,
    Optimizer,
    OutputFile,
    PlanPath,
    PrecisionText,
    Reduce,
    Scope,
    Search,
    Segments,
    TimeLimit,
    Units,
    Update,
)
from alrsim.cli.output import check_targets, publish, say
from alrsim.cli.parse import parse_method
from alrsim.cli.pipeline import Planned, find_machine, refuse_unread, settings_from
from alrsim.cli.planning import Setup, plan_all
from alrsim.errors import OptionError
from alrsim.reports.bound import bound_document, bound_line
from alrsim.reports.tables import format_time
from alrsim.schedule.proof import Gap
from alrsim.schedule.recipe import Recipe
from alrsim.timeline.terms import terms_line


def run(
    context: typer.Context,
    model: ModelArgument,
    method: Method = "bp:1f1b",
    hardware: Hardware = "cpu-2core",
    units: Units = None,
    microbatches: Microbatches = 4,
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
    cost: Cost = "auto",
    time_limit: TimeLimit = None,
    search: Search = None,
    output: OutputFile = None,
    json: JsonTarget = None,
) -> None:
    """Place and order the tasks. -o FILE.json is alrsim's own form, -o FILE.csv PyTorch's."""
    check_targets(json, file=output)
    chosen = parse_method(method)
    settings = settings_from(context.params, typed_options(context))
    refuse_unread(settings, [chosen])
    profile, machine = find_machine(hardware, units)
    loaded = load_with_warnings(request(model, option, bind, batch, microbatches))
    (planned,) = plan_all(Setup(loaded, settings, profile, machine), [chosen])
    order, found, terms = planned.schedule, planned.gap, planned.timeline.facts.terms_ns
    if output is not None:
        _write(planned, recipe_of(planned, loaded), output)
    document: dict[str, Any] = {
        "model": loaded.name,
        "hardware": profile.name,
        "method": chosen.label,
        "rule": planned.problem.tasks.rule,
        "stages": len(planned.stages.stages),
        "microbatches": settings.microbatches,
        "tasks": len(planned.problem.tasks.tasks),
        "digest": order.digest,
        "makespan_ns": planned.timeline.makespan,
        "bound": None if found is None else bound_document(found),
        "terms_ns": None if terms is None else terms.named,
        "schedule": order.as_dict(),
    }
    publish(document, json_target=json, text=lambda: tell(document, output, planned, found))


def recipe_of(planned: Planned, loaded: LoadedModel) -> Recipe:
    """What the schedule was made for, so that later verbs build the same tasks without being told again."""
    cut = tuple(stage.ops for stage in planned.stages.stages)
    return Recipe(loaded.name, loaded.samples, planned.method.rule, planned.options, cut)


def _write(planned: Planned, recipe: Recipe, output: Path) -> None:
    from alrsim.schedule.files import write_schedule
    from alrsim.schedule.pytorch_csv import write_pytorch_csv

    if output.suffix == ".csv":
        write_pytorch_csv(output, planned.schedule)
    elif output.suffix == ".json":
        write_schedule(output, planned.schedule, recipe)
    else:
        raise OptionError(f"{output.name!r} ends neither in .json nor in .csv", where="--output")


def tell(document: dict[str, Any], output: Path | None, planned: Planned, found: Gap | None) -> None:
    """The lanes and the bound, for people."""
    model = planned.problem.cost_model
    say(f"{document['method']} for {document['model']}: {document['stages']} stages, {document['tasks']} tasks")
    for unit, lane in document["schedule"].items():
        say(f"{unit}: {lane}")
    time = partial(format_time, cost_model=model)
    bound = "" if found is None else "; " + bound_line(found, time)
    say(f"makespan {time(planned.timeline.makespan)}{bound}")
    if (terms := planned.timeline.facts.terms_ns) is not None:
        say(terms_line(terms))
    if output is not None:
        say(f"wrote {output}")
