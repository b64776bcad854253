"""Measure what every kind of task costs on this host, with the executor that will run the schedule.

Two phases in turn. *Isolated*: one unit runs the step in reference order, the others idle. *Busy*: all units run a step
of their own at the same time, so that shared caches and memory bandwidth are loaded. The difference is contention; the
simulator charges it for the time that tasks really overlap. No schedule is run: what is predicted from these costs is
never predicted from a measurement of itself.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from statistics import median, quantiles

import torch

from alrsim.cost.costs import HostLoad, LinkFit, MeasuredCosts
from alrsim.cost.curve_fit import fit_line
from alrsim.execution.executor import Batch, Prepared, Scheduled, prepare
from alrsim.execution.executors import find_executor
from alrsim.execution.job import Settings
from alrsim.execution.measuring.tracking import measure_scratch
from alrsim.execution.programs.program import Program
from alrsim.execution.session import Limits, Session
from alrsim.execution.workers.ranks import all_cores
from alrsim.execution.workers.thread_workers import Times, core_count, one_thread
from alrsim.hardware.machine import abstract_machine
from alrsim.rules.options import RuleOptions
from alrsim.schedule.schedule import Lane, Schedule
from alrsim.tasks.problem import CostKey, Problem, cost_key
from alrsim.tasks.taskgraph import TaskGraph
from alrsim.units import Bytes, Ns

__all__ = ["MeasuredCosts", "calibrate", "calibrate_all", "calibrate_session", "calibration_job", "measure_links"]

MESSAGES: tuple[Bytes, ...] = (1 << 10, 1 << 14, 1 << 17, 1 << 20, 1 << 22)
"""Sizes by which links are fitted."""

_EXCHANGES = 12
_PAIRS = 12
"""Most directions that are measured; the others get the slowest fit."""

_OVERHEAD_TASKS = 400

Progress = Callable[[int, int], None]


def calibrate(
    program: Program,
    graph: TaskGraph,
    batch: Batch,
    options: RuleOptions,
    settings: Settings | None = None,
    *,
    executor: str = "threads",
    units: int = 1,
    repeats: int = 5,
    warmup: int = 1,
    progress: Progress | None = None,
) -> MeasuredCosts:
    """Measure every kind of task of a task graph, told apart by :func:`alrsim.tasks.problem.cost_key`.

    Args:
        units: Workers that the schedule will use; at most as many as there are cores run at the same time.
        progress: Called with (steps done, steps in total).

    Raises:
        ExecutionError: as :func:`alrsim.execution.executor.prepare`.
    """
    prepared = prepare(program, graph, batch, options, settings)
    (costs,) = calibrate_all(
        [prepared], executor=executor, units=units, repeats=repeats, warmup=warmup, progress=progress
    )
    return costs


def calibrate_all(
    jobs: Sequence[Prepared],
    *,
    executor: str = "threads",
    limits: Limits | None = None,
    units: int = 1,
    repeats: int = 5,
    warmup: int = 1,
    progress: Progress | None = None,
) -> list[MeasuredCosts]:
    """:func:`calibrate` for several task graphs in turn, so that a host that drifts does not favour one of them.

    Raises:
        OptionError: an unknown executor.
        RunError: a worker failed.
    """
    workers = max(1, min(units, all_cores(core_count())))
    scheduled = [calibration_job(job, workers) for job in jobs]
    with find_executor(executor)(scheduled, limits or Limits()) as session:
        found = calibrate_session(
            session, jobs, executor=executor, units=workers, repeats=repeats, warmup=warmup, progress=progress
        )
    # Not timed: temporaries are counted behind the session, under a dispatch mode that slows everything down.
    return [replace(costs, scratch=measure_scratch(job)) for costs, job in zip(found, jobs, strict=True)]


def calibrate_session(
    session: Session,
    jobs: Sequence[Prepared],
    *,
    executor: str,
    units: int,
    repeats: int = 5,
    warmup: int = 1,
    progress: Progress | None = None,
) -> list[MeasuredCosts]:
    """The measurements of :func:`calibrate_all` in a session that is open for the very same jobs.

    Args:
        units: Units to have at work at the same time in the busy phase.
    """
    phases = (1,) if units == 1 else (1, units)
    steps = (warmup + repeats) * len(phases) * len(jobs)
    found = [[_Samples() for _ in jobs] for _ in phases]
    host = _Watch()
    done = 0
    with one_thread():
        for turn in range(warmup + repeats):
            host.tick()
            for phase, beside in enumerate(phases):
                for index, prepared in enumerate(jobs):
                    times = session.sample(index, beside)
                    if turn >= warmup:
                        found[phase][index].add(prepared.job.graph, times)
                        host.add(times)
                    done += 1
                    if progress is not None:
                        progress(done, steps)
        host.tick()
        overhead = session.overhead(_OVERHEAD_TASKS)
        links = measure_links(session, units)
    costs = []
    for index in range(len(jobs)):
        alone, beside_all = found[0][index], found[-1][index]
        isolated, busy = ordered(alone.costs(), beside_all.costs())
        costs.append(
            MeasuredCosts(
                isolated,
                busy,
                overhead,
                links,
                executor,
                units,
                all_cores(core_count()),
                repeats,
                alone.spreads(),
                dict(beside_all.tasks),
                host.load(),
            )
        )
    return costs


def calibration_job(prepared: Prepared, units: int) -> Scheduled:
    """The whole step on the first of ``units`` units: what a session for sampling is opened with."""
    graph = prepared.job.graph
    problem = Problem(graph, abstract_machine(units), tuple((1,) * units for _ in graph.tasks), "reference")
    lanes = (tuple(task.id for task in graph.tasks), *((),) * (units - 1))
    schedule = Schedule(tuple(Lane(f"u{unit}", lane) for unit, lane in enumerate(lanes)), "calibration")
    return Scheduled(prepared, problem, schedule)


def measure_links(session: Session, units: int, sizes: Sequence[Bytes] = MESSAGES) -> tuple[LinkFit, ...]:
    """Sender's time over message size, and the latency behind it, for every direction between two units."""
    return tuple(
        _measure_link(session, source, target, sizes) for source, target in list(permutations(range(units), 2))[:_PAIRS]
    )


def _measure_link(session: Session, source: int, target: int, sizes: Sequence[Bytes]) -> LinkFit:
    points = []
    for size in sizes:
        found = session.exchange(source, target, size, _EXCHANGES + 1)[1:]  # the first one meets cold pages
        points.append(
            (size, round(median(one.send_ns for one in found)), round(median(one.arrive_ns for one in found)))
        )
    latency = max(0, round(median(arrive - send for _, send, arrive in points)))
    if not any(send for _, send, _ in points):  # by reference
        error = median(abs(latency / max(1, arrive) - 1) for *_, arrive in points)
        return LinkFit(source, target, 0, latency, None, error, tuple(points))
    line = fit_line([(size, send) for size, send, _ in points])
    error = median(abs((line.at(size) + latency) / max(1, arrive) - 1) for size, _, arrive in points)
    bandwidth = 1e9 / line.slope if line.slope > 0 else None
    return LinkFit(source, target, round(line.start), latency, bandwidth, error, tuple(points))


def ordered(
    alone: Mapping[CostKey, float], beside: Mapping[CostKey, float]
) -> tuple[dict[CostKey, Ns], dict[CostKey, Ns]]:
    """Both tables in whole ns, none shorter beside neighbours than alone: where noise says so, both are the mean."""
    isolated, busy = {}, {}
    for key, first in alone.items():
        second = beside[key]
        if second < first:
            first = second = (first + second) / 2
        isolated[key], busy[key] = round(first), round(second)
    return isolated, busy


@dataclass
class _Samples:
    """Spans of one job in one phase: per key the mean over the tasks of a step, a step being one unit's turn."""

    means: dict[CostKey, list[float]] = field(default_factory=lambda: defaultdict(list))
    tasks: dict[CostKey, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, graph: TaskGraph, workers: Sequence[Times]) -> None:
        sums: dict[CostKey, list[int]] = defaultdict(list)
        for times in workers:
            for task, start, end in zip(graph.tasks, times.start, times.end, strict=True):
                sums[cost_key(task)].append(end - start)
        for key, spans in sums.items():
            self.means[key].append(sum(spans) / len(spans))
            self.tasks[key] += len(spans)

    def costs(self) -> dict[CostKey, float]:
        return {key: median(found) for key, found in self.means.items()}

    def spreads(self) -> dict[CostKey, float]:
        return {key: spread(found) for key, found in self.means.items()}


def spread(values: Sequence[float]) -> float:
    """The interquartile range over the median; 0 of a single value."""
    if len(values) < 2:
        return 0.0
    low, middle, high = quantiles(values, n=4)
    return (high - low) / middle if middle else 0.0


class _Watch:
    """Notices other programs: by the share of their cores that tasks had, and by a kernel that should always take the
    same time."""

    def __init__(self) -> None:
        self._matrix = torch.ones(192, 192)
        self._ticks: list[int] = []
        self._cpu = self._wall = 0

    def tick(self) -> None:
        """Time the reference kernel: the fastest of some, which a single interruption cannot lengthen."""
        rounds = []
        for _ in range(7):
            start = time.perf_counter_ns()
            self._matrix @ self._matrix
            rounds.append(time.perf_counter_ns() - start)
        self._ticks.append(min(rounds))

    def add(self, workers: Sequence[Times]) -> None:
        for times in workers:
            self._cpu += sum(times.cpu)
            self._wall += sum(end - start for start, end in zip(times.start, times.end, strict=True))

    def load(self) -> HostLoad:
        share = min(1.0, self._cpu / self._wall) if self._wall else 1.0
        drift = (max(self._ticks) - min(self._ticks)) / median(self._ticks)
        return HostLoad(round(share, 3), round(drift, 3))
