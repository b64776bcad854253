"""What ``alrsim train`` prints for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from alrsim.cli.output import say, show

MOST_ROWS = 12


def tell(document: Mapping[str, Any], files: Sequence[str]) -> None:
    """Headline, table of the log, what it took."""
    from alrsim.reports.tables import plain_table

    title, *lines = document["text"]
    say(title)
    columns = ["step", "epoch", "train loss", "test loss", "test accuracy", "forwards", "work in F", "seconds"]
    monitored = any(row["cosine"] is not None for row in document["rows"])
    if document["noisy"]:
        columns += ["copies"] + (["cosine"] if monitored else [])
    show(plain_table(columns, [_row(row, columns) for row in _some(document["rows"])]))
    for line in (*lines, *document["decisions"]):
        say(line)
    for file in files:
        say(f"wrote {file}")


def _some(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """All rows, or evenly spaced ones with both ends."""
    if len(rows) <= MOST_ROWS:
        return list(rows)
    last = len(rows) - 1
    return [rows[round(index * last / (MOST_ROWS - 1))] for index in range(MOST_ROWS)]


def _row(row: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    cells = {
        "step": str(row["step"]),
        "epoch": f"{row['epoch']:.1f}",
        "train loss": "" if row["train_loss"] is None else f"{row['train_loss']:.4g}",
        "test loss": f"{row['test_loss']:.4g}",
        "test accuracy": f"{100 * row['test_accuracy']:.1f} %",
        "forwards": f"{row['forwards']:,.0f}",
        "work in F": f"{row['work']:,.0f}",
        "seconds": f"{row['seconds']:.1f}",
        "copies": str(row["copies"]),
        "cosine": "" if row["cosine"] is None else f"{row['cosine']:.2f}",
    }
    return [cells[column] for column in columns]
