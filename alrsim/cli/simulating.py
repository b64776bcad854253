"""The two ways to a simulation: a model with a profile, or a table of durations; with a schedule file or a method."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alrsim.cli.common import load_with_warnings
from alrsim.cli.fitting import batch_of, fit_file, open_schedule, options_of, refuse_plan_beside, with_idle_lanes
from alrsim.cli.model import request
from alrsim.cli.output import progress, say, show, warn
from alrsim.cli.parse import MethodName, parse_durations, parse_method, require_positive
from alrsim.cli.pipeline import (
    Settings,
    build_schedule,
    find_machine,
    predict,
    refuse_unread,
    rule_options,
    with_semantics,
)
from alrsim.cli.planning import Setup, plan_all
from alrsim.cli.textbook import Outline, file_problem, method_options, outline_of_method, unit_names
from alrsim.errors import OptionError
from alrsim.hardware.machine import require_unit_count
from alrsim.schedule.adapt import Fitted
from alrsim.schedule.proof import Gap, Proof, gap
from alrsim.schedule.schedule import Schedule
from alrsim.tasks.problem import Problem
from alrsim.timeline.memory import peak_memory, resident_peaks
from alrsim.timeline.terms import terms_line
from alrsim.timeline.timeline import Timeline


@dataclass(frozen=True)
class Asked:
    """What was typed besides the shared options."""

    model: str | None
    file: Path | None
    method: str | None
    microbatches: int | None
    units: int | None
    stages: int | None
    batch: int | None
    option: list[str] | None
    bind: list[str] | None
    hardware: str
    repair: bool
    loss_unit: int | None = None


@dataclass(frozen=True)
class Simulated:
    """A simulation with what it was made from.

    Attributes:
        name: Of the schedule: its file or its method.
        about: Model and hardware, or the durations.
        notes: What was changed to fit the schedule to the problem.
        predicted: Of a measured run: the prediction of the same schedule.
        cost_error: Known error of the cost model, as words.
    """

    name: str
    about: Mapping[str, Any]
    problem: Problem
    schedule: Schedule
    timeline: Timeline
    notes: tuple[str, ...] = ()
    proof: Proof | None = None
    predicted: Timeline | None = None
    cost_error: str = ""

    @property
    def gap(self) -> Gap | None:
        """A predicted makespan beside its lower bounds; a measured one has none."""
        if self.timeline.source != "simulated":
            return None
        return gap(self.problem, self.timeline.makespan, self.schedule, self.proof)


def sort_arguments(arguments: Sequence[str], schedule: Path | None) -> tuple[str | None, Path | None]:
    """Tell the schedule file from the model: a ``.csv`` or a JSON that is no saved graph is a schedule.

    Raises:
        OptionError: more than one of either.
    """
    files = [Path(text) for text in arguments if _is_schedule(text)]
    models = [text for text in arguments if not _is_schedule(text)]
    if schedule is not None:
        files.append(schedule)
    for found, what in ((files, "schedule files"), (models, "models")):
        if len(found) > 1:
            raise OptionError(
                f"got {len(found)} {what}: {', '.join(map(str, found))}", where="simulate", fix="give one"
            )
    return (models[0] if models else None), (files[0] if files else None)


def _is_schedule(text: str) -> bool:
    if text.endswith(".csv"):
        return True
    if not text.endswith(".json"):
        return False
    from alrsim.files import read_json

    document = read_json(Path(text))
    return not (isinstance(document, dict) and document.get("format") == "alrsim.graph/1")


MODEL_OPTIONS = {
    "hardware": "--hardware",
    "precision": "--precision",
    "batch": "--batch",
    "option": "--option",
    "bind": "--bind",
    "cut": "--cut",
    "optimizer": "--optimizer",
    "plan": "--plan",
}
"""What a table of durations leaves no room for."""


def refuse_model_options(typed: Collection[str]) -> None:
    """Options that would be ignored are refused.

    Raises:
        OptionError: the first of them.
    """
    for name, option in MODEL_OPTIONS.items():
        if name in typed:
            raise OptionError("is for a model, not for --durations", where=option, fix="leave it out")


def simulate_durations(asked: Asked, settings: Settings, durations: str) -> Simulated:
    """A textbook problem: everything that is not typed is read off the schedule file, or follows from the method."""
    from alrsim.schedule.files import read_schedule

    table = parse_durations(durations)
    if asked.model is not None:
        raise OptionError(f"got a model ({asked.model}) and --durations", where="simulate", fix="give one of the two")
    require_positive({"--stages": asked.stages, "--units": asked.units})
    about = {"durations": {key: str(value) for key, value in table.items()}}
    if asked.file is None:
        method = _method(asked, settings)
        found = _outline_from_options(asked, settings, method, table)
        options = method_options(found, table, rule_options(settings, method), settings.typed)
        problem = file_problem(found, table, options, overlap=settings.overlap, loss_unit=asked.loss_unit)
        solution = build_schedule(problem, method, settings)
        timeline = predict(problem, solution.schedule, settings)
        return Simulated(method.label, about, problem, solution.schedule, timeline, proof=solution.proof)
    _refuse_both(asked, settings)
    file = open_schedule(asked.file, repair=asked.repair)
    found = file.outline if file.recipe is None else replace(file.outline, rule=file.recipe.rule)
    _agree(asked, found)
    options = options_of(file, replace(settings, microbatches=found.microbatches))
    problem = file_problem(found, table, options, overlap=settings.overlap)
    fitted = with_idle_lanes(read_schedule(asked.file, problem, repair=asked.repair))
    return _simulate_fitted(asked.file.name, fitted, settings, about)


def _outline_from_options(asked: Asked, settings: Settings, method: MethodName, table: Mapping[str, Any]) -> Outline:
    from alrsim.schedulers import SCHEDULERS

    entry = SCHEDULERS[method.scheduler]
    chunks = (settings.chunks or entry.chunks or 1) if (entry.chunks or 1) > 1 else 1
    if asked.units is None and asked.stages is None:
        raise OptionError(
            "needs a schedule file, or --units (and --stages) with --method", where="simulate", fix="--units 4"
        )
    units = asked.units or max(1, (asked.stages or 1) // chunks)
    require_unit_count(units, "--units")
    return outline_of_method(method, table, asked.stages or units * chunks, settings.microbatches, unit_names(units))


def simulate_model(asked: Asked, settings: Settings) -> Simulated:
    """A model on a machine, under a method or a schedule file."""
    if asked.model is None:
        raise OptionError(
            "needs a model with --hardware, or --durations",
            where="simulate",
            fix="alrsim simulate resnet5 --method bp:1f1b, or alrsim simulate schedule.csv --durations f=2,b=3,w=1",
        )
    if asked.stages is not None:
        raise OptionError("is for --durations; a model is cut with --cut", where="--stages")
    if asked.file is None:
        method = _method(asked, settings)
        profile, machine = find_machine(asked.hardware, asked.units)
        wanted = request(asked.model, asked.option, asked.bind, asked.batch, settings.microbatches)
        loaded = load_with_warnings(wanted)
        (planned,) = plan_all(Setup(loaded, settings, profile, machine), [method])
        about = {"model": loaded.name, "hardware": profile.name}
        return Simulated(
            method.label,
            about,
            planned.problem,
            planned.schedule,
            planned.timeline,
            proof=planned.proof,
            cost_error=planned.cost_error,
        )
    _refuse_both(asked, settings)
    return _simulate_file_on_model(asked, settings)


def _simulate_file_on_model(asked: Asked, settings: Settings) -> Simulated:
    assert asked.file is not None
    assert asked.model is not None
    file = open_schedule(asked.file, repair=asked.repair)
    found = file.outline
    _agree(asked, found)
    profile, machine = find_machine(asked.hardware, asked.units or len(found.units))
    wanted = request(asked.model, asked.option, asked.bind, asked.batch, found.microbatches)
    batch = batch_of(file, asked.batch, torch_model=wanted.source in ("zoo", "factory"))
    loaded = load_with_warnings(request(asked.model, asked.option, asked.bind, batch, found.microbatches))
    found_fit = fit_file(file, Setup(loaded, settings, profile, machine))
    about = {"model": loaded.name, "hardware": profile.name}
    priced = found_fit.priced
    done = _simulate_fitted(asked.file.name, found_fit.fitted, with_semantics(settings, priced), about)
    for note in priced.notes:
        warn(note)
    return replace(done, cost_error=priced.error)


def _simulate_fitted(name: str, fitted: Fitted, settings: Settings, about: Mapping[str, Any]) -> Simulated:
    for note in fitted.notes:
        warn(note)
    with progress(1, "simulate") as step:
        step(name)
        timeline = predict(fitted.problem, fitted.schedule, settings)
    return Simulated(name, about, fitted.problem, fitted.schedule, timeline, fitted.notes)


def _method(asked: Asked, settings: Settings) -> MethodName:
    if asked.method is None:
        raise OptionError(
            "needs a schedule file or --method", where="simulate", fix="--method bp:1f1b, or schedule.json"
        )
    if asked.repair:
        raise OptionError("only a schedule file can be repaired", where="--repair")
    method = parse_method(asked.method)
    refuse_unread(settings, [method])
    return method


def _refuse_both(asked: Asked, settings: Settings) -> None:
    refuse_plan_beside(asked.file, settings)
    if asked.method is not None:
        raise OptionError(
            f"got a schedule file ({asked.file}) and --method", where="simulate", fix="give one of the two"
        )


def _agree(asked: Asked, found: Outline) -> None:
    """Numbers that are typed beside a file must be the file's."""
    for option, typed, has in (
        ("--microbatches", asked.microbatches, found.microbatches),
        ("--stages", asked.stages, found.stages),
    ):
        if typed is not None and typed != has:
            raise OptionError(f"is {typed}, but {asked.file} has {has}", where=option, fix="leave it out")
    if asked.units is not None and asked.units < len(found.units):
        raise OptionError(f"is {asked.units}, but {asked.file} has {len(found.units)} lanes", where="--units")


def simulation_document(done: Simulated) -> dict[str, Any]:
    """The JSON of ``alrsim simulate`` (schema ``simulate.schema.json``)."""
    from alrsim.reports.bound import bound_document
    from alrsim.reports.timeline_json import timeline_document

    document = timeline_document(done.timeline)
    if "durations" in done.about:  # a textbook problem has no bytes
        document["peak_memory_bytes"] = {}
        document["memory_by_category"] = {}
    tasks, found = done.problem.tasks, done.gap
    if done.timeline.source == "simulated":
        document["bound"] = None if found is None else bound_document(found, done.timeline.ticks_per_unit)
    else:
        document["predicted_peak_memory_bytes"] = {} if done.predicted is None else peak_memory(done.predicted)
        document["peak_rss_bytes"] = resident_peaks(done.timeline)
    return {
        **done.about,
        "name": done.name,
        "rule": tasks.rule,
        "stages": tasks.stages,
        "microbatches": tasks.microbatches,
        "forwards_per_step": tasks.forwards_per_step,
        "transfer_semantics": done.timeline.facts.transfer_semantics or "",
        "schedule": done.schedule.as_dict(),
        "notes": [*done.notes, *tasks.notes],
        **document,
    }


def simulation_files(done: Simulated) -> dict[str, bytes]:
    """``gantt.png``, ``trace.json.gz`` and, with a model, ``memory.png``."""
    from alrsim.reports.gantt import Panel, draw_gantt
    from alrsim.reports.memory_plot import MemoryRow, draw_memory
    from alrsim.reports.trace import trace_bytes, trace_document

    line = done.timeline
    word = "predicted" if line.source == "simulated" else "measured"
    title = f"{done.name}: {done.about.get('model', 'durations as typed')}"
    document = trace_document([(done.name, line)], tasks={done.name: done.problem.tasks}, about=dict(done.about))
    files = {
        "gantt.png": draw_gantt([Panel(done.name, line, word)], title),
        "trace.json.gz": trace_bytes(document),
    }
    if "durations" not in done.about:
        row = MemoryRow(done.name, line) if done.predicted is None else MemoryRow(done.name, done.predicted, line)
        files["memory.png"] = draw_memory([row], f"Live memory: {title}")
    return files


def tell_terms(done: Simulated) -> None:
    """What the prediction is made of; of a measured run the prediction of the same schedule."""
    predicted = done.timeline if done.predicted is None else done.predicted
    if (terms := predicted.facts.terms_ns) is not None:
        say(f"predicted by cost model {predicted.cost_model}: {terms_line(terms)}")
    if done.cost_error:
        say(f"its error: {done.cost_error}")


def tell(done: Simulated, out: Path | None, files: Mapping[str, bytes], output: Path | None) -> None:
    """Chart and numbers, for people."""
    from alrsim.reports.tables import bound_text, metrics_table
    from alrsim.reports.text import draw_text

    say(draw_text(done.timeline, width=120))
    show(metrics_table(done.timeline, done.predicted))
    if (found := done.gap) is not None:
        say(bound_text(found, done.timeline))
    tell_terms(done)
    if (facts := done.timeline.facts).executor:
        say(f"run by executor {facts.executor}: {facts.transport}")
    for note in done.problem.tasks.notes:
        say(f"note: {note}")
    for name in files:
        say(f"wrote {out}/{name}")
    if output is not None:
        say(f"wrote {output}")
