"""Predict recorded runs again: the same costs and schedule, this version of the rules and the simulator."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from alrsim.documents import Document, Live
from alrsim.units import Ns, format_ns
from alrsim.validation.host import host_document
from alrsim.validation.records import Prediction, predicted, problem_again
from alrsim.validation.shares import differences, reason
from alrsim.validation.statistics import quartiles, spread
from alrsim.validation.tables import percent
from alrsim.validation.trace import RecordedRun, read_trace, trace_bytes

TOLERANCE = 1e-9
"""By how much an error may grow before it counts as worse: the simulator is deterministic, so by nothing."""


@dataclass(frozen=True)
class Replayed:
    """A recorded run with the prediction of this version.

    Attributes:
        now: As the recorded one, with the times of today.
        measured_ns: Median over the repeats.
    """

    path: Path
    run: RecordedRun
    now: Prediction
    measured_ns: Ns

    @property
    def error_then(self) -> float:
        """Of the makespan, when it was recorded; negative: predicted too fast."""
        return self.run.prediction.makespan_ns / self.measured_ns - 1

    @property
    def error_now(self) -> float:
        return self.now.makespan_ns / self.measured_ns - 1

    @property
    def memory_then(self) -> float:
        """Largest relative error of a unit's peak."""
        return _memory_error(self.run, self.run.prediction)

    @property
    def memory_now(self) -> float:
        return _memory_error(self.run, self.now)

    @property
    def worse(self) -> bool:
        """Whether this version predicts time or memory less well than the one that recorded it."""
        return (
            abs(self.error_now) > abs(self.error_then) + TOLERANCE
            or abs(self.memory_now) > abs(self.memory_then) + TOLERANCE
        )

    @property
    def changed(self) -> bool:
        """Whether it predicts anything else at all."""
        then = self.run.prediction
        return self.now.makespan_ns != then.makespan_ns or dict(self.now.peaks) != dict(then.peaks)


def replay_run(path: Path) -> Replayed:
    """Read a recorded run and predict it again.

    Raises:
        FileError: it is none, was cut off or edited, or this version's rule makes tasks that it has no costs of.
        ScheduleError: this version's rule makes other tasks than its schedule orders.
    """
    run = read_trace(path)
    now = predicted(run.prediction, problem_again(run.prediction))
    _, middle, _ = quartiles(run.makespans)
    return Replayed(path, run, now, round(middle))


def accepted(one: Replayed) -> bytes | None:
    """The file with the prediction of this version; ``None`` where nothing changed, or for the worse."""
    if one.worse or one.now == one.run.prediction:
        return None
    return trace_bytes(replace(one.run, prediction=one.now))


def _memory_error(run: RecordedRun, prediction: Prediction) -> float:
    errors = [prediction.peaks.get(unit, 0) / size - 1 for unit, size in run.peaks.items() if size]
    return max(errors, key=abs, default=0.0)


COLUMNS = ("recorded run", "device", "executor", "measured", "then", "error then", "now", "error now", "memory now", "")


def cells_of(one: Replayed) -> list[str]:
    """One row of the table."""
    host = one.run.host
    return [
        one.run.prediction.cell.name,
        host.kind,
        host.executor,
        format_ns(one.measured_ns),
        format_ns(one.run.prediction.makespan_ns),
        percent(one.error_then, sign=True),
        format_ns(one.now.makespan_ns),
        percent(one.error_now, sign=True),
        percent(one.memory_now, sign=True),
        verdict(one),
    ]


def verdict(one: Replayed) -> str:
    """``same``, ``better`` or ``worse`` than when it was recorded."""
    return "worse" if one.worse else "better" if one.changed else "same"


@dataclass(frozen=True)
class ReplayRow:
    """A recorded run, then and now. Errors are relative to what was measured.

    Attributes:
        verdict: ``same``, ``better`` or ``worse`` than when it was recorded.
    """

    file: str
    name: str
    host: Mapping[str, Any]
    recorded_at: str
    schedule: Mapping[str, str]
    repeats: int
    measured_ns: Ns
    predicted_then_ns: Ns
    predicted_now_ns: Ns
    error_then: float
    error_now: float
    memory_error_then: float
    memory_error_now: float
    terms: Mapping[str, float]
    verdict: str


@dataclass(frozen=True)
class ReplayResult(Document):
    """Recorded runs, predicted again by this version.

    Attributes:
        worse: Runs that this version predicts less well.
        changed: Runs that it predicts otherwise.
        found: Live: the runs.
        written: Live: files that got today's prediction.
    """

    kind: ClassVar[str] = "replay"
    version: ClassVar[int] = 2

    runs: int
    worse: int
    changed: int
    median_error_then: float | None
    median_error_now: float | None
    p95_error_then: float | None
    p95_error_now: float | None
    traces: tuple[ReplayRow, ...]
    found: Live = field(default=None, repr=False, compare=False)
    written: Live = field(default=(), repr=False, compare=False)


def replay_result(found: Sequence[Replayed], written: Sequence[Path] = ()) -> ReplayResult:
    """All runs, and their errors as a whole."""
    then, now = spread([one.error_then for one in found]), spread([one.error_now for one in found])
    return ReplayResult(
        runs=len(found),
        worse=sum(one.worse for one in found),
        changed=sum(one.changed for one in found),
        median_error_then=None if then is None else then.median,
        median_error_now=None if now is None else now.median,
        p95_error_then=None if then is None else then.p95,
        p95_error_now=None if now is None else now.p95,
        traces=tuple(_row(one) for one in found),
        found=tuple(found),
        written=tuple(written),
    )


def _row(one: Replayed) -> ReplayRow:
    then, step = one.run.prediction, one.run.step
    return ReplayRow(
        file=str(one.path),
        name=then.cell.name,
        host=host_document(one.run.host),
        recorded_at=then.at,
        schedule=then.schedule.as_dict(),
        repeats=len(one.run.makespans),
        measured_ns=one.measured_ns,
        predicted_then_ns=then.makespan_ns,
        predicted_now_ns=one.now.makespan_ns,
        error_then=one.error_then,
        error_now=one.error_now,
        memory_error_then=one.memory_then,
        memory_error_now=one.memory_now,
        terms=differences(one.now.shares, step.shares, len(then.schedule.lanes), step.makespan_ns),
        verdict=verdict(one),
    )


def summary(result: ReplayResult) -> str:
    """In words."""
    found = result.found
    words = (
        f"{len(found)} recorded run{'s' * (len(found) != 1)}: median makespan error "
        f"{percent(result.median_error_now)} now, {percent(result.median_error_then)} when recorded; "
        f"{result.changed} predicted otherwise now, {result.worse} worse."
    )
    worst = max(found, key=lambda one: abs(one.error_now), default=None)
    if worst is not None and abs(worst.error_now) >= 0.0005:
        step = worst.run.step
        terms = differences(worst.now.shares, step.shares, len(worst.now.schedule.lanes), step.makespan_ns)
        words += (
            f"\nFurthest off: {worst.run.prediction.cell.name}, {percent(worst.error_now, sign=True)}: {reason(terms)}."
        )
    return words
