"""The calibration section of a profile: what ``alrsim calibrate`` measured, with its spread, and a checksum.

The section is a record, not a place to edit: a checksum over its values makes a cut-off or edited file an error.
Nothing in it is ever executed or unpickled.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from alrsim.hardware.figure import Count, NonNegative, Positive, Section, Share, Text
from alrsim.hardware.precision import Precision

Whole = Annotated[int, Field(strict=True, ge=0)]
Kernel = Literal["matmul", "conv", "elementwise", "copy", "launch"]


class HostSection(Section):
    """Whether other programs ran meanwhile."""

    cpu_share: Share
    drift: NonNegative


class LinkSection(Section):
    """One direction between two units: the sender is busy for ``send_ns`` plus the bytes at ``bandwidth``, then
    ``latency_ns`` pass.

    Attributes:
        bandwidth_gb_per_s: Absent where a reference is handed over.
        error: Median relative error of the fit.
        points: ``[bytes, sender busy ns, usable at the receiver ns]``.
    """

    source: Whole
    target: Whole
    send_ns: Whole
    latency_ns: Whole
    bandwidth_gb_per_s: Positive | None = None
    error: NonNegative
    points: tuple[tuple[Whole, Whole, Whole], ...] = ()


class KernelSection(Section):
    """A kernel over sizes.

    Attributes:
        points: ``[size, alone ns, busy ns, spread]``; the size is MACs, elements (elementwise), bytes read and
            written (copy), or operators (launch).
        error: Median relative error of the fitted figures of this profile over the points.
    """

    kernel: Kernel
    precision: Precision
    error: NonNegative
    points: Annotated[tuple[tuple[Count, Positive, Positive, NonNegative], ...], Field(min_length=1)]


class RooflineSection(Section):
    """How long the tasks of the tables took beside what the roofline says:
    ``start_ns + launch_ns * operators + slope * (roofline without launches)``.

    The start is what the executor's Python takes in every task, the launches what eager operators of a model take, the
    slope what its kernels lose against the best products and copies.

    Attributes:
        error: Median relative error of that line over the kinds of tasks.
        plain_error: The same of the bare roofline.
    """

    start_ns: Whole
    launch_ns: Whole
    slope: NonNegative
    error: NonNegative
    plain_error: NonNegative


class TableSection(Section):
    """Task times of one model under one rule.

    Attributes:
        options: Options of the rule that change what a task does, as words.
        repeats: Steps behind each figure.
        rows: One line per stage, kind, micro-batch size and copies (:class:`Row`).
    """

    model: Text
    rule: Text
    options: str
    formats: Text
    repeats: Count
    rows: Text

    @model_validator(mode="after")
    def _readable(self) -> Self:
        parse_rows(self.rows)
        return self


class Calibration(Section):
    """What was measured, where, when and by what.

    Attributes:
        overhead_ns: Executor time per task besides its kernel.
        units: Units at work at the same time in the busy phase.
        roofline: What measured tasks say of this profile's roofline; absent where no model was measured.
    """

    checksum: Text
    date: Text
    program: Text
    device: Text
    torch: Text
    executor: Text
    units: Count
    cores: Count
    repeats: Count
    overhead_ns: Whole
    host: HostSection
    roofline: RooflineSection | None = None
    links: tuple[LinkSection, ...] = ()
    kernels: tuple[KernelSection, ...] = ()
    tables: tuple[TableSection, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _unchanged(cls, values: Any) -> Any:
        if isinstance(values, dict) and "checksum" in values and values["checksum"] != checksum(values):
            raise ValueError(
                "checksum: does not fit the values: the section was cut off or edited; calibrate again, or take the "
                "calibration section out"
            )
        return values


def checksum(values: Mapping[str, Any]) -> str:
    """SHA-256 over the section's plain values, the checksum itself left out."""
    rest = {key: value for key, value in values.items() if key != "checksum"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), default=str)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Row:
    """Times of one kind of task.

    Attributes:
        stage: Digest of the stage's operators and sizes (:func:`alrsim.cost.cost_tables.stage_digest`).
        kind: Letter of the task.
        clean: 1 for the clean forward (copy group 0).
        samples: In the micro-batch.
        copies: Stacked in the task.
        alone: ns with idle neighbours.
        busy: ns with all other units at work.
        spread: Interquartile range over median, of ``alone``.
        scratch: Bytes that the task allocates and frees inside itself; negative where it frees what it reads on its
            way (a backward).
    """

    stage: str
    kind: str
    clean: int
    samples: int
    copies: int
    alone: int
    busy: int
    spread: float
    scratch: int


_COLUMNS = ("stage", "kind", "clean", "samples", "copies", "alone_ns", "busy_ns", "spread", "scratch_bytes")


def format_rows(rows: tuple[Row, ...]) -> str:
    """A header and one line per row, fields parted by spaces."""
    lines = (" ".join(map(str, astuple(row))) for row in rows)
    return "\n".join((" ".join(_COLUMNS), *lines)) + "\n"


def parse_rows(text: str) -> tuple[Row, ...]:
    """The inverse of :func:`format_rows`.

    Raises:
        ValueError: a line that is no row; names its number.
    """
    header, *lines = text.splitlines() or [""]
    if tuple(header.split()) != _COLUMNS:
        raise ValueError(f"rows: the first line must be {' '.join(_COLUMNS)!r}")
    return tuple(_row(number, line) for number, line in enumerate(lines, 2))


def _row(number: int, line: str) -> Row:
    try:
        stage, kind, clean, samples, copies, alone, busy, spread, scratch = line.split()
        row = Row(
            stage, kind, int(clean), int(samples), int(copies), int(alone), int(busy), float(spread), int(scratch)
        )
    except ValueError:
        raise ValueError(f"rows: line {number} is no row of {len(_COLUMNS)} fields: {line[:60]!r}") from None
    if not (0 <= row.alone <= row.busy and row.samples > 0 and row.copies > 0):
        raise ValueError(f"rows: line {number} holds impossible figures: {line[:60]!r}")
    return row
