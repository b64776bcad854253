"""A scored run as JSON (schema ``validate.schema.json``)."""

from typing import Any

from alrsim.validation.host import host_document
from alrsim.validation.journal import Journal
from alrsim.validation.score import CLEAR, GroupScore, Row, Score, goals
from alrsim.validation.statistics import Spread


def validation_document(score: Score, journal: Journal, left: int) -> dict[str, Any]:
    """Everything.

    Args:
        left: Steps that are still to be measured.
    """
    header = journal.header
    wrong = [pair for pair in score.pairs if not pair.right]
    busy, verdict = host_verdict(score, journal)
    return {
        "grid": header.grid,
        "repeats": header.repeats,
        "warmup": header.warmup,
        "host": host_document(journal.host),
        "host_busy": busy,
        "host_verdict": verdict,
        "steps_left": left,
        "makespan_error": spread_document(score.makespan),
        "speedup_error": spread_document(score.speedup),
        "fullest_unit_memory_error": spread_document(score.fullest),
        "peak_memory_error": spread_document(score.memory),
        "order": {
            "kendall_tau": score.tau,
            "margin": CLEAR,
            "clear_pairs": len(score.pairs),
            "right": len(score.pairs) - len(wrong),
            "wrong": [{"faster": p.faster, "slower": p.slower, "ratio": p.ratio} for p in wrong],
        },
        "goals": [{"goal": one.text, "limit": one.limit, "value": one.value, "met": one.met} for one in goals(score)],
        "classes": {name: spread_document(one) for name, one in score.classes.items()},
        "groups": [_group_document(group) for group in score.groups],
        "cells": [_row_document(row) for row in score.rows],
        "notes": dict(journal.notes),
    }


def spread_document(found: Spread | None) -> dict[str, Any] | None:
    """JSON."""
    if found is None:
        return None
    return {
        "count": found.count,
        "median": found.median,
        "p95": found.p95,
        "bias": found.bias,
        "least": found.least,
        "most": found.most,
    }


def _group_document(group: GroupScore) -> dict[str, Any]:
    return {
        "name": group.name,
        "first": group.first,
        "kendall_tau": group.tau,
        "speedups": {
            name: {"predicted": one, "measured": other, "error": one / other - 1}
            for name, (one, other) in group.speedups.items()
        },
    }


def _row_document(row: Row) -> dict[str, Any]:
    cell = row.cell
    return {
        "name": cell.name,
        "model": cell.model,
        "method": cell.method,
        "units": cell.units,
        "microbatches": cell.microbatches,
        "copies": cell.copies,
        "formats": cell.formats,
        "predicted_at": row.predicted_at,
        "predicted_ns": row.predicted_ns,
        "measured_ns": row.makespan_ns,
        "measured_quartiles_ns": list(row.quartiles_ns),
        "repeats": row.repeats,
        "error": row.error,
        "terms": dict(row.terms),
        "kinds": dict(row.kinds),
        "prediction_parts": list(row.parts),
        "peak_memory_bytes": dict(row.peaks),
        "predicted_peak_memory_bytes": dict(row.predicted_peaks),
        "peak_memory_error": dict(row.peak_errors),
        "cpu_share": row.cpu_share,
        "busy_repeats": row.busy,
    }


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
