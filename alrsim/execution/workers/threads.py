"""The executor ``threads``: one worker thread per unit in this process. Data is handed over by reference."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from alrsim.execution.job import Run
from alrsim.execution.kernels.ledger import Ledger
from alrsim.execution.kernels.store import Store
from alrsim.execution.measuring.empty import empty_lane, relay
from alrsim.execution.measuring.rss import peak_rss, reset_peak_rss
from alrsim.execution.prepared import Scheduled, empty_body, lane_items, new_run, task_body
from alrsim.execution.results import results_of
from alrsim.execution.session import Exchange, InterruptedRun, Limits, Record, Results, RunError
from alrsim.execution.workers.thread_workers import LaneError, Times, no_times, run_lanes
from alrsim.execution.workers.unit_actions import median_of_five
from alrsim.tasks.taskgraph import TaskGraph
from alrsim.timeline.facts import PROCESS, Facts
from alrsim.units import Bytes, Ns


@contextmanager
def threads(jobs: Sequence[Scheduled], limits: Limits) -> Iterator["ThreadSession"]:
    """Open a session; threads are started for every run."""
    reset_peak_rss()
    yield ThreadSession(jobs, limits)


class ThreadSession:
    """See :class:`alrsim.execution.session.Session`."""

    def __init__(self, jobs: Sequence[Scheduled], limits: Limits) -> None:
        self._jobs, self._limits = jobs, limits
        self._lanes = [lane_items(job.prepared.job.graph, job.schedule) for job in jobs]
        self._last: dict[int, Run] = {}

    @property
    def facts(self) -> Facts:
        return Facts(
            executor="threads",
            transport="references",
            clock="one clock: time.perf_counter_ns of this process",
            clock_skew_ns=0,
            peak_rss_bytes={PROCESS: peak_rss()},
        )

    def run(self, job: int) -> Record:
        prepared = self._jobs[job].prepared
        self._last.pop(job, None)  # before the next one takes memory
        run, times = new_run(prepared, recording=False), no_times(len(prepared.job.graph.tasks))
        try:
            run_lanes(
                prepared.job.graph,
                self._lanes[job],
                task_body(prepared, run),
                limit=self._limits.task_seconds,
                times=times,
            )
        except LaneError as error:
            raise self._failed(job, error) from error.__cause__
        except KeyboardInterrupt:
            raise InterruptedRun(Record(times)) from None
        self._last[job] = run
        return Record(times)

    def results(self, job: int) -> Results:
        return results_of(self._last[job])

    def sample(self, job: int, workers: int) -> list[Times]:
        prepared = self._jobs[job].prepared
        graph = prepared.job.graph
        count = len(graph.tasks)
        bodies = [task_body(prepared, new_run(prepared, recording=False)) for _ in range(workers)]
        lanes = [[(worker * count + index,) for index in range(count)] for worker in range(workers)]
        found = run_lanes(
            side_by_side(graph, workers),
            lanes,
            lambda index: bodies[index // count](index % count),
            limit=self._limits.task_seconds,
        )
        return [
            Times(found.start[low : low + count], found.end[low : low + count], found.cpu[low : low + count])
            for low in range(0, workers * count, count)
        ]

    def exchange(self, source: int, target: int, size: Bytes, repeats: int) -> list[Exchange]:
        """A reference costs the sender nothing, whatever its size; the receiver has it when it has woken up."""
        del source, target, size
        graph = relay(repeats + 1)
        lanes = [[(index,) for index in range(first, repeats + 1, 2)] for first in (0, 1)]
        # The sender is busy for a moment, so that the receiver waits as it does in a run.
        times = run_lanes(graph, lanes, lambda _task: time.sleep(0.0002))
        return [Exchange(0, max(0, times.start[index] - times.end[index - 1])) for index in range(1, repeats + 1)]

    def overhead(self, tasks: int) -> Ns:
        return dispatch_overhead(tasks)

    def _failed(self, job: int, error: LaneError) -> RunError:
        one = self._jobs[job]
        token = str(one.prepared.job.graph.tasks[error.task].id) if error.task >= 0 else ""
        return RunError(
            error.what, record=Record(error.times), unit=one.schedule.lanes[error.lane].unit, token=token, fix=error.fix
        )


def dispatch_overhead(tasks: int = 400) -> Ns:
    """ns that a worker thread spends per task besides the kernel: empty tasks, median of 5."""
    graph, lane = empty_lane(tasks), [(index,) for index in range(tasks)]

    def total() -> Ns:
        return max(run_lanes(graph, [lane], empty_body(Store(Ledger(), recording=False, tasks=tasks))).end)

    return median_of_five(total) // tasks


def side_by_side(graph: TaskGraph, workers: int) -> TaskGraph:
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
