"""Steps by name: a model under a method, a schedule file, or a textbook problem; scheduled, simulated, executed."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alrsim.errors import OptionError
from alrsim.hardware.machine import Machine
from alrsim.hardware.profile import load_machine
from alrsim.options import keyword
from alrsim.reports.step_result import ScheduleResult, StepResult, schedule_result
from alrsim.steps.draft import workload
from alrsim.steps.method import Method, parse_method
from alrsim.steps.model import Model, load_model
from alrsim.steps.options import MODEL, FileOptions, RunOptions, StepOptions
from alrsim.steps.schedule_file import agree, open_schedule, refuse_estimators_beside
from alrsim.steps.step import Step, make_steps, step_of_file
from alrsim.steps.textbook import DurationOptions, ProblemOptions, parse_durations
from alrsim.steps.textbook_problem import DURATION_KEYS
from alrsim.steps.textbook_step import step_of_durations, step_of_file_and_durations
from alrsim.study.comparison import loading
from alrsim.verbs import verb

Hardware = str | Path | Machine


@dataclass(frozen=True, kw_only=True)
class MethodChoice(StepOptions):
    """Options of :func:`step`."""

    method: Method = keyword(
        "Rule and scheduler, such as bp:1f1b, bp:zb-h1, lr:lr-fixed, alr:lr-free.",
        default=parse_method("bp:1f1b"),
        metavar="RULE:SCHEDULER",
        parse=parse_method,
        panel=MODEL,
    )


@verb(MethodChoice, then=("method",))
def step(model: Any, hardware: Hardware = "cpu-2core", *, asked: MethodChoice) -> Step:
    """Schedule one training step of a model on a machine: ``step(model, hardware, method)``.

    Args:
        model: As :func:`load_model` takes it.
        hardware: A profile by name or path, or a machine.

    >>> made = step("mlp", "h100", "bp:zb-h1", units=2, batch=64, microbatches=8)
    >>> made.tasks.rule
    'bp-split'
    """
    loaded, machine = load_model(model, **loading(asked)), load_machine(hardware, asked.units)
    (made,) = make_steps(workload(loaded, machine, asked), [asked.method])
    return made


@verb(MethodChoice, then=("method",))
def schedule(model: Any, hardware: Hardware = "cpu-2core", *, asked: MethodChoice) -> ScheduleResult:
    """Place and order the tasks of a model's step: what :func:`step` gives, as a result to be shown and saved.

    Args:
        model: As :func:`load_model` takes it.
        hardware: A profile by name or path, or a machine.
    """
    loaded, machine = load_model(model, **loading(asked)), load_machine(hardware, asked.units)
    (made,) = make_steps(workload(loaded, machine, asked), [asked.method])
    return schedule_result(made)


def textbook(method: str | Method = "bp:1f1b", **keywords: Any) -> Step:
    """A textbook problem: equal stages with given durations, in any unit of time, exact to the last fraction.

    Args:
        method: ``rule:scheduler``.
        keywords: Durations per stage (``f`` forward, ``b`` INPUT gradient only, ``w`` weight gradient, ``u`` update,
            ``l`` loss, ``g`` LR gradient, ``c`` cotangent, ``transfer`` one message; numbers or texts such as
            ``"1/4"``), ``stages``, ``units``, ``loss_unit``, and the options of :func:`step`.

    >>> textbook("bp:zb-h1", f=1, b=1, w=1, transfer="1/4", stages=4, units=4, microbatches=8).makespan
    Fraction(30, 1)
    """
    durations = {key: keywords.pop(key) for key in DURATION_KEYS if key in keywords}
    asked = TextbookOptions.take(keywords)
    table = parse_durations(durations)
    return step_of_durations(
        parse_method(method), table, asked, stages=asked.stages, units=asked.units, loss_unit=asked.loss_unit
    )


@dataclass(frozen=True, kw_only=True)
class TextbookOptions(ProblemOptions, StepOptions):
    """Options of a textbook problem."""


@dataclass(frozen=True, kw_only=True)
class ScheduleFileOptions(FileOptions, DurationOptions, StepOptions):
    """Options of :func:`load_schedule`."""


@verb(ScheduleFileOptions)
def load_schedule(
    path: str | Path, model: Any = None, hardware: Hardware = "cpu-2core", *, asked: ScheduleFileOptions
) -> Step:
    """A schedule file as a step: on a model, or on durations.

    Args:
        path: JSON of alrsim, or CSV of ``torch.distributed.pipelining``.
        model: What the schedule is of; ``None``: ``durations`` say how long tasks take, each 1 where nobody says.
    """
    file = open_schedule(Path(path), repair=asked.repair, signs=asked.signs)
    agree(file, asked, stages=asked.stages)
    refuse_estimators_beside(file.path, asked)
    if model is None:
        made = step_of_file_and_durations(file, asked.durations or parse_durations("f=1,b=1,w=1"), asked)
        if asked.durations is None:
            note = "every task takes 1, a full backward 2: nobody said `durations`, nor of which model it is"
            made = replace(made, fit_notes=(*made.fit_notes, note))
        return made
    if asked.durations is not None:
        raise OptionError("got a model and durations", field="durations", fix="give one of the two")
    if asked.stages is not None:
        raise OptionError("is for durations; a model is cut", field="stages", fix="use `cut`")
    machine = load_machine(hardware, asked.units or len(file.outline.units))
    return step_of_file(file, load_model(model, **loading(asked)), machine, asked)


@dataclass(frozen=True, kw_only=True)
class SimulateOptions(ScheduleFileOptions):
    """Options of :func:`simulate`."""

    schedule: Path | None = keyword("The schedule file, if not given as argument.", default=None, metavar="FILE")
    method: Method | None = keyword(
        "Instead of a file, such as bp:1f1b.", default=None, metavar="RULE:SCHEDULER", parse=parse_method, panel=MODEL
    )


MODEL_OPTIONS = ("precision", "batch", "option", "bind", "cut", "optimizer", "estimators")
"""What a table of durations leaves no room for."""


@verb(SimulateOptions)
def simulate(*what: Any, hardware: Hardware | None = None, asked: SimulateOptions) -> StepResult:
    """Simulate a schedule file or a method, on a model or on durations.

    Args:
        what: A schedule file and/or a model, told apart by what they are; or a :class:`Step`.
        hardware: A profile by name or path, or a machine; for a model.
    """
    if len(what) == 1 and isinstance(what[0], Step):
        return what[0].simulate()
    return named_step(what, hardware, asked).simulate()


def named_step(what: tuple[Any, ...], hardware: Hardware | None, asked: SimulateOptions) -> Step:
    """The step that a schedule file, a method, a model and durations name together.

    Raises:
        OptionError: too many or too few of them, or options that the others leave no room for.
    """
    model, file = sort_arguments(what, asked.schedule)
    if asked.durations is not None:
        given = {*asked.given, *(["hardware"] if hardware is not None else [])}
        unread = next((name for name in ("hardware", *MODEL_OPTIONS) if name in given), None)
        if unread is not None:
            raise OptionError("is for a model, not for durations", field=unread, fix="leave it out")
        if model is not None:
            raise OptionError(f"got a model ({model}) and durations", field="durations", fix="give one of the two")
    elif model is None:
        raise OptionError(
            "needs a model, or durations", field="model", fix="give one of the zoo, such as resnet5, or `durations`"
        )
    if file is not None:
        if asked.method is not None:
            raise OptionError(f"got a schedule file ({file}) and a method", field="method", fix="give one of the two")
        plain = asked.only(ScheduleFileOptions)
        keywords = {name: getattr(plain, name) for name in plain.given}
        return load_schedule(file, model, hardware or "cpu-2core", **keywords)
    if asked.method is None:
        raise OptionError("needs a schedule file or a method", field="method", fixes=[("method", "bp:1f1b")])
    for name in ("repair", "signs"):
        if name in asked.given:
            raise OptionError("is for schedule files", field=name, fix="leave it out")
    if asked.durations is not None:
        return step_of_durations(
            asked.method,
            asked.durations,
            asked,
            stages=asked.stages,
            units=asked.units,
            loss_unit=asked.loss_unit,
        )
    if asked.stages is not None:
        raise OptionError("is for durations; a model is cut", field="stages", fix="use `cut`")
    loaded, machine = load_model(model, **loading(asked)), load_machine(hardware or "cpu-2core", asked.units)
    (made,) = make_steps(workload(loaded, machine, asked), [asked.method])
    return made


def sort_arguments(what: tuple[Any, ...], schedule: Path | None) -> tuple[Any, Path | None]:
    """Tell the schedule file from the model: a ``.csv`` or a JSON that is no saved graph is a schedule.

    Raises:
        OptionError: more than one of either.
    """
    files = [Path(one) for one in what if _is_schedule(one)] + ([] if schedule is None else [schedule])
    models = [one for one in what if not _is_schedule(one)]
    for found, words in ((files, "schedule files"), (models, "models")):
        if len(found) > 1:
            raise OptionError(f"got {len(found)} {words}: {', '.join(map(str, found))}", fix="give one")
    return (models[0] if models else None), (files[0] if files else None)


def _is_schedule(one: Any) -> bool:
    text = str(one) if isinstance(one, (str, Path)) else ""
    if text.endswith(".csv"):
        return True
    if not text.endswith(".json"):
        return False
    from alrsim.files import read_json

    document = read_json(Path(text))
    return not (isinstance(document, dict) and document.get("format") == "alrsim.graph/1")


@dataclass(frozen=True, kw_only=True)
class ExecuteOptions(RunOptions, FileOptions, StepOptions):
    """Options of :func:`execute`."""

    schedule: Path | None = keyword("A schedule file of alrsim, or PyTorch's CSV.", default=None, metavar="FILE")
    method: Method | None = keyword(
        "Instead of a file, such as bp:1f1b.", default=None, metavar="RULE:SCHEDULER", parse=parse_method, panel=MODEL
    )


@verb(ExecuteOptions)
def execute(model: Any, hardware: Hardware = "cpu-2core", *, asked: ExecuteOptions) -> StepResult:
    """Run a schedule on this host, one worker per unit; the timeline is that of the median repeat.

    Args:
        model: A torch model as :func:`load_model` takes it, or a :class:`Step` of one.
        hardware: A host's profile.

    Raises:
        OptionError: a model without torch code, or a machine that is not this host.
        ExecutionError: a task failed; names the token.
    """
    from alrsim.steps.measuring import require_measurable, running_of

    running = running_of(asked)
    if isinstance(model, Step):
        return model.run(running)
    if (asked.schedule is None) == (asked.method is None):
        raise OptionError(
            "needs a schedule file or a method, one of the two", field="method", fixes=[("method", "bp:1f1b")]
        )
    loaded: Model = load_model(model, **loading(asked))
    if asked.schedule is not None:
        file = open_schedule(asked.schedule, repair=asked.repair, signs=asked.signs)
        agree(file, asked)
        refuse_estimators_beside(file.path, asked)
        machine = load_machine(hardware, asked.units or len(file.outline.units))
        require_measurable(machine, loaded)
        return step_of_file(file, loaded, machine, asked).run(running)
    assert asked.method is not None
    machine = load_machine(hardware, asked.units)
    require_measurable(machine, loaded)
    (made,) = make_steps(workload(loaded, machine, asked), [asked.method])
    return made.run(running)
