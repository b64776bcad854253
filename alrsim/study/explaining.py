"""``explain``: why a schedule takes as long as it does, and why a unit is idle at a moment."""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from alrsim.errors import OptionError
from alrsim.options import choose, keyword, options_of
from alrsim.reports.explained import Explained
from alrsim.reports.explained import explain as analyse
from alrsim.reports.explanation import Explanation, explanation
from alrsim.reports.step_result import StepResult
from alrsim.schedulers.caps import caps_of
from alrsim.steps.options import PredictionOptions
from alrsim.steps.step import Step
from alrsim.study.stepping import Hardware, SimulateOptions, named_step
from alrsim.units import parse_rational
from alrsim.verbs import verb

TIME_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9}
QUESTION = "Question"
"""Panel of the help."""


@dataclass(frozen=True, kw_only=True)
class ExplainOptions(SimulateOptions):
    """Options of :func:`explain`."""

    unit: str | None = keyword("Ask about this unit, such as u2.", default=None, metavar="U", panel=QUESTION)
    at: str | None = keyword(
        "...at this moment: 12.5ms, 300us; with durations 7.5; or 40%.",
        default=None,
        metavar="T",
        parse=lambda given, _: str(given),
        panel=QUESTION,
    )


OF_A_STEP = {"unit", "at", "search", *(one.name for one in options_of(PredictionOptions))} - {"cost"}
"""Options that may be given beside a step; the others are the step's own."""


@verb(ExplainOptions)
def explain(*what: Any, hardware: Hardware | None = None, asked: ExplainOptions) -> Explanation:
    """Explain a schedule: critical path, slack per task, idle time by reason; a ``unit`` at a moment (``at``), too.

    A cap on live micro-batches that the schedule was made under is told with ``search``.

    Args:
        what: A :class:`Step`, a :class:`StepResult`, or a schedule file and/or a model, as :func:`simulate` takes them.
        hardware: A profile by name or path, or a machine; for a model.

    Raises:
        OptionError: a moment without a unit, no such unit or moment, or options that the others leave no room for.

    >>> from alrsim.study.stepping import textbook
    >>> found = explain(textbook("bp:1f1b", f=1, b=1, w=1, units=2, microbatches=2), unit="u1")
    >>> found.idle_by_reason()
    {'u1': {'input': 1, 'done': 2}}
    """
    if asked.at is not None and asked.unit is None:
        raise OptionError("is a moment of a unit", field="at", fixes=[("unit", "u1")])
    step = step_of(what, hardware, asked)
    found = explained(step, asked)
    unit, at = asked.unit, asked.at
    if unit is not None:
        choose(unit, found.units, field="unit", what="unit")
    return explanation(step.name, step.about, found, unit=unit, at=None if at is None else moment(found, at))


def step_of(what: tuple[Any, ...], hardware: Hardware | None, asked: ExplainOptions) -> Step:
    """The step that is explained.

    Raises:
        OptionError: a result that was read from a file, or options that a step says itself.
    """
    if len(what) != 1 or not isinstance(what[0], Step | StepResult):
        return named_step(what, hardware, asked)
    step = what[0] if isinstance(what[0], Step) else what[0].step
    if step is None:
        raise OptionError("was read from a file, which holds no tasks", where=what[0].name)
    given = asked.given | ({"hardware"} if hardware is not None else set())
    if unread := sorted(given - OF_A_STEP):
        raise OptionError("is said by the step", field=unread[0], fix="leave it out")
    changes = {name: getattr(asked, name) for name in asked.given - {"unit", "at", "search"}}
    return replace(step, asked=step.asked.with_(**changes).saying(changes)) if changes else step


def explained(step: Step, asked: ExplainOptions) -> Explained:
    """The analysis of a step's predicted timeline, under the live cap that it was made under if there is one."""
    search = asked.searching or step.asked.searching
    live = None if search is None else caps_of(step.problem, search).live
    return analyse(step.problem, step.schedule, step.timeline, overlap=step.asked.overlap, live=live)


def moment(found: Explained, at: str) -> int:
    """The tick of a moment.

    Raises:
        OptionError: a moment that is none.
    """
    line, text = found.timeline, at.strip()
    if text.endswith("%"):
        return int(parse_rational(text[:-1], where="at") * line.makespan / 100)
    suffix = next((one for one in TIME_UNITS if text.endswith(one)), "")
    value = parse_rational(text[: len(text) - len(suffix)], where="at")
    if line.time_unit != "ns":
        if suffix:
            raise OptionError(f"{at!r}: typed durations have no seconds", field="at", fixes=[("at", 7.5)])
        return int(value * line.ticks_per_unit)
    if not suffix:
        raise OptionError(f"{at!r} has no unit of time", field="at", fixes=[("at", f"{at}ms"), ("at", "40%")])
    return int(value * Fraction(TIME_UNITS[suffix]))
