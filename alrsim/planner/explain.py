"""Why a plan takes as long as it does: its critical path and busiest unit; and a machine with a twin of a unit."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from alrsim.hardware.machine import Machine
from alrsim.hardware.topology import Link, Sort, Topology
from alrsim.reports.plan_result import Bottleneck
from alrsim.schedule.critical import critical_path
from alrsim.schedule.lower import lower
from alrsim.schedule.schedule import Schedule
from alrsim.simulation.terms import event_graph_of
from alrsim.tasks.problem import Problem
from alrsim.tasks.token import NONE, TaskId
from alrsim.timeline.metrics import busy
from alrsim.timeline.timeline import Timeline


def bottleneck(problem: Problem, schedule: Schedule, timeline: Timeline) -> Bottleneck:
    """From a simulated schedule."""
    lowered = lower(problem, schedule)
    whole = max(1, timeline.makespan)
    sorts: Counter[tuple[int, int, str]] = Counter()
    path: list[TaskId] = []
    for step in critical_path(event_graph_of(problem, lowered, timeline)):
        if step.item == NONE:
            continue
        members = [problem.tasks.tasks[member].id for member in lowered.tasks[step.item]]
        path += members
        first = members[0]
        sorts[lowered.unit[step.item], first.stage, first.kind] += step.end - step.start
    units: Counter[int] = Counter()
    for (unit, _, _), ticks in sorts.items():
        units[unit] += ticks
    unit = max(units, key=lambda index: (units[index], -index))
    _, stage, kind = max((sort for sort in sorts if sort[0] == unit), key=lambda sort: (sorts[sort], -sort[1], sort[2]))
    name = timeline.units[unit]
    waiting = 1 - sum(units.values()) / whole
    return Bottleneck(
        name, busy(timeline)[name] / whole, stage, kind, sorts[unit, stage, kind] / whole, waiting, tuple(path)
    )


def with_twin(machine: Machine, unit: int) -> Machine:
    """The machine with a second unit like the given one (:class:`Twin`)."""
    count = len(machine.units)
    names = {one.name for one in machine.units}
    name = next(f"u{index}" for index in range(count, 2 * count + 1) if f"u{index}" not in names)
    units = (*machine.units, replace(machine.units[unit], name=name))
    return replace(machine, units=units, topology=Twin(machine.topology, unit, count))


@dataclass(frozen=True)
class Twin:
    """The links of ``count`` units, and of one more that is joined to the others as ``unit`` is, and to it by its best
    link. Channels are shared with the unit that it is a twin of."""

    base: Topology
    unit: int
    count: int

    def link(self, source: int, target: int) -> Link | None:
        """See :class:`alrsim.hardware.topology.Topology`."""
        if self.count not in (source, target):
            return self.base.link(source, target)
        if {source, target} == {self.unit, self.count}:
            return None if self._best is None else replace(self._best, source=source, target=target)
        here, there = (self.unit if end == self.count else end for end in (source, target))
        link = self.base.link(here, there)
        return None if link is None else replace(link, source=source, target=target)

    @cached_property
    def _best(self) -> Link | None:
        links = [link for other in range(self.count) if (link := self.base.link(self.unit, other)) is not None]
        return max(links, key=lambda link: (link.bandwidth or float("inf"), -link.latency_ns), default=None)

    def sorts(self) -> Mapping[Sort, int]:
        """See :class:`alrsim.hardware.topology.Topology`."""
        pairs = [(self.count, other) for other in range(self.count)]
        added = (self.link(*pair) for way in pairs for pair in (way, way[::-1]))
        return Counter(self.base.sorts()) + Counter((link.speed, link.hops) for link in added if link is not None)
