"""How the result of ``reproduce`` is shown: a table, a report in markdown, and one picture."""

from collections.abc import Mapping
from typing import Any

from alrsim.experiments.chart import draw_claims, draw_overview
from alrsim.experiments.result import ClaimRow, ReproduceResult
from alrsim.experiments.wording import (
    AREAS,
    headline,
    here_text,
    interval,
    number,
    paper_text,
    summary,
    verdict_text,
)
from alrsim.reports.parts import Parts
from alrsim.reports.tables import plain_table, to_text

MISSES = {"Why not reproduced": "not reproduced", "Not testable here": "not testable here", "Failed": "failed"}
"""Verdicts that are explained, by the headings of the report."""


def reproduce_text(result: ReproduceResult) -> str:
    """The table, and why not; of a list what would be measured."""
    if result.host is None:
        listed = [[row.id, row.where, number(row.figure, row.unit), row.budget, row.text] for row in result]
        return to_text(plain_table(("claim", "where", "paper", "full run", "what"), listed, left=5))
    cells = [[row.id, row.where, paper_text(row), here_text(row), interval(row), verdict_text(row)] for row in result]
    table = plain_table(("claim", "where", "paper", "here", "95 % interval", "verdict"), cells, left=2)
    table.columns[-1].justify = "left"
    lines = [headline(result), to_text(table).rstrip("\n"), summary(result)]
    for verdict in MISSES.values():
        missed = [f"  {row.id}: {row.why}" for row in result if row.verdict == verdict]
        lines += [f"\n{verdict}:", *missed] if missed else []
    return "\n".join([*lines, *(f"wrote {path}" for path in result.written)])


def reproduce_rows(result: ReproduceResult) -> list[dict[str, Any]]:
    """One row per claim."""
    shared = ("id", "paper", "where", "area", "figure", "unit", "verdict", "decided", "seconds")
    ends = ("value", "low", "high")
    return [
        {name: getattr(row, name) for name in shared} | {end: getattr(row.measured, end, None) for end in ends}
        for row in result
    ]


def reproduce_files(result: ReproduceResult) -> Mapping[str, bytes]:
    """``report.md`` and ``overview.png``; nothing of a list."""
    if result.host is None:
        return {}
    return {"report.md": markdown(result).encode(), "overview.png": draw_overview(result)}


def markdown(result: ReproduceResult) -> str:
    """The report."""
    lines = ["# Claims of the papers, measured here", "", summary(result), "", headline(result) + ".", ""]
    lines += [f"* **{key}**: {text}" for key, text in result.papers.items()]
    lines += [
        "",
        "Verdicts are computed from the measured numbers by the rule in the last table; intervals are 95 %, "
        "Student's t over seeds, draws or turns. *Undecided*: the interval holds both answers.",
        "",
        "![overview](overview.png)",
    ]
    for area, title in AREAS.items():
        rows = [_markdown_row(row) for row in result if row.area == area]
        head = ["", f"## {title}", "", "| claim | where | what | paper | here | 95 % | verdict |"]
        lines += [*head, "|---|---|---|---:|---:|---|---|", *rows] if rows else []
    for title, verdict in MISSES.items():
        missed = [f"* `{row.id}` ({row.text}): {row.why}" for row in result if row.verdict == verdict]
        lines += ["", f"## {title}", "", *missed] if missed else []
    lines += ["", "## How each was measured", "", "| claim | setup | rule | seconds |", "|---|---|---|---:|"]
    lines += [
        f"| `{row.id}` | {_escape(row.measured.how)} | {_escape(row.rule)} | {row.seconds:.0f} |"
        for row in result
        if row.measured is not None
    ]
    return "\n".join(lines) + "\n"


def _markdown_row(row: ClaimRow) -> str:
    verdict = verdict_text(row)
    verdict = f"**{verdict}**" if row.verdict in ("reproduced", "exceeded") else verdict
    parts = (f"`{row.id}`", f"{row.paper} {row.where}", row.text, paper_text(row), here_text(row))
    return "| " + " | ".join(_escape(part) for part in (*parts, interval(row), verdict)) + " |"


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


RENDERER = Parts(reproduce_text, reproduce_rows, draw_claims, reproduce_files)
