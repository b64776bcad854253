"""Carry out a schedule: the same value that the simulator takes, on real tensors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from alrsim.errors import ExecutionError
from alrsim.execution.executors import find_executor
from alrsim.execution.job import Settings
from alrsim.execution.kernels.registry import KERNELS, Kernel
from alrsim.execution.measuring.timelines import measured_facts, measured_timeline, partial_timeline
from alrsim.execution.measuring.tracking import task_scratch
from alrsim.execution.prepared import Batch, Prepared, Scheduled, lane_items, new_run, prepare, split_batch, task_body
from alrsim.execution.programs.program import Program
from alrsim.execution.session import InterruptedRun, Limits, Record, Results, RunError
from alrsim.execution.workers.threads import dispatch_overhead
from alrsim.hardware.machine import abstract_machine
from alrsim.rules.options import RuleOptions
from alrsim.schedule.check import check
from alrsim.schedule.schedule import Lane, Schedule
from alrsim.tasks.problem import Problem
from alrsim.tasks.taskgraph import TaskGraph
from alrsim.tasks.token import Kind
from alrsim.timeline.facts import Facts
from alrsim.timeline.timeline import Timeline

__all__ = [
    "Batch",
    "Execution",
    "Prepared",
    "Scheduled",
    "dispatch_overhead",
    "execute",
    "execute_all",
    "execute_prepared",
    "lane_items",
    "new_run",
    "prepare",
    "sequential",
    "split_batch",
    "task_body",
]


@dataclass(frozen=True, kw_only=True)
class Execution(Results):
    """What a measured run gave: what it computed, and when.

    Attributes:
        timeline: Of the repeat with the median makespan.
        makespans: Of every repeat, in ns, in order of running.
    """

    timeline: Timeline
    makespans: tuple[int, ...]


def execute(
    program: Program,
    problem: Problem,
    schedule: Schedule,
    batch: Batch,
    options: RuleOptions,
    settings: Settings | None = None,
    *,
    executor: str = "threads",
    limits: Limits | None = None,
    repeats: int = 5,
    warmup: int = 1,
    dispatch_overhead_ns: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    kernels: Mapping[Kind, Kernel] = KERNELS,
) -> Execution:
    """Run a schedule ``warmup + repeats`` times, one worker per lane.

    Every run starts from the program's parameters, so that all repeats compute the same step.

    Args:
        options: Those that the rule made ``problem.tasks`` from.
        dispatch_overhead_ns: For the flag of short tasks; measured if not given.
        progress: Called with (runs done, runs in total).

    Raises:
        ScheduleError, DeadlockError: the schedule does not fit the problem.
        ExecutionError: a task failed (names the token), or the executor cannot do what is asked.
    """
    check(problem, schedule)
    prepared = prepare(program, problem.tasks, batch, options, settings, kernels=kernels)
    return execute_prepared(
        prepared,
        problem,
        schedule,
        executor=executor,
        limits=limits,
        repeats=repeats,
        warmup=warmup,
        dispatch_overhead_ns=dispatch_overhead_ns,
        progress=progress,
    )


def execute_prepared(
    prepared: Prepared,
    problem: Problem,
    schedule: Schedule,
    *,
    executor: str = "threads",
    limits: Limits | None = None,
    repeats: int = 5,
    warmup: int = 1,
    dispatch_overhead_ns: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Execution:
    """:func:`execute` without the recording pass; the schedule must have been checked."""
    one = Scheduled(prepared, problem, schedule)
    (result,) = execute_all(
        [one],
        executor=executor,
        limits=limits,
        repeats=repeats,
        warmup=warmup,
        dispatch_overhead_ns=dispatch_overhead_ns,
        progress=progress,
    )
    return result


def execute_all(
    jobs: Sequence[Scheduled],
    *,
    executor: str = "threads",
    limits: Limits | None = None,
    repeats: int = 5,
    warmup: int = 1,
    dispatch_overhead_ns: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Execution]:
    """Run several schedules in turn, A B C A B C ..., so that a host that drifts does not favour one of them.

    Args:
        executor: One of :data:`alrsim.execution.executors.EXECUTORS`.
        limits: When to give a run up.
        progress: Called with (runs done, runs in total).

    Raises:
        RunError, InterruptedRun: with the timeline of what had run by then.
    """
    if repeats < 1 or warmup < 0:
        raise ExecutionError(f"{repeats} repeats and {warmup} warm-up runs: need at least 1 and 0", field="repeats")
    measured: list[list[Record]] = [[] for _ in jobs]
    with find_executor(executor)(jobs, limits or Limits()) as session:
        if dispatch_overhead_ns is None:
            dispatch_overhead_ns = session.overhead(400)
        for turn in range(warmup + repeats):
            for index, job in enumerate(jobs):
                try:
                    record = session.run(index)
                except (RunError, InterruptedRun) as stopped:
                    stopped.timeline = partial_timeline(job, stopped.record, session.facts, str(stopped))
                    if isinstance(stopped, RunError) and len(jobs) > 1:
                        stopped.where = f"schedule {job.schedule.name}, {stopped.where}"
                    raise
                if turn >= warmup:
                    measured[index].append(record)
                if progress is not None:
                    progress(turn * len(jobs) + index + 1, (warmup + repeats) * len(jobs))
        results = [session.results(index) for index in range(len(jobs))]
        facts = session.facts
    return [
        _conclude(job, result, found, warmup, dispatch_overhead_ns, facts)
        for job, result, found in zip(jobs, results, measured, strict=True)
    ]


def _conclude(
    job: Scheduled,
    results: Results,
    measured: Sequence[Record],
    warmup: int,
    dispatch_overhead_ns: int,
    session: Facts,
) -> Execution:
    """The repeat with the median makespan, with what all of them say of spread and trust."""
    makespans = tuple(max(record.times.end) for record in measured)
    middle = sorted(range(len(measured)), key=lambda index: (makespans[index], index))[(len(measured) - 1) // 2]
    record, prepared = measured[middle], job.prepared
    facts = measured_facts(prepared.job, job.schedule, record.times, makespans, warmup, dispatch_overhead_ns)
    task_scratch(prepared)  # not timed: the session is over
    timeline = measured_timeline(
        prepared.job, prepared.ledger, job.problem, job.schedule, record.times, facts.joined(session), record.transfers
    )
    return Execution(**vars(results), timeline=timeline, makespans=makespans)


def sequential(
    program: Program,
    graph: TaskGraph,
    batch: Batch,
    options: RuleOptions,
    settings: Settings | None = None,
) -> Results:
    """The reference: the same kernels in the order of the task graph, on one thread. Nothing is timed or metered."""
    problem = Problem(graph, abstract_machine(1), tuple((1,) for _ in graph.tasks), "reference")
    schedule = Schedule((Lane("u0", tuple(task.id for task in graph.tasks)),), "sequential")
    one = Scheduled(prepare(program, graph, batch, options, settings), problem, schedule)
    with find_executor("threads")([one], Limits()) as session:
        session.run(0)
        return session.results(0)
