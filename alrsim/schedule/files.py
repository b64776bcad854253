"""Schedules on disk. Three forms are read, told apart by their content:

* ours, tagged: ``{"format": "alrsim.schedule/1", "value": {"lanes": [{"unit": "u0", "tasks": ["0F0", ...]}, ...]}}``,
  with the recipe of its tasks (:mod:`alrsim.schedule.recipe`) where it was made for a model;
* plain JSON, to be typed by hand: ``{"u0": "0F0 0F1 0B0 0B1", "u1": ...}``, where ``0F3+3B1`` overlaps two tasks;
* PyTorch's CSV (:mod:`alrsim.schedule.pytorch_csv`).
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from alrsim.errors import FileError
from alrsim.files import decode_json, from_json, read_text, to_json
from alrsim.schedule.adapt import Fitted, fit
from alrsim.schedule.pytorch_csv import parse_pytorch_csv
from alrsim.schedule.recipe import Recipe
from alrsim.schedule.schedule import Lane, Schedule
from alrsim.tasks.problem import Problem
from alrsim.tasks.token import TaskId, parse_token
from alrsim.writing import write_atomically

_KIND, _RECIPE = "schedule", "recipe"


def read_schedule(path: Path, problem: Problem, *, repair: bool = False) -> Fitted:
    """Read any of the forms for a problem; ``check`` it afterwards.

    A plain file's lanes are put in machine order. PyTorch's rows are the machine's units in order, and are fitted to
    the problem (:func:`alrsim.schedule.adapt.fit`).

    Args:
        repair: Correct the known fault of PyTorch's 1F1B rows.

    Raises:
        FileError: not readable, not one of the forms, a lane twice.
        ScheduleError: a token or action that is none; a PyTorch row that is incomplete.
    """
    text, where = read_text(path), str(path)
    units = [unit.name for unit in problem.machine.units]
    if not is_json(text, Path(path)):
        updates = any(task.id.kind == "U" for task in problem.tasks.tasks)
        read = parse_pytorch_csv(text, name=Path(path).stem, where=where, units=units, updates=updates, repair=repair)
        fitted = fit(problem, read.schedule)
        return replace(fitted, notes=read.notes + fitted.notes)
    schedule = parse_json(text, name=Path(path).stem, where=where)
    rank = {unit: position for position, unit in enumerate(units)}
    lanes = sorted(schedule.lanes, key=lambda lane: rank.get(lane.unit, len(rank)))
    return fit(problem, replace(schedule, lanes=tuple(lanes)), fill=False)


def is_json(text: str, path: Path) -> bool:
    """Whether a file holds one of the JSON forms: by its name, else by its first character."""
    return path.suffix == ".json" or text.lstrip().startswith(("{", "["))


def parse_json(text: str, *, name: str = "", where: str = "json") -> Schedule:
    """Read one of the two JSON forms.

    Raises:
        FileError: not JSON, neither form, or a lane twice.
        ScheduleError: something that is not a task token; names the lane and the position.
    """
    document = parse_document(text, where)
    if isinstance(document, dict) and "format" in document:
        return from_json(_KIND, Schedule, document, where=where)
    if not isinstance(document, dict) or not document:
        raise FileError("is not a schedule", where=where, fix='write {"u0": "0F0 0F1 ...", "u1": "..."}')
    overlaps: list[tuple[TaskId, TaskId]] = []
    lanes = tuple(_read_lane(unit, row, where, overlaps) for unit, row in document.items())
    return Schedule(lanes, name, tuple(overlaps))


def write_schedule(path: Path, schedule: Schedule, recipe: Recipe | None = None) -> None:
    """Write the tagged form, whole or not at all; it reads back equal."""
    document = to_json(_KIND, schedule)
    if recipe is not None:
        document["recipe"] = to_json(_RECIPE, recipe)
    write_atomically(path, (json.dumps(document) + "\n").encode())


def read_recipe(path: Path) -> Recipe | None:
    """The recipe in a schedule file, ``None`` in one that was typed by hand or comes from PyTorch.

    Raises:
        FileError: not readable, or a recipe that was cut off or edited.
    """
    text = read_text(path)
    if not text.lstrip().startswith("{"):
        return None
    document = parse_document(text, str(path))
    recipe = document.get("recipe") if "format" in document else None
    if recipe is None:
        return None
    return from_json(_RECIPE, Recipe, recipe, where=f"{path}, recipe")


def parse_document(text: str, where: str) -> Any:
    """JSON in which no key is given twice.

    Raises:
        FileError: it is not.
    """
    try:
        return decode_json(text, lambda pairs: _unique(pairs, where))
    except json.JSONDecodeError as error:
        raise FileError(
            f"is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}",
            where=where,
            fix="the file may be cut off; write it again",
        ) from None
    except RecursionError:
        raise FileError("is nested too deeply to be a schedule", where=where) from None
    except ValueError as error:
        raise FileError(f"is not valid JSON: {error}", where=where) from None


def plain(schedule: Schedule) -> dict[str, str]:
    """``{unit: "0F0 0F3+3B1 ..."}``: :meth:`Schedule.as_dict` with overlaps kept."""
    rows = zip(schedule.lanes, schedule.fused_lanes(), strict=True)
    return {lane.unit: " ".join("+".join(map(str, fused)) for fused in row) for lane, row in rows}


def _read_lane(unit: str, row: Any, where: str, overlaps: list[tuple[TaskId, TaskId]]) -> Lane:
    if isinstance(row, str):
        row = row.split()
    if not isinstance(row, list) or not all(isinstance(word, str) for word in row):
        raise FileError(f"lane {unit} is not a text or a list of tokens", where=where, fix='write "0F0 0F1 0B0"')
    tasks: list[TaskId] = []
    for position, word in enumerate(row):
        at = f"{where}: lane {unit}, position {position}"
        members = [parse_token(part, where=at) for part in word.split("+")]
        if len(members) > 2:
            raise FileError(f"{word!r} overlaps more than two tasks", where=at)
        if len(members) == 2:
            overlaps.append((members[0], members[1]))
        tasks += members
    return Lane(unit, tuple(tasks))


def _unique(pairs: Sequence[tuple[str, Any]], where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise FileError(f"{key!r} is given twice", where=where, fix="give each lane once")
        found[key] = value
    return found
