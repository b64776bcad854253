"""``replay``: predict recorded runs again from their recorded costs, without torch and without the models."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from alrsim.documents import Document, Live
from alrsim.options import Options, keyword
from alrsim.reports.parts import Parts, axes_or_new, no_files
from alrsim.reports.tables import plain_table, to_text
from alrsim.units import Ns, format_ns
from alrsim.validation.records import Prediction, predicted, problem_again
from alrsim.validation.shares import differences, reason
from alrsim.validation.statistics import quartiles, spread
from alrsim.validation.tables import percent
from alrsim.validation.trace import RecordedRun, find_traces, read_trace, trace_bytes
from alrsim.verbs import verb
from alrsim.writing import write_atomically

TOLERANCE = 1e-9
"""By how much an error may grow before it counts as worse: the simulator is deterministic, so by nothing."""


@dataclass(frozen=True)
class ReplayRow:
    """A recorded run with the prediction of this version. Errors are relative to what was measured, negative:
    predicted too small.

    Attributes:
        measured_ns: Median over the repeats.
        memory_error_then: Largest relative error of a unit's peak, as ``memory_error_now``.
        terms: What each term adds to the error of today.
        verdict: ``same``, ``better`` or ``worse`` than when it was recorded, in time or memory.
        run: Live: the recorded run.
        now: Live: its prediction, with the times of today.
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
    run: Live = field(default=None, repr=False, compare=False)
    now: Live = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class ReplayResult(Document):
    """Recorded runs, predicted again by this version.

    Attributes:
        worse: Runs that this version predicts less well.
        changed: Runs that it predicts otherwise.
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
    written: Live = field(default=(), repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class ReplayOptions(Options):
    """Options of :func:`replay`."""

    accept: bool = keyword(
        "Write today's prediction into the files where it is different and not worse.", default=False
    )


@verb(ReplayOptions)
def replay(*traces: str | Path, asked: ReplayOptions) -> ReplayResult:
    """Predict recorded runs with this version of the program, with the error beside that at record time.

    Args:
        traces: Files that a validation recorded, or folders of them.

    Raises:
        FileError: no recorded run, or one that was cut off or edited.
    """
    found = [replay_run(path) for path in find_traces([Path(one) for one in traces])]
    written = []
    for one in found if asked.accept else ():
        data = accepted(one)
        if data is not None:
            written.append(Path(one.file))
            write_atomically(written[-1], data)
    then, now = spread([one.error_then for one in found]), spread([one.error_now for one in found])
    return ReplayResult(
        runs=len(found),
        worse=sum(one.verdict == "worse" for one in found),
        changed=sum(one.verdict != "same" for one in found),
        median_error_then=None if then is None else then.median,
        median_error_now=None if now is None else now.median,
        p95_error_then=None if then is None else then.p95,
        p95_error_now=None if now is None else now.p95,
        traces=tuple(found),
        written=tuple(written),
    )


def replay_run(path: Path) -> ReplayRow:
    """Read a recorded run and predict it again: the same costs and schedule, this version of rules and simulator.

    Raises:
        FileError: it is none, was cut off or edited, or this version's rule makes tasks that it has no costs of.
        ScheduleError: this version's rule makes other tasks than its schedule orders.
    """
    run = read_trace(path)
    then, now = run.prediction, predicted(run.prediction, problem_again(run.prediction))
    measured = round(quartiles(run.makespans)[1])
    errors = then.makespan_ns / measured - 1, now.makespan_ns / measured - 1
    memory = _memory_error(run, then), _memory_error(run, now)
    worse = any(abs(after) > abs(before) + TOLERANCE for before, after in (errors, memory))
    changed = now.makespan_ns != then.makespan_ns or dict(now.peaks) != dict(then.peaks)
    return ReplayRow(
        file=str(path),
        name=then.cell.name,
        host=asdict(run.host),
        recorded_at=then.at,
        schedule=then.schedule.as_dict(),
        repeats=len(run.makespans),
        measured_ns=measured,
        predicted_then_ns=then.makespan_ns,
        predicted_now_ns=now.makespan_ns,
        error_then=errors[0],
        error_now=errors[1],
        memory_error_then=memory[0],
        memory_error_now=memory[1],
        terms=differences(now.shares, run.step.shares, len(then.schedule.lanes), run.step.makespan_ns),
        verdict="worse" if worse else "better" if changed else "same",
        run=run,
        now=now,
    )


def accepted(one: ReplayRow) -> bytes | None:
    """The file with the prediction of this version; ``None`` where nothing changed, or for the worse."""
    if one.verdict == "worse" or one.now == one.run.prediction:
        return None
    return trace_bytes(replace(one.run, prediction=one.now))


def _memory_error(run: RecordedRun, prediction: Prediction) -> float:
    errors = [prediction.peaks.get(unit, 0) / size - 1 for unit, size in run.peaks.items() if size]
    return max(errors, key=abs, default=0.0)


COLUMNS = ("recorded run", "device", "executor", "measured", "then", "error then", "now", "error now", "memory now", "")


def replay_text(result: ReplayResult) -> str:
    """The table, and the errors as a whole."""
    cells = [
        [
            one.name,
            one.host["kind"],
            one.host["executor"],
            format_ns(one.measured_ns),
            format_ns(one.predicted_then_ns),
            percent(one.error_then, sign=True),
            format_ns(one.predicted_now_ns),
            percent(one.error_now, sign=True),
            percent(one.memory_error_now, sign=True),
            one.verdict,
        ]
        for one in result.traces
    ]
    return "\n".join(
        [to_text(plain_table(COLUMNS, cells)), summary(result), *(f"wrote {path}" for path in result.written)]
    )


def summary(result: ReplayResult) -> str:
    """In words."""
    words = (
        f"{result.runs} recorded run{'s' * (result.runs != 1)}: median makespan error "
        f"{percent(result.median_error_now)} now, {percent(result.median_error_then)} when recorded; "
        f"{result.changed} predicted otherwise now, {result.worse} worse."
    )
    worst = max(result.traces, key=lambda one: abs(one.error_now), default=None)
    if worst is not None and abs(worst.error_now) >= 0.0005:
        words += f"\nFurthest off: {worst.name}, {percent(worst.error_now, sign=True)}: {reason(worst.terms)}."
    return words


def replay_rows(result: ReplayResult) -> list[dict[str, Any]]:
    """One row per recorded run."""
    return [
        {key: value for key, value in vars(row).items() if isinstance(value, str | int | float)}
        for row in result.traces
    ]


def draw_replay(result: ReplayResult, axes: Any = None) -> Any:
    """Errors then against errors now."""
    axes = axes_or_new(axes)
    axes.scatter([row.error_then for row in result.traces], [row.error_now for row in result.traces], s=14)
    axes.set(xlabel="makespan error when recorded", ylabel="now")
    return axes


RENDERER = Parts(replay_text, replay_rows, draw_replay, no_files)
