"""A schedule is one lane per unit: an order of tasks, without times."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path

from alrsim.tasks.token import Kind, TaskId
from alrsim.warning import warn


@dataclass(frozen=True, slots=True)
class Lane:
    """The ordered tasks of one unit."""

    unit: str
    tasks: tuple[TaskId, ...]


@dataclass(frozen=True)
class Schedule:
    """One lane per unit, in machine order.

    Attributes:
        name: What made it: ``1f1b``, or a file's name.
        overlaps: Pairs of tasks, adjacent in their lane, that run as one fused span (PyTorch's OVERLAP_F_B).
    """

    lanes: tuple[Lane, ...]
    name: str = ""
    overlaps: tuple[tuple[TaskId, TaskId], ...] = ()

    @cached_property
    def digest(self) -> str:
        """Hash of the lanes and overlaps (not of the name): equal digests are the same schedule."""
        text = ";".join(f"{lane.unit}:{' '.join(map(str, lane.tasks))}" for lane in self.lanes)
        fused = ";".join(f"{first}+{second}" for first, second in self.overlaps)
        return hashlib.sha256(f"{text}|{fused}".encode()).hexdigest()[:16]

    @cached_property
    def unit_of(self) -> dict[TaskId, int]:
        """Lane index by task."""
        return {task: index for index, lane in enumerate(self.lanes) for task in lane.tasks}

    def as_dict(self) -> dict[str, str]:
        """``{unit: "0F0 0F1 ..."}``, the form of the JSON output."""
        return {lane.unit: " ".join(map(str, lane.tasks)) for lane in self.lanes}

    def fused_lanes(self) -> list[list[tuple[TaskId, ...]]]:
        """Per unit, what it runs without a break: one task, or a pair of ``overlaps`` at the place of its first."""
        partner = dict(self.overlaps)
        absorbed = set(partner.values())
        return [
            [(task, partner[task]) if task in partner else (task,) for task in lane.tasks if task not in absorbed]
            for lane in self.lanes
        ]

    def without(self, kinds: "Collection[Kind] | str") -> "Schedule":
        """The same order without the tasks of some kinds."""
        lanes = (Lane(lane.unit, tuple(task for task in lane.tasks if task.kind not in kinds)) for lane in self.lanes)
        return replace(self, lanes=tuple(lanes))

    def to_pytorch_csv(self, path: str | Path) -> None:
        """Write the order as PyTorch's pipelining reads it; losses and updates, for which it has no word, are left out
        with a warning.

        Raises:
            ScheduleError: LR tasks, copy groups, a stage on two units: PyTorch's format cannot say that.
            FileError: the file cannot be written.
        """
        dropped = [task for lane in self.lanes for task in lane.tasks if task.kind in "LU"]
        # By name, because that file reads schedules: what is written knows nothing of its forms on disk.
        import_module("alrsim.schedule.pytorch_csv").write_pytorch_csv(Path(path), self.without("LU"))
        if dropped:
            warn(f"PyTorch's CSV has no word for losses and updates: {len(dropped)} tasks are left out of {path}")
