"""Why a plan takes as long as it does: its critical path, its busiest unit, and what one more unit would change."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from alrsim.errors import AlrsimError
from alrsim.hardware.machine import Link, Machine
from alrsim.planner.evaluate import Evaluated
from alrsim.planner.search import Outcome
from alrsim.tasks.problem import Problem
from alrsim.tasks.token import KIND_NAMES, NONE, TaskId
from alrsim.timeline.metrics import busy
from alrsim.timeline.timeline import Span, Timeline
from alrsim.units import Ns


@dataclass(frozen=True)
class Bottleneck:
    """What makes a step as long as it is.

    Attributes:
        unit: The unit that computes longest on the critical path.
        busy: Share of the step in which it computes.
        stage: Stage whose tasks of one kind take most of that unit's time on the path; the loss module is the last.
        kind: That kind.
        share: Share of the step that those tasks take on the path.
        waiting: Share of the step in which the path waits for messages.
        path: Tasks on the critical path.
    """

    unit: str
    busy: float
    stage: int
    kind: str
    share: float
    waiting: float
    path: tuple[TaskId, ...]

    @property
    def words(self) -> str:
        """One sentence."""
        text = (
            f"unit {self.unit} is the bottleneck: stage {self.stage} {KIND_NAMES[self.kind]}"  # type: ignore[index]
            f" ({100 * self.share:.0f} % of the critical path; the unit computes {100 * self.busy:.0f} % of the step)"
        )
        return text + (f"; the path waits for messages {100 * self.waiting:.0f} %" if self.waiting >= 0.005 else "")


def bottleneck(problem: Problem, timeline: Timeline) -> Bottleneck:
    """From a carried-out schedule."""
    path, waiting = critical_spans(problem, timeline)
    whole = max(1, timeline.makespan)
    by_unit: Counter[str] = Counter()
    by_sort: Counter[tuple[str, int, str]] = Counter()
    for span in path:
        by_unit[span.unit] += span.end - span.start
        by_sort[span.unit, span.task.stage, span.task.kind] += span.end - span.start
    order = {unit: index for index, unit in enumerate(timeline.units)}
    unit = max(by_unit, key=lambda name: (by_unit[name], -order[name]))
    _, stage, kind = max(
        (sort for sort in by_sort if sort[0] == unit), key=lambda sort: (by_sort[sort], -sort[1], sort[2])
    )
    shares = by_sort[unit, stage, kind] / whole
    tasks = tuple(span.task for span in path)
    return Bottleneck(unit, busy(timeline)[unit] / whole, stage, kind, shares, waiting / whole, tasks)


def critical_spans(problem: Problem, timeline: Timeline) -> tuple[list[Span], Ns]:
    """A chain of tasks from the start of the step to its end without a gap but messages, and the ticks of those.

    Each task waited for the one before it: the last of its inputs to arrive, or the task before it on its unit.
    """
    spans = {span.task: span for span in timeline.spans}
    before: dict[TaskId, Span] = {}
    last: dict[str, Span] = {}
    for span in timeline.spans:
        if span.unit in last:
            before[span.task] = last[span.unit]
        last[span.unit] = span
    arrivals = {(one.buffer, one.target): one.end for one in timeline.transfers}
    graph = problem.tasks
    path, waiting = [max(timeline.spans, key=lambda span: (span.end, span.start))], 0
    while path[-1].start > 0:
        span = path[-1]
        options: list[tuple[Ns, int, Span]] = []
        if span.task in before:
            options.append((before[span.task].end, 0, before[span.task]))
        for other, buffer in graph.dependencies(graph.index[span.task]):
            source = spans[graph.tasks[other].id]
            arrival = source.end
            if buffer != NONE and source.unit != span.unit:
                arrival = arrivals.get((graph.buffers[buffer].name, span.unit), source.end)
            options.append((arrival, 1, source))
        if not options:
            waiting += span.start
            break
        _, _, chosen = max(options, key=lambda option: (option[0], -option[1]))
        waiting += max(0, span.start - chosen.end)
        path.append(chosen)
    return path[::-1], waiting


@dataclass(frozen=True)
class OneMore:
    """The same question for a machine with one more unit.

    Attributes:
        gain: Value of the target now over value then, both by heuristics alone; 1 where they find no use for it.
    """

    units: int
    gain: float
    best: Evaluated


def one_more_unit(outcome: Outcome, grow: Callable[[], Machine], plan: Callable[[Machine], Outcome]) -> OneMore | None:
    """Plan again for one unit more; ``None`` where there is no such machine or nothing fits.

    Args:
        grow: The larger machine.
        plan: The search on a machine, without improvement: like is compared with like.
    """
    try:
        machine = grow()
        again = plan(machine)
    except AlrsimError:
        return None
    if not again.quick:
        return None
    if again.quick >= outcome.quick:  # the unit may stay idle
        return OneMore(len(machine.units), 1.0, outcome.best)
    return OneMore(len(machine.units), outcome.quick / again.quick, again.best)


def with_twin(machine: Machine, unit: int) -> Machine:
    """The machine with a second unit like the given one, linked to the others as that is, and to it by its best link.

    Channels are shared with the unit that it is a twin of.
    """
    count = len(machine.units)
    names = {one.name for one in machine.units}
    name = next(f"u{index}" for index in range(count, 2 * count + 1) if f"u{index}" not in names)
    links = list(machine.links)
    for link in machine.links:
        if link.source == unit:
            links.append(replace(link, source=count))
        elif link.target == unit:
            links.append(replace(link, target=count))
    own = [link for link in machine.links if link.source == unit]
    if own:
        best = max(own, key=lambda link: (link.bandwidth or float("inf"), -link.latency_ns))
        for source, target in ((unit, count), (count, unit)):
            links.append(Link(source, target, best.bandwidth, best.latency_ns, best.occupancy_ns, best.channels))
    return replace(machine, units=(*machine.units, replace(machine.units[unit], name=name)), links=tuple(links))
