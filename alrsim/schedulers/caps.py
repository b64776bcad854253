"""Caps per unit: live micro-batches, and bytes. Who holds how much, when; and a gate that lets nobody in too many.

A unit *holds* a micro-batch of a stage from the start of the stage's first forward of it to the end of the stage's
last gradient of it. A stage without gradient tasks holds nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import repeat

from alrsim.errors import OptionError
from alrsim.schedule.evaluate import evaluate
from alrsim.schedule.lower import Lowered, lower
from alrsim.schedule.schedule import Schedule
from alrsim.schedulers.search import SearchOptions
from alrsim.tasks.problem import Problem
from alrsim.tasks.token import NONE
from alrsim.timeline.memory import memory_points, peak_memory
from alrsim.timeline.timeline import Span, Timeline, TransferSpan

_HOLDERS, _GRADIENTS = frozenset("F"), frozenset("BIWGC")


@dataclass(frozen=True, slots=True)
class Caps:
    """Limits per unit; ``None``: none.

    Attributes:
        live: Most micro-batches held.
        bytes: Capacity, where buffers have bytes.
    """

    live: tuple[int, ...] | None = None
    bytes: tuple[int | None, ...] | None = None

    @property
    def any(self) -> bool:
        return self.live is not None or self.bytes is not None


@dataclass(frozen=True, slots=True)
class Slot:
    """A micro-batch of a stage: the forwards that begin to hold it and the gradients that end it."""

    stage: int
    microbatch: int
    forwards: tuple[int, ...]
    gradients: tuple[int, ...]


def caps_of(problem: Problem, options: SearchOptions) -> Caps:
    """The caps that apply to a problem.

    Raises:
        OptionError: not one live cap per unit.
    """
    units = problem.machine.units
    live = options.live
    if isinstance(live, int):
        live = (live,) * len(units)
    if live is not None and len(live) != len(units):
        raise OptionError(f"{len(live)} live caps for {len(units)} units", where="search options, live")
    sizes = any(buffer.bytes for buffer in problem.tasks.buffers)
    limited = options.memory and sizes and any(unit.memory_bytes is not None for unit in units)
    return Caps(live, tuple(unit.memory_bytes for unit in units) if limited else None)


def slots_of(problem: Problem) -> list[Slot]:
    """Every micro-batch of every stage that is held, in the order of stages and micro-batches."""
    begins: dict[tuple[int, int], list[int]] = {}
    ends: dict[tuple[int, int], list[int]] = {}
    for index, task in enumerate(problem.tasks.tasks):
        key = task.id.stage, task.id.microbatch
        if key[0] >= problem.tasks.stages or key[1] == NONE:
            continue
        if task.id.kind in _HOLDERS:
            begins.setdefault(key, []).append(index)
        elif task.id.kind in _GRADIENTS:
            ends.setdefault(key, []).append(index)
    return [Slot(*key, tuple(begins[key]), tuple(ends[key])) for key in sorted(begins) if key in ends]


def live_peaks(problem: Problem, units: Sequence[int], starts: Sequence[int], ends: Sequence[int]) -> list[int]:
    """Most micro-batches held by each unit; a slot is held where its first forward runs.

    Args:
        units: Unit per task.
        starts: Per task, in ticks.
        ends: Per task.
    """
    changes: list[list[tuple[int, int]]] = [[] for _ in problem.machine.units]
    for slot in slots_of(problem):
        first = min(slot.forwards, key=lambda task: starts[task])
        last = max(ends[task] for task in slot.gradients)
        if last > starts[first]:
            changes[units[first]] += [(starts[first], 1), (last, -1)]
    peaks = []
    for row in changes:
        live = peak = 0
        for _, step in sorted(row):  # what ends at an instant has ended before anything starts
            live += step
            peak = max(peak, live)
        peaks.append(peak)
    return peaks


@dataclass(frozen=True)
class Timed:
    """A schedule with its times by the evaluator, per task of the problem."""

    problem: Problem
    schedule: Schedule
    lowered: Lowered
    units: list[int]
    starts: list[int]
    ends: list[int]

    @property
    def makespan(self) -> int:
        return max(self.ends, default=0)

    def shortages(self, caps: Caps) -> list[tuple[str, int, int, str]]:
        """``(unit, demand, capacity, "bytes" or "live micro-batches")`` of every unit that holds too much."""
        names = [unit.name for unit in self.problem.machine.units]
        found: list[tuple[str, int, int | None, str]] = []
        if caps.live is not None:
            peaks = live_peaks(self.problem, self.units, self.starts, self.ends)
            found += zip(names, peaks, caps.live, repeat("live micro-batches"), strict=False)
        if caps.bytes is not None:
            found += zip(names, byte_peaks(self).values(), caps.bytes, repeat("bytes"), strict=False)
        return [(name, peak, cap, what) for name, peak, cap, what in found if cap is not None and peak > cap]


def timed(problem: Problem, schedule: Schedule) -> Timed:
    """Evaluate a schedule that is known to be valid."""
    lowered = lower(problem, schedule)
    begun, ended = evaluate(lowered)
    count = len(problem.tasks.tasks)
    units, starts, ends = [0] * count, [0] * count, [0] * count
    for item, members in enumerate(lowered.tasks):
        for task in members:
            units[task], starts[task], ends[task] = lowered.unit[item], int(begun[item]), int(ended[item])
    return Timed(problem, schedule, lowered, units, starts, ends)


def byte_peaks(found: Timed) -> dict[str, int]:
    """Most live bytes per unit under `latency` transfers, counted as for a simulated timeline."""
    problem, lowered = found.problem, found.lowered
    names = tuple(unit.name for unit in problem.machine.units)
    spans = sorted(
        (found.starts[task], found.units[task], found.ends[task], task) for task in range(len(problem.tasks.tasks))
    )
    transfers = []
    for message in lowered.messages:
        sent = 0 if message.source == NONE else found.ends[lowered.tasks[message.source][-1]]
        buffer = problem.tasks.buffers[message.buffer]
        source, target = names[message.source_unit], names[message.target_unit]
        transfers.append(TransferSpan(buffer.name, source, target, sent, sent + message.delay, buffer.bytes))
    timeline = Timeline(
        "simulated",
        found.schedule.digest,
        names,
        tuple(Span(problem.tasks.tasks[task].id, names[unit], start, end) for start, unit, end, task in spans),
        tuple(transfers),
    )
    points = memory_points(problem.tasks, timeline, [names[home] for home in lowered.home])
    return peak_memory(Timeline("simulated", "", names, timeline.spans, timeline.transfers, points))


@dataclass
class Gate:
    """Lets a forward start only if every micro-batch begun can still be finished, the oldest first (banker's rule).

    With forwards of a stage in ascending order and this rule on every unit, no cap can lock the step up: the oldest
    unfinished micro-batch always has room for all its stages on a unit.
    """

    caps: tuple[int, ...]
    unit: Sequence[int]
    needs: list[dict[int, int]] = field(default_factory=list)
    held: list[dict[int, int]] = field(default_factory=list)
    slot_of: dict[int, int] = field(default_factory=dict)
    slots: list[Slot] = field(default_factory=list)
    open: list[bool] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, problem: Problem, unit: Sequence[int], caps: tuple[int, ...]) -> "Gate":
        """A gate for tasks whose units are known; all forwards of a slot run on one unit."""
        gate = cls(caps, unit, [{} for _ in caps], [{} for _ in caps])
        gate.slots = sorted(slots_of(problem), key=lambda slot: slot.microbatch)  # needs are then in order of age
        gate.open = [False] * len(gate.slots)
        gate.left = [len(slot.gradients) for slot in gate.slots]
        for index, slot in enumerate(gate.slots):
            here = gate.needs[unit[slot.forwards[0]]]
            here[slot.microbatch] = here.get(slot.microbatch, 0) + 1
            gate.slot_of.update(dict.fromkeys(slot.forwards, index))
            gate.ends.update(dict.fromkeys(slot.gradients, index))
        return gate

    def allows(self, task: int) -> bool:
        """Whether a task may start now."""
        index = self.slot_of.get(task)
        if index is None or self.open[index]:
            return True
        unit, microbatch = self.unit[task], self.slots[index].microbatch
        needs, held = self.needs[unit], self.held[unit]
        free = self.caps[unit] - sum(held.values()) - 1
        if free < 0:
            return False
        youngest = max(held, default=microbatch)
        for other, need in needs.items():  # the oldest first: each must find room, then gives back what it holds
            if other > max(youngest, microbatch):
                break
            if need - (other == microbatch) > free and (other <= microbatch or other in held):
                return False
            free += held.get(other, 0) + (other == microbatch)
        return True

    def line(self, task: int) -> tuple[int, int] | None:
        """``(stage, micro-batch)`` of a task that needs room on its unit, ``None`` if it needs none.

        Where a micro-batch of a stage must wait, so must all younger ones of that stage.
        """
        index = self.slot_of.get(task)
        if index is None or self.open[index]:
            return None
        return self.slots[index].stage, self.slots[index].microbatch

    def start(self, task: int) -> None:
        """A task starts."""
        index = self.slot_of.get(task)
        if index is not None and not self.open[index]:
            self.open[index] = True
            unit, microbatch = self.unit[task], self.slots[index].microbatch
            self.needs[unit][microbatch] -= 1
            self.held[unit][microbatch] = self.held[unit].get(microbatch, 0) + 1

    def end(self, task: int) -> int:
        """A task has ended; returns the unit that may have room now, or ``NONE``."""
        index = self.ends.get(task)
        if index is None:
            return NONE
        self.left[index] -= 1
        if self.left[index]:
            return NONE
        slot = self.slots[index]
        unit = self.unit[slot.forwards[0]]
        self.held[unit][slot.microbatch] -= 1
        if not self.held[unit][slot.microbatch]:
            del self.held[unit][slot.microbatch]
        if not self.needs[unit][slot.microbatch] and slot.microbatch not in self.held[unit]:
            del self.needs[unit][slot.microbatch]
        return unit
