"""The events of a simulated step as a graph, and its critical path read as terms: why a step takes so long."""

from fractions import Fraction
from typing import cast

from alrsim.schedule.critical import steps_back
from alrsim.schedule.event_graph import EventGraph, Times
from alrsim.schedule.lower import Lowered, item_ticks
from alrsim.tasks.problem import Problem, Semantics
from alrsim.tasks.token import NONE
from alrsim.timeline.terms import Terms
from alrsim.timeline.timeline import Timeline


def terms(problem: Problem, graph: EventGraph, overlap: Fraction = Fraction(1)) -> Terms:
    """The makespan by cause. Costs without a
    :class:`~alrsim.tasks.problem.ContentionModel` know compute and transfer only."""
    model, lowered = problem.contention, graph.lowered
    compute = transfer = overhead = contention = 0
    for step in steps_back(graph):
        ticks = step.end - step.start
        if step.item == NONE:
            transfer += ticks
        elif model is None:
            compute += ticks
        else:
            members = lowered.tasks[step.item]
            alone = item_ticks(model.alone, members, lowered.unit[step.item], overlap)
            fixed = model.overhead * len(members)
            compute, overhead, contention = compute + alone, overhead + fixed, contention + ticks - alone - fixed
    return Terms(compute, transfer, overhead, contention)


def event_graph_of(problem: Problem, lowered: Lowered, timeline: Timeline) -> EventGraph:
    """The graph of a simulated timeline, in the numbering of the schedule that it carried out."""
    spans = {span.task: span for span in timeline.spans}
    tasks, buffers = problem.tasks.tasks, problem.tasks.buffers
    of_items = [spans[tasks[members[0]].id] for members in lowered.tasks]
    moved = {(one.buffer, one.target): one for one in timeline.transfers}
    of_messages = [moved[buffers[m.buffer].name, timeline.units[m.target_unit]] for m in lowered.messages]
    times = Times(
        [span.start for span in of_items],
        [span.end for span in of_items],
        [one.start for one in of_messages],
        [one.end for one in of_messages],
    )
    semantics = cast(Semantics, timeline.facts.transfer_semantics)
    return EventGraph(lowered, times, semantics, problem.machine.shared_cores)
