"""The worst cells as pictures: predicted above measured, as a Gantt chart and as a trace for Perfetto."""

from alrsim.reports.gantt import Panel, draw_gantt
from alrsim.reports.trace import trace_bytes, trace_document
from alrsim.tasks.taskgraph import TaskGraph
from alrsim.timeline.timeline import Timeline
from alrsim.units import format_ns
from alrsim.validation.costs import predict
from alrsim.validation.journal import Journal
from alrsim.validation.records import median_step, problem_again, timeline_of
from alrsim.validation.score import Row, Score
from alrsim.validation.shares import reason
from alrsim.validation.tables import percent, worst_rows

DRAWN = 3
"""Cells in the chart; the trace has all that are explained."""


def worst_files(score: Score, journal: Journal) -> dict[str, bytes]:
    """``worst.png`` and ``trace.json.gz``; nothing where there is no cell."""
    rows = worst_rows(score.rows)
    if not rows:
        return {}
    panels: list[Panel] = []
    lines: list[tuple[str, Timeline]] = []
    tasks: dict[str, TaskGraph] = {}
    for row in rows:
        name = row.cell.name
        predicted, measured, tasks[name] = _timelines(row, journal)
        lines += [(name, predicted), (name, measured)]
        panels.append(Panel(name, predicted, f"predicted {format_ns(predicted.makespan)}"))
        words = f"measured {format_ns(measured.makespan)} · off by {percent(row.error, sign=True)}: {reason(row.terms)}"
        panels.append(Panel(name, measured, words))
    chart = draw_gantt(panels[: 2 * DRAWN], "The cells that were predicted worst")
    about = {"device": journal.host.device, "executor": journal.host.executor}
    return {"worst.png": chart, "trace.json.gz": trace_bytes(trace_document(lines, tasks=tasks, about=about))}


def _timelines(row: Row, journal: Journal) -> tuple[Timeline, Timeline, TaskGraph]:
    prediction = journal.predictions[row.cell.name]
    problem = problem_again(prediction)
    predicted = predict(problem, prediction.schedule, prediction.costs.semantics)
    return predicted, timeline_of(prediction, median_step(journal.steps[row.cell.name])), problem.tasks
