"""Schedules in the CSV of ``torch.distributed.pipelining``: one row for each rank, one cell for each action.

``0F3`` forward, ``0B3`` full backward, ``0I3`` input gradient, ``0W3`` weight gradient, an empty cell a bubble,
``0REDUCE_GRAD`` the end of a stage's accumulation, ``(0F3;3B1)OVERLAP_F_B`` two actions that run together. Torch is
not imported: the format is plain text.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from alrsim.errors import ScheduleError
from alrsim.schedule.rows import complete_rows, some
from alrsim.schedule.schedule import Lane, Schedule
from alrsim.tasks.token import KIND_NAMES, NONE, Kind, TaskId
from alrsim.writing import write_atomically

_CELL = re.compile(r"(?P<stage>[0-9]{1,9})(?P<what>[A-Z_]+?)(?P<microbatch>[0-9]{0,9})")
_OVERLAP = re.compile(r"\((?P<first>[^;()]*);(?P<second>[^;()]*)\)OVERLAP_F_B")
_COMPUTE: dict[str, Kind] = {"F": "F", "B": "B", "I": "I", "W": "W"}
_MOVES = ("SEND_F", "RECV_F", "SEND_B", "RECV_B", "UNSHARD", "RESHARD")


@dataclass(frozen=True)
class CsvSchedule:
    """What a CSV file holds, and what was read into it or out of it."""

    schedule: Schedule
    notes: tuple[str, ...]


@dataclass
class _Reading:
    """Collected while cells are read."""

    updates: bool
    where: str
    overlaps: list[tuple[TaskId, TaskId]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)


def parse_pytorch_csv(
    text: str,
    *,
    name: str = "pytorch",
    where: str = "csv",
    units: Sequence[str] | None = None,
    updates: bool = True,
    repair: bool = False,
) -> CsvSchedule:
    """Read PyTorch's rows.

    Args:
        units: Lane names, one for each row; ``None``: u0, u1...
        updates: ``REDUCE_GRAD`` becomes U; if off it is dropped with a note.
        repair: Renumber a stage whose forwards count from 1 (the last rank of PyTorch's own 1F1B).

    Raises:
        ScheduleError: a cell is not an action; rows and units differ in number; a token is missing, double or
            unknown; a stage is on two ranks.
    """
    rows = _rows(text, where)
    while rows and not any(cell.strip() for cell in rows[-1]) and (units is None or len(rows) > len(units)):
        rows.pop()
    if not rows:
        raise ScheduleError("holds no actions", where=where, fix="write one row for each rank")
    names = [f"u{rank}" for rank in range(len(rows))] if units is None else list(units)
    if len(names) != len(rows):
        raise ScheduleError(f"{len(rows)} rows for {len(names)} units", where=where, fix="give one row for each unit")
    reading = _Reading(updates, where)
    lanes = [_read_row(reading, rank, row) for rank, row in enumerate(rows)]
    _check_ranks(lanes, where)
    notes = _notes(reading)
    lanes = complete_rows(lanes, where, repair, notes)
    schedule = Schedule(
        tuple(Lane(unit, tuple(lane)) for unit, lane in zip(names, lanes, strict=True)), name, tuple(reading.overlaps)
    )
    return CsvSchedule(schedule, tuple(notes))


def write_pytorch_csv(path: Path, schedule: Schedule) -> None:
    """Write :func:`format_pytorch_csv`, whole or not at all."""
    write_atomically(path, format_pytorch_csv(schedule).encode())


def format_pytorch_csv(schedule: Schedule) -> str:
    """The CSV that PyTorch's ``_load_csv`` reads and its validator accepts.

    A gradient that is the only one of its stage and micro-batch (a model's first stage has W without I) is PyTorch's
    full backward. Bubbles are not written: they follow from the order.

    Raises:
        ScheduleError: losses, updates, LR tasks, copy groups, a stage on two units, or an overlap that does not join
            a forward and a full backward: PyTorch's format has no word for them.
    """
    tokens = [task for lane in schedule.lanes for task in lane.tasks]
    where = f"schedule {schedule.name}".rstrip()
    _refuse_unwritable(schedule, tokens, where)
    have = set(tokens)
    out = io.StringIO()
    rows = ([[_word(task, have) for task in fused] for fused in lane] for lane in schedule.fused_lanes())
    csv.writer(out).writerows(
        [word if not more else f"({word};{more[0]})OVERLAP_F_B" for word, *more in row] for row in rows
    )
    return out.getvalue()


def _rows(text: str, where: str) -> list[list[str]]:
    try:
        return list(csv.reader(io.StringIO(text)))
    except csv.Error as error:
        raise ScheduleError(f"is not CSV: {error}", where=where) from None


def _read_row(reading: _Reading, rank: int, row: Sequence[str]) -> list[TaskId]:
    lane: list[TaskId] = []
    for position, cell in enumerate(row):
        where = f"{reading.where}: row {rank}, cell {position}"
        action = cell.strip()
        if not action:
            continue
        pair = _OVERLAP.fullmatch(action)
        if pair is None:
            task = _read_cell(reading, action, where)
            lane += [] if task is None else [task]
            continue
        both = [_read_cell(reading, pair[part].strip(), where) for part in ("first", "second")]
        first, second = both
        if first is None or second is None or sorted((first.kind, second.kind)) != ["B", "F"]:
            raise ScheduleError(f"{cell!r} does not overlap a forward and a full backward", where=where)
        reading.overlaps.append((first, second))
        lane += [first, second]
    return lane


def _read_cell(reading: _Reading, action: str, where: str) -> TaskId | None:
    match = _CELL.fullmatch(action)
    what = match["what"] if match else ""
    if match is None or what not in (*_COMPUTE, *_MOVES, "REDUCE_GRAD"):
        raise ScheduleError(
            f"{action!r} is not an action of PyTorch's pipelining",
            where=where,
            fix="write stage, action and micro-batch such as 2F0; actions are F, B, I, W and REDUCE_GRAD",
        )
    stage, number = int(match["stage"]), match["microbatch"]
    if what in _COMPUTE:
        if not number:
            raise ScheduleError(f"{action!r} needs a micro-batch", where=where)
        return TaskId(stage, _COMPUTE[what], int(number))
    if what == "REDUCE_GRAD" and reading.updates:
        return TaskId(stage, "U")
    reading.dropped[what] += 1
    return None


def _notes(reading: _Reading) -> list[str]:
    notes = []
    moved = {what: count for what, count in reading.dropped.items() if what in _MOVES}
    if moved:
        some = ", ".join(f"{count} {what}" for what, count in moved.items())
        notes.append(f"dropped {some}: transfers follow from the placement, sharding is not modelled")
    if reading.dropped["REDUCE_GRAD"]:
        notes.append(f"dropped {reading.dropped['REDUCE_GRAD']} REDUCE_GRAD: updates are off")
    return notes


def _check_ranks(lanes: list[list[TaskId]], where: str) -> None:
    rank_of: dict[int, int] = {}
    for rank, lane in enumerate(lanes):
        for task in lane:
            if rank_of.setdefault(task.stage, rank) != rank:
                raise ScheduleError(f"stage {task.stage} is on rows {rank_of[task.stage]} and {rank}", where=where)


def _refuse_unwritable(schedule: Schedule, tokens: Sequence[TaskId], where: str) -> None:
    strange = [task for task in tokens if task.kind not in _COMPUTE]
    if strange:
        kinds = sorted({task.kind for task in strange})
        words = ", ".join(f"{kind} ({KIND_NAMES[kind]})" for kind in kinds)
        raise ScheduleError(
            f"PyTorch's CSV has no action for {words}: {some(map(str, strange))}",
            where=where,
            fix="write rule bp or bp-split without loss and update tasks, or use alrsim's own format",
        )
    grouped = [task for task in tokens if task.group != NONE]
    if grouped:
        raise ScheduleError(
            f"PyTorch's CSV has no copy groups: {some(map(str, grouped))}", where=where, fix="use alrsim's own format"
        )
    rank_of: dict[int, str] = {}
    for lane in schedule.lanes:
        for task in lane.tasks:
            if rank_of.setdefault(task.stage, lane.unit) != lane.unit:
                raise ScheduleError(
                    f"PyTorch keeps a stage on one rank, but stage {task.stage} is on {rank_of[task.stage]} and "
                    f"{lane.unit}",
                    where=where,
                )
    for first, second in schedule.overlaps:
        if sorted((first.kind, second.kind)) != ["B", "F"]:
            raise ScheduleError(f"PyTorch overlaps a forward and a full backward, not {first} + {second}", where=where)


def _word(task: TaskId, have: set[TaskId]) -> str:
    alone = task.kind in "IW" and task._replace(kind="W" if task.kind == "I" else "I") not in have
    return str(task._replace(kind="B")) if alone else str(task)
