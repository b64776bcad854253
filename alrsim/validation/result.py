"""A scored run as a result: every number of it by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from alrsim.documents import Document, Live
from alrsim.units import Bytes, Ns
from alrsim.validation.cells import Cell
from alrsim.validation.host import host_document
from alrsim.validation.journal import Journal
from alrsim.validation.score import CLEAR, GroupScore, Row, Score, goals
from alrsim.validation.statistics import Spread


@dataclass(frozen=True)
class WrongPair:
    """Two methods of one job that were predicted in the wrong order.

    Attributes:
        ratio: How much slower the slower one is, measured.
    """

    faster: str
    slower: str
    ratio: float


@dataclass(frozen=True)
class Order:
    """Whether methods were predicted in the right order.

    Attributes:
        margin: Methods that differ by more than this are clear pairs.
    """

    kendall_tau: float | None
    margin: float
    clear_pairs: int
    right: int
    wrong: tuple[WrongPair, ...]


@dataclass(frozen=True)
class GoalRow:
    """What was aimed at, and what was reached."""

    goal: str
    limit: float
    value: float | None
    met: bool | None


@dataclass(frozen=True)
class Ratio:
    """A speed-up over the group's first method; its error is relative to the measured one."""

    predicted: float
    measured: float
    error: float


@dataclass(frozen=True)
class GroupRow:
    """Methods of one job side by side."""

    name: str
    first: str
    kendall_tau: float | None
    speedups: Mapping[str, Ratio]


@dataclass(frozen=True)
class CellRow:
    """One cell, predicted and measured; see :class:`alrsim.validation.score.Row`."""

    name: str
    model: str
    method: str
    units: int
    microbatches: int
    copies: int | None
    formats: str
    predicted_at: str
    predicted_ns: Ns
    measured_ns: Ns
    measured_quartiles_ns: tuple[Ns, Ns]
    repeats: int
    error: float
    terms: Mapping[str, float]
    kinds: Mapping[str, float]
    prediction_parts: tuple[str, ...]
    peak_memory_bytes: Mapping[str, Bytes]
    predicted_peak_memory_bytes: Mapping[str, Bytes]
    peak_memory_error: Mapping[str, float]
    cpu_share: float
    busy_repeats: int


@dataclass(frozen=True)
class ValidateResult(Document):
    """A grid of training steps, predicted, measured and scored. Errors are relative to what was measured; negative:
    predicted too small.

    Attributes:
        planned: Names of the cells that are asked for.
        steps_left: Steps that are still to be measured.
        classes: Makespan error by class of cells.
        notes: What the run noted besides.
        score: Live: the score.
        journal: Live: what the run wrote down.
    """

    kind: ClassVar[str] = "validate"
    version: ClassVar[int] = 2

    grid: str
    repeats: int
    warmup: int
    host: Mapping[str, Any]
    host_busy: bool
    host_verdict: str
    planned: tuple[str, ...]
    steps_left: int
    makespan_error: Spread | None
    speedup_error: Spread | None
    fullest_unit_memory_error: Spread | None
    peak_memory_error: Spread | None
    order: Order
    goals: tuple[GoalRow, ...]
    classes: Mapping[str, Spread | None]
    groups: tuple[GroupRow, ...]
    cells: tuple[CellRow, ...]
    notes: Mapping[str, Any]
    score: Live = field(default=None, repr=False, compare=False)
    journal: Live = field(default=None, repr=False, compare=False)


def validate_result(score: Score, journal: Journal, cells: Sequence[Cell]) -> ValidateResult:
    """Everything.

    Args:
        cells: Those that are asked for.
    """
    header = journal.header
    wrong = tuple(WrongPair(pair.faster, pair.slower, pair.ratio) for pair in score.pairs if not pair.right)
    busy, verdict = host_verdict(score, journal)
    return ValidateResult(
        grid=header.grid,
        repeats=header.repeats,
        warmup=header.warmup,
        host=host_document(journal.host),
        host_busy=busy,
        host_verdict=verdict,
        planned=tuple(cell.name for cell in cells),
        steps_left=journal.left(cells),
        makespan_error=score.makespan,
        speedup_error=score.speedup,
        fullest_unit_memory_error=score.fullest,
        peak_memory_error=score.memory,
        order=Order(score.tau, CLEAR, len(score.pairs), len(score.pairs) - len(wrong), wrong),
        goals=tuple(GoalRow(one.text, one.limit, one.value, one.met) for one in goals(score)),
        classes=dict(score.classes),
        groups=tuple(_group(group) for group in score.groups),
        cells=tuple(_cell(row) for row in score.rows),
        notes=dict(journal.notes),
        score=score,
        journal=journal,
    )


def _group(group: GroupScore) -> GroupRow:
    ratios = {name: Ratio(one, other, one / other - 1) for name, (one, other) in group.speedups.items()}
    return GroupRow(group.name, group.first, group.tau, ratios)


def _cell(row: Row) -> CellRow:
    cell = row.cell
    return CellRow(
        name=cell.name,
        model=cell.model,
        method=cell.method,
        units=cell.units,
        microbatches=cell.microbatches,
        copies=cell.copies,
        formats=cell.formats,
        predicted_at=row.predicted_at,
        predicted_ns=row.predicted_ns,
        measured_ns=row.makespan_ns,
        measured_quartiles_ns=row.quartiles_ns,
        repeats=row.repeats,
        error=row.error,
        terms=dict(row.terms),
        kinds=dict(row.kinds),
        prediction_parts=row.parts,
        peak_memory_bytes=dict(row.peaks),
        predicted_peak_memory_bytes=dict(row.predicted_peaks),
        peak_memory_error=dict(row.peak_errors),
        cpu_share=row.cpu_share,
        busy_repeats=row.busy,
    )


def host_verdict(score: Score, journal: Journal) -> tuple[bool, str]:
    """Whether other programs kept the host busy while calibrating or measuring, as far as the tasks' own processor
    time and the calibration's reference kernel tell; and a sentence."""
    busy, all_ = sum(row.busy for row in score.rows), sum(row.repeats for row in score.rows)
    lowest = min((row.cpu_share for row in score.rows), default=1.0)
    found = [value for value in journal.notes.values() if isinstance(value, dict) and value.get("busy")]
    words = []
    if found:
        words.append(f"the host was busy during {len(found)} calibrations ({found[0].get('host', '')})")
    if busy:
        words.append(f"the host was busy in {busy} of {all_} measured steps (a cell had {lowest:.0%} of its cores)")
    if words:
        return True, "; ".join(words) + "; measure again on a quiet host before trusting these errors"
    return (
        False,
        f"the host was quiet while calibrating and measuring: every cell had at least {lowest:.0%} of its cores",
    )
