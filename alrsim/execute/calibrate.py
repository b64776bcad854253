"""Measure what every kind of task costs on this host, with the executor that will run the schedule.

Two ways, both measured. *Isolated*: one worker runs the step in reference order, the other cores idle. *Busy*: as many
workers as there will be units run a step of their own at the same time, so that shared caches and memory bandwidth
are loaded as they will be. Sums of isolated durations came out too low for two-worker steps in trials, so ``busy`` is
the default where there is more than one unit.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
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
Spans = dict[CostKey, list[int]]


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
    (costs,) = calibrate_all(
        [prepared], units=units, repeats=repeats, warmup=warmup, neighbours=neighbours, progress=progress
    )
    return costs


def calibrate_all(
    jobs: Sequence[Prepared],
    *,
    units: int = 1,
    repeats: int = 5,
    warmup: int = 1,
    neighbours: Neighbours | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[MeasuredCosts]:
    """:func:`calibrate` for several task graphs in turn, so that a host that drifts does not favour one of them."""
    workers = max(1, min(units, core_count()))
    phases = (1,) if workers == 1 else (1, workers)
    steps = (warmup + repeats) * len(phases) * len(jobs)
    spans: list[list[Spans]] = [[defaultdict(list) for _ in jobs] for _ in phases]
    done = 0
    for turn in range(warmup + repeats):
        for phase, beside in enumerate(phases):
            for index, prepared in enumerate(jobs):
                _sample(prepared, beside, spans[phase][index] if turn >= warmup else defaultdict(list))
                done += 1
                if progress is not None:
                    progress(done, steps)
    chosen: Neighbours = neighbours or ("busy" if workers > 1 else "isolated")
    overhead, handoff, bandwidth = dispatch_overhead(), handoff_latency(), copy_bandwidth()
    return [
        MeasuredCosts(
            table=_medians(spans[-1 if chosen == "busy" else 0][index]),
            isolated=_medians(spans[0][index]),
            dispatch_overhead_ns=overhead,
            handoff_ns=handoff,
            copy_bandwidth=bandwidth,
            neighbours=chosen,
            units=workers,
            repeats=repeats,
            samples={key: len(found) for key, found in spans[-1 if chosen == "busy" else 0][index].items()},
        )
        for index in range(len(jobs))
    ]


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


def _sample(prepared: Prepared, workers: int, spans: Spans) -> None:
    """One step with ``workers`` independent copies of it running side by side."""
    graph = prepared.job.graph
    count = len(graph.tasks)
    lanes = [[(worker * count + index,) for index in range(count)] for worker in range(workers)]
    times = run_lanes(_side_by_side(graph, workers), lanes, _bodies(prepared, workers))
    for index in range(workers * count):
        spans[cost_key(graph.tasks[index % count])].append(times.end[index] - times.start[index])


def _medians(spans: Spans) -> dict[CostKey, Ns]:
    return {key: round(median(found)) for key, found in spans.items()}


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
