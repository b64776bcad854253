"""Textbook problems as steps: from a method, or from a schedule file, with durations instead of a model."""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from alrsim.errors import OptionError
from alrsim.hardware.machine import require_unit_count
from alrsim.schedule.files import read_schedule
from alrsim.steps.chain import chunks_of, refuse_unread, rule_options
from alrsim.steps.method import Method
from alrsim.steps.options import StepOptions
from alrsim.steps.planned import plan_at_scale, plan_problem
from alrsim.steps.schedule_file import ScheduleFile, options_of_file, with_idle_lanes
from alrsim.steps.step import Step, fitted_step
from alrsim.steps.textbook import Outline, file_problem, method_options, outline_of_method, unit_names
from alrsim.tasks.problem import Problem
from alrsim.warning import warn


def step_of_durations(
    method: Method,
    durations: Mapping[str, Fraction],
    asked: StepOptions,
    *,
    stages: int | None = None,
    units: int | None = None,
    loss_unit: int | None = None,
) -> Step:
    """A method's textbook problem, scheduled.

    Args:
        durations: Every key of :data:`alrsim.steps.textbook_problem.DURATION_KEYS`.
        stages: Default: one per unit and chunk.
        units: Default: as many as the stages need.
        loss_unit: Index of the unit that runs the loss; default: the last stage's.

    Raises:
        OptionError: neither units nor stages, or options that the method does not read.
    """
    refuse_unread(asked, [method])
    found = _outline(method, durations, asked, stages, units)
    options = method_options(found, durations, rule_options(asked, method), asked.given)

    def make(count: int) -> Problem:
        sized = replace(options, microbatches=count)
        return file_problem(found, durations, sized, overlap=asked.overlap, loss_unit=loss_unit)

    planned = plan_at_scale(make, method.scheduler, asked, options, found.stages) or plan_problem(
        make(options.microbatches), method.scheduler, asked
    )
    return Step(method.label, asked, _about(durations), planned)


def _outline(
    method: Method, durations: Mapping[str, Fraction], asked: StepOptions, stages: int | None, units: int | None
) -> Outline:
    chunks = chunks_of(asked, method)
    if units is None and stages is None:
        raise OptionError(
            "of a textbook problem without a schedule file must be said (and `stages`, if another number)",
            field="units",
            fixes=[("units", 4)],
        )
    count = units or max(1, (stages or 1) // chunks)
    require_unit_count(count, "units")
    return outline_of_method(method, durations, stages or count * chunks, asked.microbatches, unit_names(count))


def step_of_file_and_durations(file: ScheduleFile, durations: Mapping[str, Fraction], asked: StepOptions) -> Step:
    """A schedule file with durations; everything else is read off the file.

    Raises:
        ScheduleError: the schedule does not fit.
    """
    found = file.outline if file.recipe is None else replace(file.outline, rule=file.recipe.rule)
    problem = file_problem(found, durations, options_of_file(file, asked), overlap=asked.overlap)
    fitted = with_idle_lanes(read_schedule(file.path, problem, repair=file.repair))
    for note in fitted.notes:
        warn(note)
    return fitted_step(file.path.name, fitted, asked, _about(durations))


def _about(durations: Mapping[str, Fraction]) -> dict[str, dict[str, str]]:
    return {"durations": {key: str(value) for key, value in durations.items()}}
