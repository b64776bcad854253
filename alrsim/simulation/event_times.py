"""The times of a timeline in the numbering of the schedule that it carried out, for the graph of moments."""

from alrsim.schedule.event_graph import Times
from alrsim.schedule.lower import Lowered
from alrsim.tasks.problem import Problem
from alrsim.timeline.timeline import Timeline


def times_of(problem: Problem, lowered: Lowered, timeline: Timeline) -> Times:
    """The times of a timeline in the numbering of the lowered schedule."""
    spans = {span.task: span for span in timeline.spans}
    tasks, buffers = problem.tasks.tasks, problem.tasks.buffers
    of_items = [spans[tasks[members[0]].id] for members in lowered.tasks]
    moved = {(one.buffer, one.target): one for one in timeline.transfers}
    of_messages = [moved[buffers[m.buffer].name, timeline.units[m.target_unit]] for m in lowered.messages]
    return Times(
        [span.start for span in of_items],
        [span.end for span in of_items],
        [one.start for one in of_messages],
        [one.end for one in of_messages],
    )
