"""From what a run wrote down to errors: one row per cell, one result per group, and the whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from alrsim.tasks.token import KINDS
from alrsim.units import Bytes, Ns
from alrsim.validation.cells import Cell, Group, groups_of
from alrsim.validation.journal import Journal
from alrsim.validation.records import Prediction, Step, median_peaks, median_step
from alrsim.validation.shares import differences
from alrsim.validation.statistics import Pair, Spread, clear_pairs, order_agreement, quartiles, spread

CLEAR = 0.05
"""Methods that differ by more than this, measured, should be predicted in the right order."""


@dataclass(frozen=True)
class Row:
    """One cell, predicted and measured. Errors are relative to what was measured, negative: predicted too small.

    Attributes:
        makespan_ns: Median over the repeats, as ``peaks``.
        quartiles_ns: First and third.
        peak_errors: By unit.
        terms: What each term adds to the makespan error of the median repeat.
        kinds: Relative error of the time of all tasks of a kind, in the median repeat.
        parts: What the predicted makespan is made of along its critical path, as the simulator says.
        cpu_share: Median share of their cores that the tasks had.
        busy: Repeats in which other programs kept the host busy.
    """

    cell: Cell
    predicted_ns: Ns
    makespan_ns: Ns
    quartiles_ns: tuple[Ns, Ns]
    repeats: int
    error: float
    peaks: Mapping[str, Bytes]
    predicted_peaks: Mapping[str, Bytes]
    peak_errors: Mapping[str, float]
    terms: Mapping[str, float]
    kinds: Mapping[str, float]
    parts: tuple[str, ...]
    cpu_share: float
    busy: int
    predicted_at: str

    @property
    def fullest_error(self) -> float | None:
        """Of the largest peak of any unit, which decides what fits. Peaks of the others hang on the moment at which
        messages come: one that comes a little earlier lies beside another buffer."""
        largest = max(self.peaks.values(), default=0)
        return max(self.predicted_peaks.values(), default=0) / largest - 1 if largest else None


@dataclass(frozen=True)
class GroupScore:
    """Methods of one job side by side.

    Attributes:
        first: What the speed-ups are over.
        speedups: Method by cell name: ``(predicted, measured)``; without the first.
        tau: Agreement of the orders; ``None`` where it is undefined.
    """

    name: str
    first: str
    speedups: Mapping[str, tuple[float, float]]
    tau: float | None


@dataclass(frozen=True)
class Score:
    """A run, scored.

    Attributes:
        speedup: Of ratios, each over the first method of its group.
        fullest: Of the peak bytes of each cell's fullest unit.
        memory: Of peak bytes, one per cell and unit.
        pairs: That differ clearly, over all groups, each once.
        classes: Makespan errors by method, then by model.
    """

    rows: tuple[Row, ...]
    groups: tuple[GroupScore, ...]
    makespan: Spread | None
    speedup: Spread | None
    fullest: Spread | None
    memory: Spread | None
    pairs: tuple[Pair, ...]
    classes: Mapping[str, Spread]

    @property
    def tau(self) -> float | None:
        """Mean over the groups."""
        found = [group.tau for group in self.groups if group.tau is not None]
        return sum(found) / len(found) if found else None


def score(journal: Journal, cells: Sequence[Cell]) -> Score:
    """Score the cells that have been measured completely."""
    whole = [cell for cell in cells if journal.left([cell]) == 0]
    rows = {cell.name: row_of(journal.predictions[cell.name], journal.steps[cell.name]) for cell in whole}
    groups = [group for group in groups_of(whole) if len(group.cells) > 1]
    scores = tuple(_group_score(group, rows) for group in groups)
    ratios = {(group.first, name): one / other - 1 for group in scores for name, (one, other) in group.speedups.items()}
    pairs = {
        (pair.faster, pair.slower): pair
        for group in groups
        for pair in clear_pairs(
            {cell.name: rows[cell.name].predicted_ns for cell in group.cells},
            {cell.name: rows[cell.name].makespan_ns for cell in group.cells},
            CLEAR,
        )
    }
    every = list(rows.values())
    return Score(
        tuple(every),
        scores,
        spread([row.error for row in every]),
        spread(list(ratios.values())),
        spread([row.fullest_error for row in every if row.fullest_error is not None]),
        spread([error for row in every for error in row.peak_errors.values()]),
        tuple(pairs.values()),
        _classes(every),
    )


def row_of(prediction: Prediction, steps: Sequence[Step]) -> Row:
    """One cell."""
    middle, peaks = median_step(steps), median_peaks(steps)
    makespans = [step.makespan_ns for step in steps]
    low, _, high = quartiles(makespans)
    taken = round(median(makespans))
    units = len(prediction.schedule.lanes)
    return Row(
        prediction.cell,
        prediction.makespan_ns,
        taken,
        (round(low), round(high)),
        len(steps),
        prediction.makespan_ns / taken - 1,
        peaks,
        prediction.peaks,
        {unit: prediction.peaks.get(unit, 0) / size - 1 for unit, size in peaks.items() if size},
        differences(prediction.shares, middle.shares, units, middle.makespan_ns),
        kind_errors(prediction.shares, middle.shares),
        prediction.terms,
        median(step.cpu_share for step in steps),
        sum(any("host busy" in flag for flag in step.flags) for step in steps),
        prediction.at,
    )


def kind_errors(predicted: Mapping[str, Ns], measured: Mapping[str, Ns]) -> dict[str, float]:
    """Predicted over measured time of all tasks of each kind, less one, from the shares of both timelines; the same as
    :attr:`alrsim.timeline.comparison.Comparison.by_kind`."""
    return {kind: predicted.get(kind, 0) / measured[kind] - 1 for kind in KINDS if measured.get(kind)}


def _group_score(group: Group, rows: Mapping[str, Row]) -> GroupScore:
    first, *others = (rows[cell.name] for cell in group.cells)
    speedups = {
        row.cell.name: (first.predicted_ns / row.predicted_ns, first.makespan_ns / row.makespan_ns) for row in others
    }
    every = [first, *others]
    tau = order_agreement([row.predicted_ns for row in every], [row.makespan_ns for row in every])
    return GroupScore(group.name, first.cell.name, speedups, tau)


def _classes(rows: Sequence[Row]) -> dict[str, Spread]:
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row.cell.method, []).append(row.error)
    for row in rows:
        found.setdefault(row.cell.model, []).append(row.error)
    return {name: one for name, errors in found.items() if (one := spread(errors)) is not None}


@dataclass(frozen=True)
class Goal:
    """What a quiet host should reach.

    Attributes:
        value: What was reached; ``None``: nothing to judge by.
    """

    text: str
    limit: float
    value: float | None

    @property
    def met(self) -> bool | None:
        return None if self.value is None else self.value <= self.limit


def goals(score: Score) -> tuple[Goal, ...]:
    """Beside every result; a table says what was met and what was not."""
    wrong = sum(not pair.right for pair in score.pairs)
    memory = None if score.fullest is None else max(abs(score.fullest.least), abs(score.fullest.most))
    return (
        Goal("median makespan error", 0.05, score.makespan.median if score.makespan else None),
        Goal("95th percentile of it", 0.12, score.makespan.p95 if score.makespan else None),
        Goal("median speed-up error", 0.04, score.speedup.median if score.speedup else None),
        Goal("share of clear pairs ordered wrong", 0.0, wrong / len(score.pairs) if score.pairs else None),
        Goal("largest error of the fullest unit's peak memory", 0.03, memory),
    )
