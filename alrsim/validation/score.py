"""From what a run wrote down to errors: one row per cell, one result per group, and the whole."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from alrsim.tasks.token import KINDS
from alrsim.units import Ns
from alrsim.validation.cells import Cell, Group, groups_of
from alrsim.validation.journal import Journal
from alrsim.validation.records import Prediction, Step, median_peaks, median_step
from alrsim.validation.result import CellRow, GoalRow, GroupRow, Order, Ratio, ValidateResult, WrongPair
from alrsim.validation.shares import differences
from alrsim.validation.statistics import Spread, clear_pairs, order_agreement, quartiles, spread

CLEAR = 0.05
"""Methods that differ by more than this, measured, should be predicted in the right order."""


def score(journal: Journal, cells: Sequence[Cell]) -> ValidateResult:
    """Score the cells that have been measured completely.

    Args:
        cells: Those that are asked for.
    """
    whole = [cell for cell in cells if journal.left([cell]) == 0]
    rows = {cell.name: row_of(journal.predictions[cell.name], journal.steps[cell.name]) for cell in whole}
    groups = groups_of(whole)
    scores = tuple(_group_score(group, rows) for group in groups)
    ratios = {(group.first, name): ratio.error for group in scores for name, ratio in group.speedups.items()}
    order = _order(groups, scores, rows)
    every = tuple(rows.values())
    makespan, speedup = spread([row.error for row in every]), spread(list(ratios.values()))
    fullest = spread([row.fullest_error for row in every if row.fullest_error is not None])
    busy, verdict = _host_verdict(every, journal.notes)
    header = journal.header
    return ValidateResult(
        grid=header.grid,
        repeats=header.repeats,
        warmup=header.warmup,
        host=asdict(journal.host),
        host_busy=busy,
        host_verdict=verdict,
        planned=tuple(cell.name for cell in cells),
        steps_left=journal.left(cells),
        makespan_error=makespan,
        speedup_error=speedup,
        fullest_unit_memory_error=fullest,
        peak_memory_error=spread([error for row in every for error in row.peak_memory_error.values()]),
        order=order,
        goals=_goals(makespan, speedup, fullest, order),
        classes=_classes(every),
        groups=scores,
        cells=every,
        notes=dict(journal.notes),
        journal=journal,
    )


def row_of(prediction: Prediction, steps: Sequence[Step]) -> CellRow:
    """One cell."""
    cell, middle, peaks = prediction.cell, median_step(steps), median_peaks(steps)
    makespans = [step.makespan_ns for step in steps]
    low, _, high = quartiles(makespans)
    taken = round(median(makespans))
    return CellRow(
        name=cell.name,
        model=cell.model,
        method=cell.method,
        units=cell.units,
        microbatches=cell.microbatches,
        copies=cell.copies,
        formats=cell.formats,
        predicted_at=prediction.at,
        predicted_ns=prediction.makespan_ns,
        measured_ns=taken,
        measured_quartiles_ns=(round(low), round(high)),
        repeats=len(steps),
        error=prediction.makespan_ns / taken - 1,
        terms=differences(prediction.shares, middle.shares, len(prediction.schedule.lanes), middle.makespan_ns),
        kinds=kind_errors(prediction.shares, middle.shares),
        prediction_parts=prediction.terms,
        peak_memory_bytes=peaks,
        predicted_peak_memory_bytes=dict(prediction.peaks),
        peak_memory_error={unit: prediction.peaks.get(unit, 0) / size - 1 for unit, size in peaks.items() if size},
        cpu_share=median(step.cpu_share for step in steps),
        busy_repeats=sum(any("host busy" in flag for flag in step.flags) for step in steps),
    )


def kind_errors(predicted: Mapping[str, Ns], measured: Mapping[str, Ns]) -> dict[str, float]:
    """Predicted over measured time of all tasks of each kind, less one, from the shares of both timelines; the same as
    :attr:`alrsim.timeline.comparison.Comparison.by_kind`."""
    return {kind: predicted.get(kind, 0) / measured[kind] - 1 for kind in KINDS if measured.get(kind)}


def _group_score(group: Group, rows: Mapping[str, CellRow]) -> GroupRow:
    every = [rows[cell.name] for cell in group.cells]
    predicted, measured = [row.predicted_ns for row in every], [row.measured_ns for row in every]
    speedups = {}
    for row in every[1:]:
        one, other = predicted[0] / row.predicted_ns, measured[0] / row.measured_ns
        speedups[row.name] = Ratio(one, other, one / other - 1)
    return GroupRow(group.name, every[0].name, order_agreement(predicted, measured), speedups)


def _order(groups: Sequence[Group], scores: Sequence[GroupRow], rows: Mapping[str, CellRow]) -> Order:
    """Whether methods that differ clearly were predicted in the right order, over all groups, each pair once."""
    pairs = {
        (pair.faster, pair.slower): pair
        for group in groups
        for pair in clear_pairs(
            {cell.name: rows[cell.name].predicted_ns for cell in group.cells},
            {cell.name: rows[cell.name].measured_ns for cell in group.cells},
            CLEAR,
        )
    }
    wrong = tuple(WrongPair(pair.faster, pair.slower, pair.ratio) for pair in pairs.values() if not pair.right)
    agreed = [group.kendall_tau for group in scores if group.kendall_tau is not None]
    tau = sum(agreed) / len(agreed) if agreed else None
    return Order(tau, CLEAR, len(pairs), len(pairs) - len(wrong), wrong)


def _classes(rows: Sequence[CellRow]) -> dict[str, Spread | None]:
    names = dict.fromkeys([*(row.method for row in rows), *(row.model for row in rows)])
    return {name: spread([row.error for row in rows if name in (row.method, row.model)]) for name in names}


def _goals(
    makespan: Spread | None, speedup: Spread | None, fullest: Spread | None, order: Order
) -> tuple[GoalRow, ...]:
    """Beside every result; a table says what was met and what was not."""
    aimed: list[tuple[str, float, float | None]] = [
        ("median makespan error", 0.05, makespan.median if makespan else None),
        ("95th percentile of it", 0.12, makespan.p95 if makespan else None),
        ("median speed-up error", 0.04, speedup.median if speedup else None),
        (
            "share of clear pairs ordered wrong",
            0.0,
            len(order.wrong) / order.clear_pairs if order.clear_pairs else None,
        ),
        (
            "largest error of the fullest unit's peak memory",
            0.03,
            max(abs(fullest.least), abs(fullest.most)) if fullest else None,
        ),
    ]
    return tuple(GoalRow(text, limit, value, None if value is None else value <= limit) for text, limit, value in aimed)


def _host_verdict(rows: Sequence[CellRow], notes: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether other programs kept the host busy while calibrating or measuring, as far as the tasks' own processor
    time and the calibration's reference kernel tell; and a sentence."""
    busy, all_ = sum(row.busy_repeats for row in rows), sum(row.repeats for row in rows)
    lowest = min((row.cpu_share for row in rows), default=1.0)
    found = [value for value in notes.values() if isinstance(value, dict) and value.get("busy")]
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
