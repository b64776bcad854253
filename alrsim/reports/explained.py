"""Why a schedule takes as long as it does: critical path, slack and idle time of a simulated timeline, with names."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

from alrsim.schedule.check import check_and_lower
from alrsim.schedule.critical import Step, critical_path, slack
from alrsim.schedule.event_graph import Times
from alrsim.schedule.idle import Cause, Idle, Limit, idle_by_cause, idle_stretches
from alrsim.schedule.lower import Lowered
from alrsim.schedule.schedule import Schedule
from alrsim.schedulers.caps import slots_of
from alrsim.simulation.terms import event_graph_of
from alrsim.tasks.problem import Problem
from alrsim.tasks.token import NONE
from alrsim.timeline.timeline import Timeline

CAUSE_WORDS: dict[Cause, str] = {
    Cause.INPUT: "input not made yet",
    Cause.TRANSFER: "input on its way",
    Cause.LINK: "input waits for a link",
    Cause.SENDING: "the unit sends",
    Cause.CORE: "waits for a shared core",
    Cause.MEMORY: "no memory for a ready task",
    Cause.LIVE: "live cap holds a ready task",
    Cause.CHOICE: "a ready task waits by choice",
    Cause.DONE: "nothing left to do",
}


@dataclass(frozen=True)
class Explained:
    """A simulated schedule with everything that is known about its times."""

    problem: Problem
    timeline: Timeline
    lowered: Lowered
    times: Times
    path: tuple[Step, ...]
    slack: tuple[int, ...]
    idle: tuple[Idle, ...]

    @cached_property
    def by_cause(self) -> list[dict[Cause, int]]:
        """Per unit, idle ticks of each cause."""
        return idle_by_cause(self.idle, len(self.lowered.lanes))

    @property
    def units(self) -> tuple[str, ...]:
        return self.timeline.units

    def token(self, item: int) -> str:
        """``2F0``, or ``2F0+2B1`` for a fused pair."""
        return "+".join(str(self.problem.tasks.tasks[member].id) for member in self.lowered.tasks[item])

    def buffer(self, message: int) -> str:
        """The name of what a message carries."""
        return self.problem.tasks.buffers[self.lowered.messages[message].buffer].name

    def link(self, message: int) -> str:
        """``u0 -> u1``."""
        one = self.lowered.messages[message]
        return f"{self.units[one.source_unit]} -> {self.units[one.target_unit]}"

    def running(self, unit: int, time: int) -> int:
        """The item that a unit runs at a moment, ``NONE`` if it is idle."""
        starts, ends = self.times.starts, self.times.ends
        return next((item for item in self.lowered.lanes[unit] if starts[item] <= time < ends[item]), NONE)

    def idle_at(self, unit: int, time: int) -> Idle | None:
        """Why a unit is idle at a moment, ``None`` if it is not."""
        return next((one for one in self.idle if one.unit == unit and one.start <= time < one.end), None)


def explain(
    problem: Problem,
    schedule: Schedule,
    timeline: Timeline,
    *,
    overlap: Fraction = Fraction(1),
    live: Sequence[int] | None = None,
) -> Explained:
    """Explain the times of a simulated timeline.

    Args:
        timeline: What :func:`alrsim.simulation.engine.simulate` gives for the problem and the schedule.
        live: Most micro-batches that each unit may hold, where the schedule was made under such a cap.
    """
    lowered = check_and_lower(problem, schedule, overlap=overlap)
    graph = event_graph_of(problem, lowered, timeline)
    times = graph.times
    if problem.contention is not None:
        # Neighbours have slowed tasks down: what is explained are the durations that came of it.
        lowered = replace(lowered, duration=[b - a for a, b in zip(times.starts, times.ends, strict=True)])
        graph = replace(graph, lowered=lowered)
    limits = [*_memory_limit(problem, lowered, timeline), *_live_limit(problem, lowered, times, live)]
    idle = idle_stretches(graph, limits)
    return Explained(problem, timeline, lowered, times, critical_path(graph), tuple(slack(graph)), idle)


def _memory_limit(problem: Problem, lowered: Lowered, timeline: Timeline) -> list[Limit]:
    """Capacity, live bytes, and what every item allocates; nothing where no unit has a capacity."""
    capacity = tuple(unit.memory_bytes for unit in problem.machine.units)
    if all(one is None for one in capacity):
        return []
    index = {unit: number for number, unit in enumerate(timeline.units)}
    changes: list[list[int]] = [[] for _ in capacity]
    held: list[list[int]] = [[] for _ in capacity]
    for point in timeline.memory:
        changes[index[point.unit]].append(point.time)
        held[index[point.unit]].append(point.total)
    made = [0] * len(problem.tasks.tasks)
    for buffer in problem.tasks.buffers:
        if buffer.producer != NONE and not buffer.resident:
            made[buffer.producer] += buffer.bytes
    demand = [sum(made[member] for member in members) for members in lowered.tasks]
    return [Limit(Cause.MEMORY, capacity, tuple(changes), tuple(held), demand)]


def _live_limit(problem: Problem, lowered: Lowered, times: Times, live: Sequence[int] | None) -> list[Limit]:
    """Live micro-batches: from the first forward of a stage to its last gradient, on the unit of that forward."""
    if live is None:
        return []
    item_of = {member: item for item, members in enumerate(lowered.tasks) for member in members}
    demand = [0] * len(lowered.tasks)
    steps: list[dict[int, int]] = [{0: 0} for _ in lowered.lanes]
    for slot in slots_of(problem):
        first = min((item_of[task] for task in slot.forwards), key=lambda item: times.starts[item])
        last = max(times.ends[item_of[task]] for task in slot.gradients)
        demand[first] += 1
        row = steps[lowered.unit[first]]
        row[times.starts[first]] = row.get(times.starts[first], 0) + 1
        row[last] = row.get(last, 0) - 1
    changes, held = [], []
    for row in steps:
        changes.append(sorted(row))
        total, values = 0, []
        for time in changes[-1]:
            total += row[time]
            values.append(total)
        held.append(values)
    return [Limit(Cause.LIVE, tuple(live), tuple(changes), tuple(held), demand)]
