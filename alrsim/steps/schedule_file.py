"""A schedule file beside a model: the tasks that it was made for, its stages, and the lanes fitted to them."""

from dataclasses import dataclass, replace
from pathlib import Path

from alrsim.errors import FileError, ModelError, OptionError
from alrsim.graph.graph import Graph
from alrsim.graph.stages import StageGraph
from alrsim.hardware.machine import Machine
from alrsim.rules import RULES
from alrsim.rules.options import RuleOptions
from alrsim.rules.policy import refuse_lost_noise
from alrsim.schedule.adapt import Fitted
from alrsim.schedule.recipe import Recipe
from alrsim.schedule.schedule import Lane, Schedule
from alrsim.steps.chain import ESTIMATOR_FIELDS, cut_for, rule_options
from alrsim.steps.method import Method, preset_of
from alrsim.steps.model import cut_stages
from alrsim.steps.options import StepOptions, parse_precision
from alrsim.steps.textbook import Outline, outline

FIXED = (
    "copies",
    "group",
    "baseline",
    "scope",
    "reduce",
    "noise",
    "input_code",
    "noise_code",
    "update",
    "loss",
    "segments",
    "first_input_gradient",
)
"""Options that decide which tasks there are, so that a file which says what it was made with cannot take others."""


@dataclass(frozen=True)
class ScheduleFile:
    """A schedule file, read once.

    Attributes:
        recipe: What it was made for, if it says so.
        outline: What its tokens tell.
        repair: The known fault of PyTorch's own 1F1B rows was corrected.
        signs: Of rule lr: codes of input and noise are signs, which tokens do not tell.
    """

    path: Path
    schedule: Schedule
    outline: Outline
    recipe: Recipe | None
    repair: bool = False
    signs: bool = False


def open_schedule(path: Path, *, repair: bool = False, signs: bool = False) -> ScheduleFile:
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
    recipe = read_recipe(path)
    if recipe is not None and recipe.rule not in RULES:
        known = f"it is one of {', '.join(RULES)}; make the schedule again"
        raise FileError(f"rule: {recipe.rule!r} is no rule", where=f"{path}, recipe", fix=known)
    return ScheduleFile(path, schedule, outline(schedule), recipe, repair, signs)


def refuse_estimators_beside(path: Path, asked: StepOptions) -> None:
    """A schedule file was made for its own estimators.

    Raises:
        OptionError: others beside it.
    """
    if asked.estimators is not None:
        raise OptionError(
            f"{path} was made for its own estimators", field="estimators", fix="give them where the schedule is made"
        )


def batch_of(file: ScheduleFile, given: int | None, *, torch_model: bool) -> int | None:
    """The batch to load the model at: as given, else as the schedule was made for."""
    if given is None and file.recipe is not None and torch_model:
        return file.recipe.samples * file.outline.microbatches
    return given


def agree(file: ScheduleFile, asked: StepOptions, *, stages: int | None = None) -> None:
    """Numbers that are given beside a file must be the file's.

    Raises:
        OptionError: the first that is not.
    """
    found = file.outline
    given = asked.microbatches if "microbatches" in asked.given else None
    for name, number, has in (("microbatches", given, found.microbatches), ("stages", stages, found.stages)):
        if number is not None and number != has:
            raise OptionError(f"is {number}, but {file.path} has {has}", field=name, fix="leave it out")
    if asked.units is not None and asked.units < len(found.units):
        raise OptionError(f"is {asked.units}, but {file.path} has {len(found.units)} lanes", field="units")


def options_of_file(file: ScheduleFile, asked: StepOptions, machine: Machine | None = None) -> RuleOptions:
    """The options of the file's tasks: its recipe's, or what its tokens and the given options tell.

    Raises:
        OptionError: an option that the recipe contradicts.
    """
    found, recipe = file.outline, file.recipe
    asked = asked.with_(microbatches=found.microbatches)
    if recipe is None:
        given = rule_options(asked, method_of_file(file), machine=machine)
        read = found.options(given, baseline_typed="baseline" in asked.given)
        if file.path.suffix != ".csv":
            return read
        # PyTorch's rows have no losses, so those of the model stay (they are filled in).
        return replace(read, loss=given.loss, update=given.update, first_input_gradient=True)
    said = {name: getattr(asked, name) for name in FIXED if name in asked.given}
    if file.signs and not recipe.options.signs:
        raise OptionError(f"{file.path} was made without", field="signs", fix="make the schedule again")
    for name, value in said.items():
        has = getattr(recipe.options, ESTIMATOR_FIELDS.get(name, name))
        if value != has:
            raise OptionError(
                f"is {value}, but {file.path} was made with {has}",
                field=name,
                fix="leave it out, or make the schedule again",
            )
    precision = parse_precision(asked.precision, default=recipe.options.precision)
    options = replace(recipe.options, precision=precision)
    if recipe.rule in ("lr", "segments"):
        refuse_lost_noise(options)
    return options


def stages_of_file(file: ScheduleFile, graph: Graph, asked: StepOptions, machine: Machine) -> StageGraph:
    """The stages that the file's tokens count.

    Raises:
        OptionError: a cut that contradicts the file.
        ModelError: another model than the file was made for.
    """
    found = file.outline
    if file.recipe is not None:
        return _recipe_stages(file.path, file.recipe, graph, asked)
    if asked.cut is None and found.rule != "lr":
        asked = asked.with_(cut=f"balanced:{found.stages}")
    stages = cut_for(graph, method_of_file(file), asked, machine)
    if len(stages.stages) != found.stages:
        spec = asked.cut or "layer"
        raise OptionError(
            f"{file.path} has {found.stages} stages, but cut {spec} makes {len(stages.stages)} of {graph.name}",
            field="cut",
            fixes=[("cut", f"balanced:{found.stages}")],
        )
    return stages


def _recipe_stages(path: Path, recipe: Recipe, graph: Graph, asked: StepOptions) -> StageGraph:
    if {op.name for op in graph.ops} != {name for names in recipe.cut for name in names}:
        raise ModelError(
            f"{path} was made for {recipe.model}, whose operators are not those of {graph.name}",
            field="model",
            fix="give the model (and its `option`) that the schedule was made for",
        )
    stages = cut_stages(graph, recipe.cut)
    if asked.cut is not None and cut_stages(graph, asked.cut).stages != stages.stages:
        raise OptionError(f"{path} brings its own cut", field="cut", fix="leave it out, or make the schedule again")
    return stages


def method_of_file(file: ScheduleFile) -> Method:
    """The method that a file's tasks are of."""
    rule = file.outline.rule if file.recipe is None else file.recipe.rule
    if rule != "lr":
        return Method(file.path.name, rule, "file", preset_of(rule))
    return Method(file.path.name, "lr", "file", "alr" if file.signs else "lr")


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
