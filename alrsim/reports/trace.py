"""Trace files for Perfetto and chrome://tracing.

The object form of the Trace Event Format: times in microseconds, integer ``pid`` and ``tid``, one process per
timeline (predicted, measured), one thread per unit, flow arrows for dependencies, counters for memory.
"""

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from alrsim.tasks.taskgraph import TaskGraph
from alrsim.tasks.token import KIND_NAMES, NONE
from alrsim.timeline.timeline import Span, Timeline

Event = dict[str, Any]

_WORDS = {"simulated": "predicted", "measured": "measured"}


def trace_document(
    timelines: Sequence[tuple[str, Timeline]],
    *,
    tasks: Mapping[str, TaskGraph] | None = None,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The trace as plain JSON.

    Args:
        timelines: ``(method, timeline)``; each is a process named ``method (predicted)`` or ``(measured)``.
        tasks: The task graph of each method; with it, every dependency between units gets a flow arrow.
        about: Anything that should be readable in the file's ``otherData``.

    A typed time unit (textbook problems) is shown as one microsecond.
    """
    events: list[Event] = []
    flow = 0
    for pid, (method, timeline) in enumerate(timelines, start=1):
        events.extend(_names(pid, method, timeline))
        events.extend(_spans(pid, timeline))
        events.extend(_transfers(pid, timeline))
        events.extend(_memory(pid, timeline))
        graph = (tasks or {}).get(method)
        if graph is not None:
            for event in _arrows(pid, timeline, graph, flow):
                flow = event["id"]
                events.append(event)
    units = {"time_units": [timeline.time_unit for _, timeline in timelines]}
    return {"traceEvents": events, "displayTimeUnit": "ns", "otherData": {**units, **(about or {})}}


def trace_bytes(document: Mapping[str, Any]) -> bytes:
    """The document as ``.json.gz``; the same document gives the same bytes."""
    return gzip.compress(json.dumps(document, separators=(",", ":")).encode(), compresslevel=6, mtime=0)


def _micros(timeline: Timeline, ticks: int) -> float:
    return ticks / (1000 if timeline.time_unit == "ns" else timeline.ticks_per_unit)


def _names(pid: int, method: str, timeline: Timeline) -> Iterator[Event]:
    def name(what: str, tid: int, args: Event) -> Event:
        return {"ph": "M", "name": what, "pid": pid, "tid": tid, "args": args}

    yield name("process_name", 0, {"name": f"{method} ({_WORDS[timeline.source]})"})
    yield name("process_sort_index", 0, {"sort_index": pid})
    yield name("process_labels", 0, {"labels": timeline.cost_model or timeline.source})
    for tid, unit in enumerate(timeline.units, start=1):
        yield name("thread_name", tid, {"name": unit})
        yield name("thread_sort_index", tid, {"sort_index": tid})


def _spans(pid: int, timeline: Timeline) -> Iterator[Event]:
    tids = {unit: tid for tid, unit in enumerate(timeline.units, start=1)}
    for span in timeline.spans:
        task = span.task
        args: Event = {"token": str(task), "stage": task.stage, "kind": KIND_NAMES[task.kind]}
        if task.microbatch != NONE:
            args["microbatch"] = task.microbatch
        if task.group != NONE:
            args["copy_group"] = task.group
        yield {
            "ph": "X",
            "name": str(task),
            "cat": KIND_NAMES[task.kind],
            "pid": pid,
            "tid": tids[span.unit],
            "ts": _micros(timeline, span.start),
            "dur": _micros(timeline, span.end - span.start),
            "args": args,
        }


def _transfers(pid: int, timeline: Timeline) -> Iterator[Event]:
    """Transfers may overlap each other, so they are asynchronous slices, one track per link."""
    tids = {unit: tid for tid, unit in enumerate(timeline.units, start=1)}
    for number, transfer in enumerate(timeline.transfers):
        shared = {
            "name": f"{transfer.source}->{transfer.target} {transfer.buffer}",
            "cat": "transfer",
            "id": f"{pid}.{number}",
            "pid": pid,
            "tid": tids[transfer.source],
        }
        start, end = _micros(timeline, transfer.start), _micros(timeline, transfer.end)
        yield {"ph": "b", **shared, "ts": start, "args": {"bytes": transfer.bytes}}
        yield {"ph": "e", **shared, "ts": end}


def _memory(pid: int, timeline: Timeline) -> Iterator[Event]:
    """One counter per unit; a category once seen is repeated: a missing series reads as unchanged."""
    tids = {unit: tid for tid, unit in enumerate(timeline.units, start=1)}
    seen: dict[str, dict[str, int]] = {}
    for point in timeline.memory:
        series = seen.setdefault(point.unit, {})
        for category in series:
            series[category] = 0
        series.update({category.value: count for category, count in point.live.items()})
        yield {
            "ph": "C",
            "name": f"memory {point.unit}",
            "pid": pid,
            "tid": tids[point.unit],
            "ts": _micros(timeline, point.time),
            "args": dict(series),
        }


def _arrows(pid: int, timeline: Timeline, graph: TaskGraph, last_flow: int) -> Iterator[Event]:
    """One arrow per buffer and unit that receives it, to the first reader there (it is sent only once), and one
    per plain order between two units. Arrows inside a unit would only repeat the order of its lane."""
    tids = {unit: tid for tid, unit in enumerate(timeline.units, start=1)}
    by_task: dict[int, Span] = {graph.index[span.task]: span for span in timeline.spans if span.task in graph.index}
    flow, sent = last_flow, set[tuple[int, str]]()
    for reader, span in by_task.items():  # in order of start, so the first reader comes first
        producers: dict[int, None] = {}
        for producer, buffer in graph.dependencies(reader):
            source = by_task.get(producer)
            if source is None or source.unit == span.unit or (buffer, span.unit) in sent:
                continue
            if buffer != NONE:
                sent.add((buffer, span.unit))
            producers[producer] = None
        for producer in producers:
            source = by_task[producer]
            flow += 1
            shared = {"name": "needs", "cat": "dependency", "id": flow, "pid": pid}
            leaves = _micros(timeline, max(source.start, source.end - 1))  # inside the slice, as the format wants
            yield {"ph": "s", **shared, "tid": tids[source.unit], "ts": leaves}
            yield {"ph": "f", "bp": "e", **shared, "tid": tids[span.unit], "ts": _micros(timeline, span.start)}
