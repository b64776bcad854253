"""A run's result as JSON (schema ``reproduce.schema.json``), as a table and as markdown."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from alrsim.experiments.claim import CITATIONS, Area, Claim, Paper
from alrsim.experiments.registry import CLAIMS
from alrsim.experiments.rules import VERDICTS
from alrsim.experiments.run import Finished

AREAS: Mapping[Area, str] = {
    "schedule": "Schedule",
    "speed": "Speed",
    "memory": "Memory",
    "gradient": "Gradient quality",
    "accuracy": "Accuracy after training",
    "robustness": "Robustness",
}

PAPERS: tuple[Paper, ...] = ("ALR", "ULR")


def reproduce_document(found: Sequence[Finished], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Everything: facts of the host and run, the count of verdicts, one row per claim."""
    rows = [row_document(CLAIMS[one.id], one) for one in found]
    counts = Counter(one.outcome.verdict for one in found)
    return {
        **facts,
        "papers": {key: CITATIONS[key] for key in PAPERS},
        "counts": {verdict: counts.get(verdict, 0) for verdict in VERDICTS},
        "undecided": sum(not one.outcome.decided for one in found),
        "claims": rows,
    }


def row_document(claim: Claim, found: Finished) -> dict[str, Any]:
    """One claim."""
    measured = found.measured
    return {
        "id": claim.id,
        "paper": claim.paper,
        "where": claim.where,
        "area": claim.area,
        "text": claim.text,
        "figure": claim.figure,
        "unit": claim.unit,
        "kind": claim.rule.kind,
        "rule": claim.rule.describe(claim.figure),
        "measured": None
        if measured is None
        else {
            "value": measured.value,
            "low": measured.low,
            "high": measured.high,
            "how": measured.how,
            "detail": dict(measured.detail),
        },
        "verdict": found.outcome.verdict,
        "decided": found.outcome.decided,
        "why": why(found),
        "seconds": round(found.seconds, 3),
    }


def why(found: Finished) -> str:
    """The arithmetic of the verdict and what measured numbers say about it."""
    reason = found.measured.reason if found.measured is not None else ""
    return f"{found.outcome.why}; {reason}" if reason else found.outcome.why


def verdict_text(row: Mapping[str, Any]) -> str:
    """``not reproduced (undecided)`` where a finer measurement may change it."""
    return row["verdict"] if row["decided"] else f"{row['verdict']} (undecided)"


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


def interval(row: Mapping[str, Any]) -> str:
    """``[0.9, 1.1]``, or empty."""
    measured = row["measured"]
    if measured is None or measured["low"] is None:
        return ""
    return f"[{number(measured['low'])}, {number(measured['high'])}]"


def paper_text(row: Mapping[str, Any]) -> str:
    """The paper's number, signed where it is a difference."""
    if row["figure"] is None:
        return "> 0" if row["measured"] is not None else "–"
    if row["kind"] == "ordering" and row["figure"] in (-1.0, 1.0):
        return "> 0" if row["figure"] > 0 else "< 0"
    return number(row["figure"], row["unit"], signed=row["kind"] == "ordering")


def here_text(row: Mapping[str, Any]) -> str:
    """What was measured."""
    if row["measured"] is None:
        return "–"
    return number(row["measured"]["value"], row["unit"], signed=row["kind"] == "ordering")


COLUMNS = ("claim", "where", "paper", "here", "95 % interval", "verdict")


def cells(row: Mapping[str, Any]) -> list[str]:
    """One row of the table."""
    return [row["id"], row["where"], paper_text(row), here_text(row), interval(row), verdict_text(row)]


def summary(document: Mapping[str, Any]) -> str:
    """``12 reproduced, 5 exceeded, ...``."""
    parts = [f"{count} {verdict}" for verdict, count in document["counts"].items() if count]
    open_ = document["undecided"]
    more = f" ({open_} of them undecided: their intervals hold both answers)" if open_ else ""
    count = len(document["claims"])
    return f"{count} claim{'s' * (count != 1)}: {', '.join(parts)}{more}."


def headline(document: Mapping[str, Any]) -> str:
    """Where and how."""
    mode = "quick run: fewer seeds, steps and copies, smaller models" if document["mode"] == "quick" else "full run"
    data = document["data_folder"] or "built-in data only"
    return (
        f"{mode}; {document['host']['device']}, {document['host']['cores']} cores, torch {document['host']['torch']}; "
        f"seed {document['seed']}; {data}"
    )


def markdown(document: Mapping[str, Any]) -> str:
    """The report."""
    lines = ["# Claims of the papers, measured here", "", summary(document), "", headline(document) + ".", ""]
    lines += [f"* **{key}**: {text}" for key, text in document["papers"].items()]
    lines += [
        "",
        "Verdicts are computed from the measured numbers by the rule in the last table; intervals are 95 %, "
        "Student's t over seeds, draws or turns. *Undecided*: the interval holds both answers.",
        "",
        "![overview](overview.png)",
    ]
    for area, title in AREAS.items():
        rows = [row for row in document["claims"] if row["area"] == area]
        if not rows:
            continue
        lines += ["", f"## {title}", "", "| claim | where | what | paper | here | 95 % | verdict |"]
        lines += ["|---|---|---|---:|---:|---|---|"]
        lines += [_markdown_row(row) for row in rows]
    lines += _section(document, "Why not reproduced", "not reproduced", "why")
    lines += _section(document, "Not testable here", "not testable here", "why")
    lines += _section(document, "Failed", "failed", "why")
    lines += ["", "## How each was measured", "", "| claim | setup | rule | seconds |", "|---|---|---|---:|"]
    for row in document["claims"]:
        if row["measured"] is not None:
            how = _escape(row["measured"]["how"])
            lines.append(f"| `{row['id']}` | {how} | {_escape(row['rule'])} | {row['seconds']:.0f} |")
    return "\n".join(lines) + "\n"


def _markdown_row(row: Mapping[str, Any]) -> str:
    verdict = verdict_text(row)
    verdict = f"**{verdict}**" if row["verdict"] in ("reproduced", "exceeded") else verdict
    parts = (f"`{row['id']}`", f"{row['paper']} {row['where']}", row["text"], paper_text(row), here_text(row))
    return "| " + " | ".join(_escape(part) for part in (*parts, interval(row), verdict)) + " |"


def _section(document: Mapping[str, Any], title: str, verdict: str, key: str) -> list[str]:
    rows = [row for row in document["claims"] if row["verdict"] == verdict]
    if not rows:
        return []
    return ["", f"## {title}", "", *(f"* `{row['id']}` ({row['text']}): {row[key]}" for row in rows)]


def _escape(text: str) -> str:
    return text.replace("|", "\\|")
