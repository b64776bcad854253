"""The log of a run: one row per evaluation, as CSV and JSON lines."""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from io import StringIO


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the log.

    Attributes:
        step: Optimizer steps done.
        epoch: Times that the training samples have been gone through.
        train_loss: Mean loss of the batches since the last row, before each update; ``None`` before the first step.
        test_loss: Mean cross entropy on the test part, by the clean model.
        test_accuracy: Share of the test part that it gets right.
        rate: Learning rate of the next step.
        forwards: Full forwards that each sample of a batch has passed through so far, clean ones included.
        work: Multiply-accumulates so far, in those of one forward of a batch (F).
        seconds: Time spent in steps so far, in all runs.
        copies: Noise draws per sample of the next step; 0 for a method without noise.
        cosine: Split-half cosine of the last monitored step; ``None`` without a monitor.
    """

    step: int
    epoch: float
    train_loss: float | None
    test_loss: float
    test_accuracy: float
    rate: float
    forwards: float
    work: float
    seconds: float
    copies: int
    cosine: float | None


def to_csv(rows: Sequence[Row]) -> bytes:
    """With a header; numbers in full."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(Row))
    writer.writerows(asdict(row).values() for row in rows)
    return text.getvalue().encode()


def to_jsonl(rows: Sequence[Row]) -> bytes:
    """One object per line."""
    return "".join(json.dumps(asdict(row), allow_nan=False) + "\n" for row in rows).encode()
