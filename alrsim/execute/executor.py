"""Carry out a schedule: the same value that the simulator takes, on real tensors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from alrsim.errors import ExecutionError
from alrsim.execute.allocator import keep_freed_memory
from alrsim.execute.empty import empty_lane
from alrsim.execute.job import Job, Run, Settings, build_job, optimizer_state
from alrsim.execute.kernels import KERNELS, Kernel
from alrsim.execute.ledger import Ledger, last_dependents, require_ordered
from alrsim.execute.measured import measured_facts, measured_timeline
from alrsim.execute.program import Program
from alrsim.execute.reach import find_reach
from alrsim.execute.sigma import refuse_sigma_gradient, sigma_gradients
from alrsim.execute.store import Store
from alrsim.execute.workers import Times, run_lanes
from alrsim.hardware.machine import abstract_machine
from alrsim.rules.options import RuleOptions
from alrsim.schedule.check import check
from alrsim.schedule.schedule import Lane, Schedule
from alrsim.tasks.problem import Problem
from alrsim.tasks.taskgraph import Category, TaskGraph
from alrsim.tasks.token import Kind
from alrsim.timeline.timeline import Timeline


@dataclass(frozen=True)
class Batch:
    """One step's samples.

    Attributes:
        inputs: The model's inputs, each ``(samples, ...)``.
        targets: Class indices, ``(samples,)`` or ``(samples, positions)``.
    """

    inputs: tuple[Tensor, ...]
    targets: Tensor


@dataclass(frozen=True)
class Execution:
    """What a measured run gave.

    Attributes:
        timeline: Of the repeat with the median makespan.
        gradients: Of the step's mean loss, by parameter.
        buffers: Running statistics after the step, by name.
        parameters: After the step's update (equal to the program's own where updates are no tasks).
        losses: Per-sample losses by loss token, ``(copies, samples)``.
        makespans: Of every repeat, in ns, in order of running.
        sigma_gradients: Of the step's mean loss with respect to log sigma, by stage, where it was asked for.
    """

    timeline: Timeline
    gradients: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    parameters: Mapping[str, Tensor]
    losses: Mapping[str, Tensor]
    makespans: tuple[int, ...]
    sigma_gradients: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """A job with its data and what the recording pass found; ready to be timed under any schedule."""

    job: Job
    batch: Batch
    ledger: Ledger
    inputs: tuple[Mapping[str, Tensor], ...]
    targets: tuple[Tensor, ...]
    kernels: Mapping[Kind, Kernel] = field(default_factory=lambda: KERNELS, repr=False)


@dataclass(frozen=True)
class Scheduled:
    """A prepared job with a schedule that has been checked."""

    prepared: Prepared
    problem: Problem
    schedule: Schedule


def prepare(
    program: Program,
    graph: TaskGraph,
    batch: Batch,
    options: RuleOptions,
    settings: Settings | None = None,
    *,
    kernels: Mapping[Kind, Kernel] = KERNELS,
) -> Prepared:
    """Compile the stages for every stacked batch size and run the tasks once in reference order, recording.

    Raises:
        ExecutionError: data of the wrong shape, or anything that the executor cannot do.
    """
    keep_freed_memory()
    job = build_job(program, graph, options, settings or Settings())
    refuse_sigma_gradient(job)
    for one in job.instances.ordered:
        program.at(one.copies)
    inputs, targets = split_batch(job, batch)
    if job.settings.mask == "reach" and job.segmentation.has_lr:
        job = replace(job, reach=find_reach(job, inputs[0]))
    prepared = Prepared(job, batch, Ledger(), inputs, targets, kernels)
    run = new_run(prepared, recording=True)
    order = [(index,) for index in range(len(graph.tasks))]
    run_lanes(graph, [order], task_body(prepared, run), pin=False)
    require_ordered(graph, prepared.ledger)
    return prepared


def execute(
    program: Program,
    problem: Problem,
    schedule: Schedule,
    batch: Batch,
    options: RuleOptions,
    settings: Settings | None = None,
    *,
    repeats: int = 5,
    warmup: int = 1,
    dispatch_overhead_ns: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    kernels: Mapping[Kind, Kernel] = KERNELS,
) -> Execution:
    """Run a schedule ``warmup + repeats`` times on one worker thread per lane.

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
    repeats: int = 5,
    warmup: int = 1,
    dispatch_overhead_ns: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Execution:
    """:func:`execute` without the recording pass; the schedule must have been checked."""
    one = Scheduled(prepared, problem, schedule)
    (result,) = execute_all(
        [one], repeats=repeats, warmup=warmup, dispatch_overhead_ns=dispatch_overhead_ns, progress=progress
    )
    return result


def execute_all(
    jobs: Sequence[Scheduled],
    *,
    repeats: int = 5,
    warmup: int = 1,
    dispatch_overhead_ns: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Execution]:
    """Run several schedules in turn, A B C A B C ..., so that a host that drifts does not favour one of them.

    Args:
        progress: Called with (runs done, runs in total).
    """
    if repeats < 1 or warmup < 0:
        raise ExecutionError(f"{repeats} repeats and {warmup} warm-up runs: need at least 1 and 0", where="--repeats")
    if dispatch_overhead_ns is None:
        dispatch_overhead_ns = dispatch_overhead()
    lanes = [lane_items(job.prepared.job.graph, job.schedule) for job in jobs]
    measured: list[list[Times]] = [[] for _ in jobs]
    last: list[Run] = []
    for turn in range(warmup + repeats):
        last = []
        for index, job in enumerate(jobs):
            run = new_run(job.prepared, recording=False)
            times = run_lanes(job.prepared.job.graph, lanes[index], task_body(job.prepared, run))
            last.append(run)
            if turn >= warmup:
                measured[index].append(times)
            if progress is not None:
                progress(turn * len(jobs) + index + 1, (warmup + repeats) * len(jobs))
    return [
        _conclude(job, run, found, warmup, dispatch_overhead_ns)
        for job, run, found in zip(jobs, last, measured, strict=True)
    ]


def _conclude(job: Scheduled, run: Run, measured: Sequence[Times], warmup: int, dispatch_overhead_ns: int) -> Execution:
    """The repeat with the median makespan, with what all of them say of spread and trust."""
    prepared = job.prepared
    makespans = tuple(max(times.end) for times in measured)
    middle = sorted(range(len(measured)), key=lambda index: (makespans[index], index))[(len(measured) - 1) // 2]
    facts = measured_facts(prepared.job, job.schedule, measured[middle], makespans, warmup, dispatch_overhead_ns)
    timeline = measured_timeline(prepared.job, prepared.ledger, job.problem, job.schedule, measured[middle], facts)
    return _result(prepared, run, timeline, makespans)


def sequential(
    program: Program,
    graph: TaskGraph,
    batch: Batch,
    options: RuleOptions,
    settings: Settings | None = None,
) -> Execution:
    """The reference: the same kernels in the order of the task graph, on one thread."""
    problem = Problem(graph, abstract_machine(1), tuple((1,) for _ in graph.tasks), "reference")
    schedule = Schedule((Lane("u0", tuple(task.id for task in graph.tasks)),), "sequential")
    return execute(program, problem, schedule, batch, options, settings, repeats=1, warmup=0, dispatch_overhead_ns=0)


def lane_items(graph: TaskGraph, schedule: Schedule) -> list[list[tuple[int, ...]]]:
    """Items per lane: single tasks, or fused pairs that run back to back."""
    second = dict(schedule.overlaps)
    absorbed = set(second.values())
    index = graph.index
    return [
        [
            (index[task], index[second[task]]) if task in second else (index[task],)
            for task in lane.tasks
            if task not in absorbed
        ]
        for lane in schedule.lanes
    ]


def dispatch_overhead(tasks: int = 400) -> int:
    """ns that the executor spends per task besides the kernel: empty tasks through the same workers, median of 5."""
    graph = empty_lane(tasks)
    lane = [(index,) for index in range(tasks)]

    def body(index: int) -> None:
        with torch.profiler.record_function("0F0"):
            store.finish(index)

    totals = []
    for _ in range(5):
        store = Store(Ledger(), recording=False, tasks=tasks)
        totals.append(max(run_lanes(graph, [lane], body).end))
    return sorted(totals)[2] // tasks


def task_body(prepared: Prepared, run: Run) -> Callable[[int], None]:
    """What a worker calls for each task: its kernel under the token's profiler label, then the freeing of buffers."""
    tasks, store = prepared.job.graph.tasks, run.store
    calls = [
        (partial(prepared.kernels[task.id.kind], run, index, task.id), str(task.id)) for index, task in enumerate(tasks)
    ]

    def body(index: int) -> None:
        call, token = calls[index]
        with torch.profiler.record_function(token):
            call()
        store.finish(index)

    return body


def split_batch(job: Job, batch: Batch) -> tuple[tuple[Mapping[str, Tensor], ...], tuple[Tensor, ...]]:
    """Inputs by name and targets of every micro-batch.

    Raises:
        ExecutionError: data of the wrong shape.
    """
    names, size, count = job.program.inputs, job.program.batch, job.options.microbatches
    if len(batch.inputs) != len(names):
        raise ExecutionError(f"the model reads {len(names)} inputs, got {len(batch.inputs)}", where=job.program.name)
    for name, value in (*zip(names, batch.inputs, strict=True), ("targets", batch.targets)):
        expected = (size * count, *job.program.shapes[name][1:]) if name in job.program.shapes else (size * count,)
        if tuple(value.shape[: len(expected)]) != expected:
            raise ExecutionError(
                f"{name} has shape {tuple(value.shape)}, expected {expected}: {count} micro-batches of {size}",
                where=job.program.name,
            )
    parts = [torch.split(value, size) for value in batch.inputs]
    inputs = tuple(dict(zip(names, (part[index] for part in parts), strict=True)) for index in range(count))
    return inputs, torch.split(batch.targets, size)


def new_run(prepared: Prepared, *, recording: bool) -> Run:
    """Fresh parameters, gradients and store for one run."""
    job = prepared.job
    last = last_dependents(job.graph) if recording else None
    store = Store(prepared.ledger, recording=recording, tasks=len(job.graph.tasks), last=last)
    parameters = {name: value.detach().requires_grad_() for name, value in job.program.parameters.items()}
    updated = {name: value.detach().clone() for name, value in parameters.items()}
    for stage in job.program.at(1):
        if stage.parameters:
            store.values["grad", stage.index] = {
                name: torch.zeros_like(parameters[name], requires_grad=False) for name in stage.parameters
            }
    for index, values in enumerate(prepared.inputs):
        for name, value in values.items():
            home = min(edge.target for edge in job.program.stages.edges if edge.value == name)
            store.preload(("input", name, index), value, category=Category.ACTIVATION, size=value.nbytes, stage=home)
    state = optimizer_state(parameters, job.options.optimizer)
    return Run(job, store, prepared.targets, parameters, updated, dict(job.program.buffers), state)


def _result(prepared: Prepared, run: Run, timeline: Timeline, makespans: tuple[int, ...]) -> Execution:
    values = run.store.values
    gradients = {name: value for key, total in values.items() if key[0] == "grad" for name, value in total.items()}
    buffers = {**run.buffers, **{str(key[1]): value for key, value in values.items() if key[0] == "stat"}}
    loss = prepared.job.loss_stage
    losses = {
        f"{loss}L{key[1]}" + (f".{key[2]}" if int(key[2]) >= 0 else ""): value
        for key, value in values.items()
        if key[0] == "loss"
    }
    return Execution(timeline, gradients, buffers, run.updated, losses, makespans, sigma_gradients(run))
