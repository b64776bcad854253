"""Measure what every kind of task costs on this host, with the executor that will run the schedule.

Two ways, both measured. *Isolated*: one worker runs the step in reference order, the other cores idle. *Busy*: as many
workers as there will be units run a step of their own at the same time, so that shared caches and memory bandwidth
are loaded as they will be. Sums of isolated durations came out too low for two-worker steps in trials, so ``busy`` is
the default where there is more than one unit.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Literal

import torch

from alrsim.execute.empty import empty_lane, relay
from alrsim.execute.executor import Batch, Prepared, dispatch_overhead, new_run, prepare, task_body
from alrsim.execute.job import Settings
from alrsim.execute.program import Program
from alrsim.execute.workers import Body, core_count, run_lanes
from alrsim.rules.options import RuleOptions
from alrsim.tasks.problem import CostKey, cost_key
from alrsim.tasks.taskgraph import TaskGraph
from alrsim.units import Ns

Neighbours = Literal["isolated", "busy"]


@dataclass(frozen=True)
class MeasuredCosts:
    """Medians over repeats, micro-batches and copy groups.

    Attributes:
        table: Duration by :func:`alrsim.tasks.problem.cost_key`, in ns, with the neighbours that were asked for.
        isolated: The same with idle neighbours.
        dispatch_overhead_ns: Executor time per task besides its kernel.
        handoff_ns: From the end of a task to the start of its successor on another worker that waits for it.
        copy_bandwidth: Bytes/s of copying a tensor within host memory, on one core. A hand-off between threads is by
            reference and copies nothing; this is what a copying transfer would run at.
        neighbours: Which of the two the table is.
        units: Workers that ran at the same time.
        repeats: Steps measured by each worker.
        samples: Number of spans behind each median of ``table``.
    """

    table: Mapping[CostKey, Ns]
    isolated: Mapping[CostKey, Ns]
    dispatch_overhead_ns: Ns
    handoff_ns: Ns
    copy_bandwidth: float
    neighbours: Neighbours
    units: int
    repeats: int
    samples: Mapping[CostKey, int] = field(default_factory=dict)


def calibrate(
    program: Program,
    graph: TaskGraph,
    batch: Batch,
    options: RuleOptions,
    settings: Settings | None = None,
    *,
    units: int = 1,
    repeats: int = 5,
    warmup: int = 1,
    neighbours: Neighbours | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> MeasuredCosts:
    """Measure every kind of task of a task graph, told apart by :func:`alrsim.tasks.problem.cost_key`.

    Args:
        units: Workers that the schedule will use; at most as many as there are cores run at the same time.
        neighbours: Which table to report as ``table``; default ``busy`` for more than one unit.
        progress: Called with (steps done, steps in total).

    Raises:
        ExecutionError: as :func:`alrsim.execute.executor.prepare`.
    """
    prepared = prepare(program, graph, batch, options, settings)
    workers = max(1, min(units, core_count()))
    total = 2 * (warmup + repeats) if workers > 1 else warmup + repeats

    def report(done: int) -> None:
        if progress is not None:
            progress(done, total)

    isolated, counts = _measure(prepared, 1, repeats, warmup, report)
    busy = isolated
    if workers > 1:
        busy, counts = _measure(prepared, workers, repeats, warmup, lambda done: report(warmup + repeats + done))
    chosen: Neighbours = neighbours or ("busy" if workers > 1 else "isolated")
    return MeasuredCosts(
        table=busy if chosen == "busy" else isolated,
        isolated=isolated,
        dispatch_overhead_ns=dispatch_overhead(),
        handoff_ns=handoff_latency(),
        copy_bandwidth=copy_bandwidth(),
        neighbours=chosen,
        units=workers,
        repeats=repeats,
        samples=counts,
    )


def handoff_latency(tasks: int = 200) -> Ns:
    """ns from the end of a task to the start of its successor on another worker: empty tasks on alternating lanes."""
    graph = relay(tasks)
    lanes = [[(index,) for index in range(first, tasks, 2)] for first in (0, 1)]
    gaps: list[int] = []
    for _ in range(3):
        times = run_lanes(graph, lanes, lambda _task: None)
        gaps += [times.start[index] - times.end[index - 1] for index in range(1, tasks)]
    return max(0, round(median(gaps)))


def copy_bandwidth(size: int = 1 << 24) -> float:
    """Bytes/s of copying a tensor of ``size`` bytes on one core, median of 5."""
    source, target = torch.ones(size // 4), torch.empty(size // 4)
    graph = empty_lane(6)

    def copy(_task: int) -> None:
        target.copy_(source)

    times = run_lanes(graph, [[(index,) for index in range(6)]], copy)
    spans = [end - start for start, end in zip(times.start[1:], times.end[1:], strict=True)]
    return size / (median(spans) / 1e9)


def _measure(
    prepared: Prepared, workers: int, repeats: int, warmup: int, report: Callable[[int], None]
) -> tuple[dict[CostKey, Ns], dict[CostKey, int]]:
    """Medians with ``workers`` independent steps running side by side."""
    graph = prepared.job.graph
    count = len(graph.tasks)
    spans: dict[CostKey, list[int]] = defaultdict(list)
    side = _side_by_side(graph, workers)
    lanes = [[(worker * count + index,) for index in range(count)] for worker in range(workers)]
    for step in range(warmup + repeats):
        times = run_lanes(side, lanes, _bodies(prepared, workers))
        if step >= warmup:
            for index in range(workers * count):
                task = graph.tasks[index % count]
                spans[cost_key(task)].append(times.end[index] - times.start[index])
        report(step + 1)
    return {key: round(median(found)) for key, found in spans.items()}, {
        key: len(found) for key, found in spans.items()
    }


def _bodies(prepared: Prepared, workers: int) -> Body:
    count = len(prepared.job.graph.tasks)
    bodies = [task_body(prepared, new_run(prepared, recording=False)) for _ in range(workers)]

    def body(index: int) -> None:
        bodies[index // count](index % count)

    return body


def _side_by_side(graph: TaskGraph, workers: int) -> TaskGraph:
    """Several independent steps as one graph; only its size and (absent) dependencies across lanes matter."""
    if workers == 1:
        return graph
    tasks = []
    for worker in range(workers):
        shift = worker * graph.microbatches
        for task in graph.tasks:
            # A token must be unique; the copies of the step count their micro-batches (updates: their stages) on.
            id_ = task.id
            moved = (
                id_._replace(stage=id_.stage + worker * (graph.stages + 1))
                if id_.microbatch < 0
                else id_._replace(microbatch=id_.microbatch + shift)
            )
            tasks.append(replace(task, id=moved, reads=(), after=()))
    return TaskGraph(tuple(tasks), (), graph.rule, graph.stages, graph.microbatches)
