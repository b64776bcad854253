"""Numbers and verdicts of claims in words, for table, report and picture."""

from collections.abc import Mapping

from alrsim.experiments.claim import Area
from alrsim.experiments.result import ClaimRow, ReproduceResult

AREAS: Mapping[Area, str] = {
    "schedule": "Schedule",
    "speed": "Speed",
    "memory": "Memory",
    "gradient": "Gradient quality",
    "accuracy": "Accuracy after training",
    "robustness": "Robustness",
}


def verdict_text(row: ClaimRow) -> str:
    """``not reproduced (undecided)`` where a finer measurement may change it."""
    return str(row.verdict) if row.decided else f"{row.verdict} (undecided)"


def number(value: float | None, unit: str = "", *, signed: bool = False) -> str:
    """Three digits that count, and a minus that looks like one; ``signed``: a difference shows its plus."""
    if value is None:
        return "–"
    if signed and value > 0:
        return f"+{number(value, unit)}"
    digits = f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
    if abs(value) < 0.005 and value != 0:
        digits = f"{value:.1g}"
    if "." in digits and "e" not in digits and abs(value) >= 10:
        digits = digits.removesuffix(".0")
    return digits.replace("-", "−") + {"x": "×", "%": " %"}.get(unit, "")


def interval(row: ClaimRow) -> str:
    """``[0.9, 1.1]``, or empty."""
    found = row.measured
    return "" if found is None or found.low is None else f"[{number(found.low)}, {number(found.high)}]"


def paper_text(row: ClaimRow) -> str:
    """The paper's number, signed where it is a difference."""
    if row.figure is None:
        return "> 0" if row.measured is not None else "–"
    if row.kind == "ordering" and row.figure in (-1.0, 1.0):
        return "> 0" if row.figure > 0 else "< 0"
    return number(row.figure, row.unit, signed=row.kind == "ordering")


def here_text(row: ClaimRow) -> str:
    """What was measured."""
    value = None if row.measured is None else row.measured.value
    return number(value, row.unit, signed=row.kind == "ordering")


def summary(result: ReproduceResult) -> str:
    """``12 reproduced, 5 exceeded, ...``."""
    parts = [f"{count} {verdict}" for verdict, count in result.counts.items() if count]
    open_ = result.undecided
    more = f" ({open_} of them undecided: their intervals hold both answers)" if open_ else ""
    return f"{len(result)} claim{'s' * (len(result) != 1)}: {', '.join(parts)}{more}."


def headline(result: ReproduceResult) -> str:
    """Where and how."""
    mode = "quick run: fewer seeds, steps and copies, smaller models" if result.mode == "quick" else "full run"
    host, data = result.host, result.data_folder or "built-in data only"
    place = f"{host.device}, {host.cores} cores, torch {host.torch}; " if host is not None else ""
    return f"{mode}; {place}seed {result.seed}; {data}"
