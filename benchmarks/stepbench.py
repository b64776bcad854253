"""Steps of several methods on one model, prepared for the executor and timed in turn, by kind of task."""

import gc
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from alrsim.execution.executor import Prepared, lane_items, new_run, prepare, task_body
from alrsim.execution.job import Settings
from alrsim.execution.kernels.registry import KERNELS, Kernel
from alrsim.execution.measuring.timelines import BUSY, device_name
from alrsim.execution.programs.program import Program
from alrsim.execution.workers.thread_workers import Times, run_lanes
from alrsim.experiments.measures import bench as measures
from alrsim.experiments.measures.bench import zoo_model
from alrsim.hardware.machine import abstract_machine
from alrsim.hardware.precision import PrecisionPlan
from alrsim.schedulers import schedule
from alrsim.steps.draft import Draft
from alrsim.steps.measuring import Bench
from alrsim.tasks.problem import Problem
from alrsim.tasks.taskgraph import TaskGraph
from alrsim.tasks.token import Kind


@dataclass(frozen=True)
class Model:
    """A zoo model, its size in words and where it is cut.

    Attributes:
        options: Of the zoo, as pairs.
        samples: In the step.
    """

    name: str
    options: tuple[tuple[str, str], ...] = ()
    samples: int = 50
    cut: str = "layer"

    @property
    def about(self) -> str:
        sizes = " ".join(f"{key}={value}" for key, value in self.options)
        return f"{self.name} {sizes}".strip() + f", batch {self.samples}"


@dataclass(frozen=True)
class Variant:
    """One way to make the step.

    Attributes:
        label: For the table.
        changes: Options of the estimator.
        precision: Formats of state; default those of the method.
        kernels: That run its tasks.
    """

    label: str
    method: str
    copies: int = 1
    group: int | None = None
    changes: Mapping[str, str] = field(default_factory=dict)
    precision: PrecisionPlan | None = None
    kernels: Mapping[Kind, Kernel] = field(default_factory=lambda: KERNELS)


@dataclass(frozen=True)
class Job:
    """A prepared step and the order in which workers run it.

    Attributes:
        pinned: Each worker to a core of its own; not where torch shall use several threads.
    """

    label: str
    prepared: Prepared
    lanes: Sequence[Sequence[tuple[int, ...]]]
    pinned: bool = True


@dataclass(frozen=True, slots=True)
class Turn:
    """Seconds of one step.

    Attributes:
        kinds: Sum of the spans of every kind of task, over all workers.
        share: Of its core that a task had.
        cpu: Seconds that the workers' own threads computed; helpers that torch starts are not among them.
    """

    total: float
    kinds: Mapping[str, float]
    share: float
    cpu: float = 0.0


@lru_cache(maxsize=4)
def open_bench(model: Model, microbatches: int = 1) -> Bench:
    """The model on one batch: digits where they fit, else random data."""
    return measures.open_bench(zoo_model(model.name, *model.options), model.samples, microbatches, cut=model.cut)


def draft_of(bench: Bench, variant: Variant) -> Draft:
    """The tasks of a step without updates."""
    options = {"copies": variant.copies, "group": variant.group, "precision": variant.precision, **variant.changes}
    return measures.draft(bench, variant.method, **options)


def program_of(bench: Bench, draft: Draft) -> Program:
    """The torch program of a step's stages."""
    return bench.work.model.program(bench.work.sized, draft.stages)


def prepared_of(bench: Bench, variant: Variant) -> Prepared:
    """The step, recorded once."""
    draft = draft_of(bench, variant)
    program = program_of(bench, draft)
    return prepare(program, draft.tasks, bench.batch, draft.options, Settings(), kernels=variant.kernels)


def job_of(bench: Bench, variant: Variant, units: int = 1, *, pinned: bool = True) -> Job:
    """Ready to run: on one worker in the reference order, on several as a list schedule of
    measured times has it."""
    prepared = prepared_of(bench, variant)
    tasks = prepared.job.graph
    lanes: Sequence[Sequence[tuple[int, ...]]] = [[(index,) for index in range(len(tasks.tasks))]]
    if units > 1:
        problem = timed(prepared, units)
        lanes = lane_items(tasks, schedule(problem, "list"))
    return Job(variant.label, prepared, lanes, pinned)


def timed(prepared: Prepared, units: int) -> Problem:
    """The step on equal units, with the times that its tasks took alone."""
    tasks = prepared.job.graph
    order = [[(index,) for index in range(len(tasks.tasks))]]
    times = None
    for _ in range(2):
        times = run_lanes(tasks, order, task_body(prepared, new_run(prepared, recording=False)))
    assert times is not None
    spans = [max(1, end - start) for start, end in zip(times.start, times.end, strict=True)]
    return Problem(tasks, abstract_machine(units), tuple((span,) * units for span in spans), "measured")


def serial_problem(tasks: TaskGraph) -> Problem:
    """The step on one unit, all tasks as long."""
    return Problem(tasks, abstract_machine(1), tuple((1,) for _ in tasks.tasks), "equal times")


def run_once(job: Job) -> Turn:
    """One step."""
    graph = job.prepared.job.graph
    gc.collect()
    times = run_lanes(graph, job.lanes, task_body(job.prepared, new_run(job.prepared, recording=False)), pin=job.pinned)
    return turn_of(graph, times)


def turn_of(graph: TaskGraph, times: Times) -> Turn:
    """What a run's times say of the step."""
    spans = [end - start for start, end in zip(times.start, times.end, strict=True)]
    kinds: dict[str, float] = {}
    for task, span in zip(graph.tasks, spans, strict=True):
        kinds[task.id.kind] = kinds.get(task.id.kind, 0.0) + span / 1e9
    busy = sum(times.cpu)
    return Turn((max(times.end) - min(times.start)) / 1e9, kinds, busy / max(1, sum(spans)), busy / 1e9)


def in_turn(jobs: Sequence[Job], repeats: int, warmup: int = 1) -> dict[str, list[Turn]]:
    """A B C A B C ...: a host that drifts favours none of them."""
    found: dict[str, list[Turn]] = {job.label: [] for job in jobs}
    for turn in range(warmup + repeats):
        for job in jobs:
            one = run_once(job)
            if turn >= warmup:
                found[job.label].append(one)
    return found


def host(turns: Mapping[str, Sequence[Turn]]) -> str:
    """The machine, and whether it was busy with something else."""
    load = os.getloadavg()[0]
    shares = {label: min(turn.share for turn in found) for label, found in turns.items()}
    flags = [f"{label} {share:.0%}" for label, share in shares.items() if share < BUSY]
    busy = f"; HOST BUSY: tasks had less than {BUSY:.0%} of their cores in {', '.join(flags)}" if flags else ""
    return f"{device_name()}, load average {load:.1f}{busy}"
