"""A job with its data, ready to be run under any schedule: the recording pass, and what a worker calls per task."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from alrsim.allocation import require_memory
from alrsim.errors import ExecutionError
from alrsim.execution.job import Job, Run, Settings, build_job, optimizer_state
from alrsim.execution.kernels.ledger import Ledger, last_dependents, require_ordered
from alrsim.execution.kernels.registry import KERNELS, Kernel
from alrsim.execution.kernels.sigma_gradient import refuse_sigma_gradient
from alrsim.execution.kernels.store import Store
from alrsim.execution.measuring.allocator import keep_freed_memory
from alrsim.execution.programs.program import Program
from alrsim.execution.programs.receptive_field import find_receptive_fields
from alrsim.execution.workers.division import Division, UnitView, divide
from alrsim.execution.workers.thread_workers import run_lanes
from alrsim.rules.options import RuleOptions
from alrsim.schedule.actions import Transport
from alrsim.schedule.lower import homes
from alrsim.schedule.schedule import Schedule
from alrsim.tasks.problem import Problem
from alrsim.tasks.taskgraph import Category, TaskGraph
from alrsim.tasks.token import Kind


@dataclass(frozen=True)
class Batch:
    """One step's samples.

    Attributes:
        inputs: The model's inputs, each ``(samples, ...)``.
        targets: Class indices, ``(samples,)`` or ``(samples, positions)``.
    """

    inputs: tuple[Tensor, ...]
    targets: Tensor

    def to(self, device: torch.device | str) -> "Batch":
        """The same samples on another device."""
        return Batch(tuple(value.to(device) for value in self.inputs), self.targets.to(device))


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
        MemoryError: the recording pass holds more at once than the host has.
    """
    require_memory(graph.peak_bytes)
    keep_freed_memory()
    job = build_job(program, graph, options, settings or Settings())
    refuse_sigma_gradient(job)
    for one in job.instances.ordered:
        program.at(one.copies)
    inputs, targets = split_batch(job, batch)
    if job.settings.mask == "reach" and job.segmentation.has_lr:
        job = replace(job, receptive_fields=find_receptive_fields(job, inputs[0]))
    prepared = Prepared(job, batch, Ledger(), inputs, targets, kernels)
    run = new_run(prepared, recording=True)
    order = [(index,) for index in range(len(graph.tasks))]
    run_lanes(graph, [order], task_body(prepared, run), pin=False)
    require_ordered(graph, prepared.ledger)
    return prepared


def prepared_on(prepared: Prepared, device: torch.device) -> Prepared:
    """The same job on another device: recorded anew, because what is kept there may take other bytes.

    Raises:
        ExecutionError: anything that the executor cannot do there.
    """
    job = prepared.job
    if job.program.device == device:
        return prepared
    program, batch = job.program.to(device), prepared.batch.to(device)
    return prepare(program, job.graph, batch, job.options, job.settings, kernels=prepared.kernels)


def lane_items(graph: TaskGraph, schedule: Schedule) -> list[list[tuple[int, ...]]]:
    """Items per lane: single tasks, or fused pairs that run back to back."""
    index = graph.index
    return [[tuple([index[task] for task in fused]) for fused in lane] for lane in schedule.fused_lanes()]


def division_of(job: Scheduled, transport: Transport = "buffered") -> Division:
    """A checked schedule, divided among units that share no memory.

    Raises:
        ExecutionError: data that cannot leave its process must.
    """
    graph = job.prepared.job.graph
    lanes, home = lane_items(graph, job.schedule), homes(job.problem, job.schedule)
    return divide(graph, job.prepared.ledger, lanes, home, transport)


def task_body(prepared: Prepared, run: Run) -> Callable[[int], None]:
    """What a worker calls for each task: its kernel under the token's profiler label, then the freeing of buffers."""
    tasks, store = prepared.job.graph.tasks, run.store
    calls = [
        labelled(partial(prepared.kernels[task.id.kind], run, index, task.id), str(task.id))
        for index, task in enumerate(tasks)
    ]

    def body(index: int) -> None:
        calls[index]()
        store.finish(index)

    return body


def empty_body(store: Store) -> Callable[[int], None]:
    """:func:`task_body` of tasks that compute nothing: what is left is the executor's own time."""
    call = labelled(lambda: None, "0F0")

    def body(index: int) -> None:
        call()
        store.finish(index)

    return body


def labelled(call: Callable[[], None], token: str) -> Callable[[], None]:
    """The call under its label in torch's profiler; without a profiler the label would only cost time."""
    if not torch.autograd._profiler_enabled():  # type: ignore[attr-defined]
        return call

    def run() -> None:
        with torch.profiler.record_function(token):
            call()

    return run


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


def new_run(prepared: Prepared, *, recording: bool, view: UnitView | None = None) -> Run:
    """Fresh parameters, gradients and store for one run.

    Args:
        view: Of one unit, for a run whose units are processes.
    """
    job = prepared.job
    last = last_dependents(job.graph) if recording else None
    store = Store(prepared.ledger, recording=recording, tasks=len(job.graph.tasks), last=last, view=view)
    parameters = {name: value.detach().requires_grad_() for name, value in job.program.parameters.items()}
    moved: list[str] = []
    for stage in job.program.at(1):
        if view is None or view.home[stage.index]:
            moved += stage.parameters
        if stage.parameters and (view is None or ("grad", stage.index) in view.terms):
            store.values["grad", stage.index] = {
                name: torch.zeros_like(parameters[name], requires_grad=False) for name in stage.parameters
            }
    for index, values in enumerate(prepared.inputs):
        for name, value in values.items():
            home = min(edge.target for edge in job.program.stages.edges if edge.value == name)
            store.preload(("input", name, index), value, category=Category.ACTIVATION, size=value.nbytes, stage=home)
    ours = {name: parameters[name].detach().clone() for name in moved}  # what updates here may move
    state = optimizer_state(ours, job.options.optimizer)
    return Run(job, store, prepared.targets, parameters, {**parameters, **ours}, dict(job.program.buffers), state)
