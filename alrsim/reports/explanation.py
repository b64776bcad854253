"""What ``explain`` returns: critical path, slack and idle time by reason, and the answer to a question."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from alrsim.documents import Document, Live
from alrsim.reports.explained import Explained
from alrsim.reports.explained_answer import answer
from alrsim.reports.step_result import Number, number
from alrsim.schedule.critical import Step
from alrsim.schedule.idle import Cause, Idle
from alrsim.tasks.token import NONE
from alrsim.timeline.metrics import busy, typed


@dataclass(frozen=True)
class PathStep:
    """A stretch of the critical path.

    Attributes:
        what: A task, or the buffer that is on its way.
        kind: ``task`` or ``transfer``.
        where: A unit, or a link.
        after: Why it starts when it does: ``start``, ``lane``, ``input``, ``core``, ``send`` or ``channel``.
    """

    what: str
    kind: str
    where: str
    start: Number
    end: Number
    after: str


@dataclass(frozen=True)
class IdleUnit:
    """How long a unit computes and is idle, and why."""

    busy: Number
    idle: Number
    causes: Mapping[str, Number]


@dataclass(frozen=True)
class MissingInput:
    """What an idle unit waits for: a buffer on its way over a link."""

    buffer: str
    link: str
    sent: Number
    arrives: Number


@dataclass(frozen=True)
class Stretch:
    """A unit without work for one reason.

    Attributes:
        cause: One of :class:`alrsim.schedule.idle.Cause`.
        next: The task that the unit runs next.
        other: The task that makes what is missing, or that could have run.
        input: What is missing.
        demand: What the other task would take: bytes, or live micro-batches.
        room: How much of that there is.
    """

    unit: str
    start: Number
    end: Number
    cause: str
    next: str | None = None
    other: str | None = None
    input: MissingInput | None = None
    demand: int | None = None
    room: int | None = None


@dataclass(frozen=True)
class Answer:
    """What a unit does at a moment.

    Attributes:
        runs: The task that it runs.
        idle: Why it is idle.
        text: The same in sentences.
    """

    unit: str
    at: Number
    runs: str | None
    idle: Stretch | None
    text: tuple[str, ...]


@dataclass(frozen=True)
class Explanation(Document):
    """Why a schedule takes as long as it does.

    Attributes:
        name: Of the schedule: its file or its method.
        about: Model and hardware, or the durations.
        time_unit: ``ns``, or ``user``: the unit of the durations.
        slack: By task: how much later it could end at no cost.
        idle: By unit.
        unit: The unit that was asked about; ``None``: all.
        answer: Where a moment was asked about, too.
        explained: Live: the analysis.
    """

    kind: ClassVar[str] = "explain"
    version: ClassVar[int] = 2

    name: str
    about: Mapping[str, Any]
    time_unit: str
    makespan: Number
    transfer_semantics: str
    critical_path: tuple[PathStep, ...]
    slack: Mapping[str, Number]
    idle: Mapping[str, IdleUnit]
    stretches: tuple[Stretch, ...]
    unit: str | None = None
    answer: Answer | None = None
    explained: Live = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        tasks = sum(1 for one in self.critical_path if one.kind == "task")
        return f"Explanation({self.name}: {self.makespan} {self.time_unit}, {tasks} tasks on the critical path)"

    def idle_by_reason(self) -> dict[str, dict[str, Number]]:
        """Idle time by unit and reason, in the document's time unit; of the unit that was asked about, or of all."""
        units = self.idle if self.unit is None else [self.unit]
        return {unit: dict(self.idle[unit].causes) for unit in units}


def explanation(
    name: str,
    about: Mapping[str, Any],
    found: Explained,
    *,
    unit: str | None = None,
    at: int | None = None,
) -> Explanation:
    """An analysis as a document.

    Args:
        unit: The unit that was asked about.
        at: The tick that was asked about.
    """

    def time(ticks: int) -> Number:
        return number(typed(found.timeline, ticks))

    def row(step: Step) -> PathStep:
        if step.item == NONE:
            what, kind, where = found.buffer(step.message), "transfer", found.link(step.message)
        else:
            what, kind, where = found.token(step.item), "task", found.units[found.lowered.unit[step.item]]
        return PathStep(what, kind, where, time(step.start), time(step.end), step.after)

    work = busy(found.timeline)
    return Explanation(
        name=name,
        about=about,
        time_unit=found.timeline.time_unit,
        makespan=time(found.times.makespan),
        transfer_semantics=found.timeline.facts.transfer_semantics or "",
        critical_path=tuple(map(row, found.path)),
        slack={found.token(item): time(free) for item, free in enumerate(found.slack)},
        idle={
            name: IdleUnit(
                time(work[name]), time(sum(causes.values())), {one.value: time(idle) for one, idle in causes.items()}
            )
            for name, causes in zip(found.units, found.by_cause, strict=True)
        },
        stretches=tuple(_stretch(found, one) for one in found.idle),
        unit=unit,
        answer=None if unit is None or at is None else _answer(found, found.units.index(unit), at),
        explained=found,
    )


def _answer(found: Explained, unit: int, at: int) -> Answer:
    item, idle = found.running(unit, at), found.idle_at(unit, at)
    return Answer(
        found.units[unit],
        number(typed(found.timeline, at)),
        None if item == NONE else found.token(item),
        None if idle is None else _stretch(found, idle),
        tuple(answer(found, unit, at)),
    )


def _stretch(found: Explained, idle: Idle) -> Stretch:
    def time(ticks: int) -> Number:
        return number(typed(found.timeline, ticks))

    missing, message = None, idle.message
    if message != NONE:
        sent, arrives = found.times.sent[message], found.times.arrived[message]
        missing = MissingInput(found.buffer(message), found.link(message), time(sent), time(arrives))
    capped = idle.cause in (Cause.MEMORY, Cause.LIVE)
    return Stretch(
        found.units[idle.unit],
        time(idle.start),
        time(idle.end),
        idle.cause.value,
        None if idle.item == NONE else found.token(idle.item),
        None if idle.other == NONE else found.token(idle.other),
        missing,
        idle.demand if capped else None,
        idle.room if capped else None,
    )
