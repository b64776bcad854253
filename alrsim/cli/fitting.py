"""A schedule file beside a model: the tasks that it was made for, its stages, and the lanes fitted to them."""

from dataclasses import dataclass, replace
from pathlib import Path

from alrsim.cli.parse import MethodName, estimator_of, parse_precision
from alrsim.cli.pipeline import Settings, cut_for, cut_stages, rule_options
from alrsim.cli.planning import Setup
from alrsim.cli.pricing import Priced, price_tasks
from alrsim.cli.textbook import Outline, outline
from alrsim.errors import FileError, ModelError, OptionError
from alrsim.graph.graph import Graph
from alrsim.graph.stages import StageGraph
from alrsim.rules import RULES
from alrsim.rules.options import RuleOptions
from alrsim.rules.policy import refuse_lost_noise
from alrsim.schedule.adapt import Fitted
from alrsim.schedule.recipe import Recipe
from alrsim.schedule.schedule import Lane, Schedule

FIXED = {
    "copies": "--copies",
    "group": "--group",
    "baseline": "--baseline",
    "scope": "--scope",
    "reduction": "--reduce",
    "noise": "--noise",
    "input_code": "--input-code",
    "noise_code": "--noise-code",
    "update": "--no-update",
    "loss": "--no-loss",
    "segments": "--segments",
    "first_input_gradient": "--first-input-gradient",
    "signs": "--signs",
}
"""Options that decide which tasks there are, so that a file which says what it was made with cannot take others."""


@dataclass(frozen=True)
class ScheduleFile:
    """A schedule file, read once.

    Attributes:
        recipe: What it was made for, if it says so.
        outline: What its tokens tell.
    """

    path: Path
    schedule: Schedule
    outline: Outline
    recipe: Recipe | None
    repair: bool = False


@dataclass(frozen=True)
class FileFit:
    """A schedule file on a model."""

    fitted: Fitted
    stages: StageGraph
    options: RuleOptions
    priced: Priced


def open_schedule(path: Path, *, repair: bool = False) -> ScheduleFile:
    """Read a file of any form, before there is a problem to fit it to.

    Raises:
        FileError: empty, or none of the forms.
        ScheduleError: a token that is none.
    """
    from alrsim.files import read_text
    from alrsim.schedule.files import is_json, parse_json, read_recipe
    from alrsim.schedule.pytorch_csv import parse_pytorch_csv

    text, where = read_text(path), str(path)
    if not text.strip():
        raise FileError("is empty", where=where, fix="give a schedule: JSON of alrsim or CSV of PyTorch")
    if is_json(text, path):
        schedule = parse_json(text, name=path.stem, where=where)
    else:
        schedule = parse_pytorch_csv(text, name=path.stem, where=where, repair=repair).schedule
    names = [lane.unit for lane in schedule.lanes]
    if len(set(names)) < len(names):
        raise FileError(f"has two lanes of one unit: {', '.join(names)}", where=where, fix="give each unit one lane")
    return ScheduleFile(path, schedule, outline(schedule), read_recipe(path), repair)


def refuse_plan_beside(path: Path | None, settings: Settings) -> None:
    """A schedule file was made for its own estimators.

    Raises:
        OptionError: a plan file beside it.
    """
    if path is not None and settings.plan is not None:
        raise OptionError(
            f"{path} was made for its own estimators", where="--plan", fix="give --plan to `alrsim schedule` instead"
        )


def batch_of(file: ScheduleFile, typed: int | None, *, torch_model: bool) -> int | None:
    """The batch to load the model at: as typed, else as the schedule was made for."""
    if typed is None and file.recipe is not None and torch_model:
        return file.recipe.samples * file.outline.microbatches
    return typed


def fit_file(file: ScheduleFile, setup: Setup) -> FileFit:
    """The problem that a schedule file solves on a model, and its lanes fitted to it.

    Raises:
        OptionError: typed options, or a cut, that contradict the file.
        ModelError: another model than the file was made for.
        ScheduleError: the schedule does not fit.
    """
    from alrsim.schedule.files import read_schedule

    settings = replace(setup.settings, microbatches=file.outline.microbatches)
    rule = file.outline.rule if file.recipe is None else file.recipe.rule
    options = options_of(file, settings)
    stages = _stages(file, setup, settings)
    tasks = RULES[rule](stages, options)
    priced = price_tasks(
        tasks, setup.machine, setup.profile, stages=stages, rule=rule, options=options, cost=settings.cost
    )
    fitted = read_schedule(file.path, priced.problem, repair=file.repair)
    return FileFit(with_idle_lanes(fitted), stages, options, priced)


def options_of(file: ScheduleFile, settings: Settings) -> RuleOptions:
    """The options of the file's tasks: its recipe's, or what its tokens and the typed options tell.

    Raises:
        OptionError: a typed option that the recipe contradicts.
    """
    found, recipe = file.outline, file.recipe
    if recipe is None:
        typed = rule_options(settings, _method_of(found, settings))
        read = found.options(typed, baseline_typed="baseline" in settings.typed)
        if file.path.suffix != ".csv":
            return read
        # PyTorch's rows have no losses, so those of the model stay (they are filled in).
        return replace(read, loss=typed.loss, update=typed.update, first_input_gradient=True)
    for field, option in FIXED.items():
        has = getattr(recipe.options, field)
        if field in settings.typed and getattr(settings, field) != has:
            raise OptionError(
                f"is {getattr(settings, field)}, but {file.path} was made with {has}",
                where=option,
                fix="leave it out, or make the schedule again",
            )
    precision = parse_precision(settings.precision, default=recipe.options.precision)
    options = replace(recipe.options, precision=precision)
    if recipe.rule in ("lr", "segments"):
        refuse_lost_noise(options)
    return options


def _stages(file: ScheduleFile, setup: Setup, settings: Settings) -> StageGraph:
    graph, found = setup.loaded.graph, file.outline
    if file.recipe is not None:
        return _recipe_stages(file.path, file.recipe, graph, settings)
    if settings.cut is None and found.rule != "lr":
        settings = replace(settings, cut=f"balanced:{found.stages}")
    stages = cut_for(graph, _method_of(found, settings), settings, setup.profile, setup.machine)
    if len(stages.stages) != found.stages:
        spec = settings.cut or "layer"
        raise OptionError(
            f"{file.path} has {found.stages} stages, but cut {spec} makes {len(stages.stages)} of {graph.name}",
            where="--cut",
            fix=f"--cut balanced:{found.stages}",
        )
    return stages


def _recipe_stages(path: Path, recipe: Recipe, graph: Graph, settings: Settings) -> StageGraph:
    from alrsim.cost.stages import build_stages

    if {op.name for op in graph.ops} != {name for names in recipe.cut for name in names}:
        raise ModelError(
            f"{path} was made for {recipe.model}, whose operators are not those of {graph.name}",
            where="MODEL",
            fix="give the model (and its --option) that the schedule was made for",
        )
    stages = build_stages(graph, recipe.cut)
    if settings.cut is not None and cut_stages(graph, settings.cut).stages != stages.stages:
        raise OptionError(f"{path} brings its own cut", where="--cut", fix="leave it out, or make the schedule again")
    return stages


def _method_of(found: Outline, settings: Settings) -> MethodName:
    if found.rule != "lr":
        return MethodName("file", found.rule, "file", estimator_of(found.rule))
    return MethodName("file", "lr", "file", "alr" if settings.signs else "lr")


def with_idle_lanes(fitted: Fitted) -> Fitted:
    """Units beyond the file's lanes stay idle, and the user is told."""
    schedule = fitted.schedule
    have = {lane.unit for lane in schedule.lanes}
    names = [unit.name for unit in fitted.problem.machine.units]
    if not have < set(names):
        return fitted
    idle = [name for name in names if name not in have]
    order = {name: rank for rank, name in enumerate(names)}
    lanes = (*schedule.lanes, *(Lane(name, ()) for name in idle))
    padded = replace(schedule, lanes=tuple(sorted(lanes, key=lambda lane: order[lane.unit])))
    note = f"the schedule has no lane for {', '.join(idle)}: idle all the time, and counted as idle"
    return replace(fitted, schedule=padded, notes=(*fitted.notes, note))
