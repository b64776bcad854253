"""From the times of a run to a timeline of the same type as the simulator's, with the facts of the measurement."""

import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import quantiles

import torch

from alrsim.execution.job import Job
from alrsim.execution.kernels.ledger import Ledger, label, measured_graph
from alrsim.execution.measuring.allocator import keep_freed_memory
from alrsim.execution.prepared import Scheduled
from alrsim.execution.session import Record
from alrsim.execution.workers.thread_workers import Times, core_count
from alrsim.rules.optimizers import OPTIMIZERS
from alrsim.schedule.lower import homes
from alrsim.schedule.schedule import Schedule
from alrsim.tasks.problem import Problem
from alrsim.tasks.taskgraph import Category, TaskGraph
from alrsim.tasks.token import NONE
from alrsim.timeline.facts import Facts
from alrsim.timeline.memory import memory_points
from alrsim.timeline.timeline import MemPoint, Span, Timeline, TransferSpan

BUSY = 0.9
"""A run whose workers had less than this share of their cores while they computed is flagged."""

SHORT = 20
"""A task shorter than this many dispatch overheads is flagged."""


def measured_timeline(
    job: Job,
    ledger: Ledger,
    problem: Problem,
    schedule: Schedule,
    times: Times,
    facts: Facts,
    transfers: tuple[TransferSpan, ...] | None = None,
) -> Timeline:
    """The timeline of one run.

    Args:
        transfers: What crossed units; ``None``: data was handed over by reference.
    """
    graph, unit_of = job.graph, schedule.unit_of
    names = tuple(lane.unit for lane in schedule.lanes)
    home = homes(problem, schedule)
    real = measured_graph(graph, ledger, _resident(job))
    layers = {names[unit_of[task.id]] for task in graph.tasks if task.id.stage < graph.stages}
    timeline = Timeline(
        "measured",
        schedule.digest,
        names,
        _spans(graph, schedule, times),
        _handoffs(job, ledger, schedule, times, home) if transfers is None else transfers,
        layer_units=tuple(name for name in names if name in layers),
        facts=facts,
    )
    return replace(timeline, memory=_memory(real, timeline, [names[unit] for unit in home]))


def _spans(graph: TaskGraph, schedule: Schedule, times: Times) -> tuple[Span, ...]:
    """Of the tasks that have ended, by start, unit and end."""
    unit_of, tasks = schedule.unit_of, graph.tasks
    rows = [
        (times.start[at], unit_of[task.id], times.end[at], at) for at, task in enumerate(tasks) if times.end[at] >= 0
    ]
    return tuple(Span(tasks[at].id, schedule.lanes[unit].unit, begun, ended) for begun, unit, ended, at in sorted(rows))


def _memory(real: TaskGraph, timeline: Timeline, home: Sequence[str]) -> tuple[MemPoint, ...]:
    """Units that read another's parameters have them from the start: shared, or there before the step."""
    unit_of = {span.task: span.unit for span in timeline.spans}
    held = []
    for buffer in real.buffers:
        if buffer.resident:
            there = {unit_of[real.tasks[reader].id] for reader in buffer.readers} - {home[buffer.stage]}
            held += [TransferSpan(buffer.name, home[buffer.stage], unit, 0, 0, buffer.bytes) for unit in sorted(there)]
    return memory_points(real, replace(timeline, transfers=(*timeline.transfers, *held)), home)


def partial_timeline(job: Scheduled, record: Record | None, session: Facts, stopped: str) -> Timeline | None:
    """What had ended when a run stopped; ``None`` if nothing had. Memory is left out: lifetimes are unknown."""
    if record is None or max(record.times.end, default=NONE) < 0:
        return None
    schedule, graph = job.schedule, job.prepared.job.graph
    names, spans = tuple(lane.unit for lane in schedule.lanes), _spans(graph, schedule, record.times)
    made = Facts(device=device_name(), torch=torch.__version__).joined(session)
    facts = replace(made, partial=True, tasks_done=len(spans), tasks=len(graph.tasks), stopped=stopped)
    return Timeline("measured", schedule.digest, names, spans, record.transfers or (), facts=facts)


def device_name() -> str:
    """The processor's name where the system tells, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _resident(job: Job) -> dict[int, dict[Category, int]]:
    """Bytes of parameters, gradients and optimizer state that live for the whole step, per stage."""
    states = OPTIMIZERS[job.options.optimizer].states
    found: dict[int, dict[Category, int]] = {}
    for stage in job.program.at(1):
        size = sum(job.program.parameters[name].nbytes for name in stage.parameters)
        if size:
            found[stage.index] = {Category.PARAM: size, Category.GRAD: size}
            if states:
                found[stage.index][Category.OPTIMIZER] = states * size
    return found


def _handoffs(
    job: Job, ledger: Ledger, schedule: Schedule, times: Times, home: Sequence[int]
) -> tuple[TransferSpan, ...]:
    """A buffer, or a term of a sum, that is read on another unit is handed over by reference: it is there at its
    producer's end, or, if the reader was asleep, when it woke up."""
    graph, unit_of = job.graph, schedule.unit_of
    names = tuple(lane.unit for lane in schedule.lanes)
    unit = [unit_of[task.id] for task in graph.tasks]
    handed = [(label(key), one.producer, one.stage, one.readers, one.bytes) for key, one in ledger.entries.items()]
    handed += [
        (f"{label(key)}+{graph.tasks[task].id}", task, total.stage, total.readers, size)
        for key, total in ledger.sums.items()
        for task, size in total.terms
    ]
    spans = []
    for name, producer, stage, readers, size in handed:
        here, start = (unit[producer], times.end[producer]) if producer >= 0 else (home[stage], 0)
        for there in sorted({unit[reader] for reader in readers} - {here}):
            end = max(start, times.woken.get((producer, there), start))
            spans.append(TransferSpan(name, names[here], names[there], start, end, size))
    return tuple(sorted(spans, key=lambda span: (span.start, span.source, span.target, span.buffer)))


def measured_facts(
    job: Job,
    schedule: Schedule,
    times: Times,
    makespans: Sequence[int],
    warmup: int,
    overhead: int,
) -> Facts:
    tasks = job.graph.tasks
    cores, busy = core_count(), sum(bool(lane.tasks) for lane in schedule.lanes)
    short = [
        str(task.id) for index, task in enumerate(tasks) if times.end[index] - times.start[index] < SHORT * overhead
    ]
    flags = []
    if busy > cores:
        flags.append(f"units > cores: {busy} busy units share {cores} cores")
    if short:
        flags.append(
            f"{len(short)} of {len(tasks)} tasks are shorter than {SHORT}x the dispatch overhead of {overhead} ns, "
            f"such as {short[0]}"
        )
    share = sum(times.cpu) / max(1, sum(end - start for start, end in zip(times.start, times.end, strict=True)))
    if share < BUSY:
        flags.append(f"host busy: tasks had {share:.0%} of their cores, other programs the rest")
    quarter, _, upper = quantiles(makespans, n=4) if len(makespans) > 1 else (makespans[0],) * 3
    sigma = job.settings.sigma
    return Facts(
        device=device_name(),
        torch=torch.__version__,
        threads=1,
        cores=cores,
        units=len(schedule.lanes),
        seed=job.settings.seed,
        sigma=tuple(f"{one:g}" for one in sigma) if isinstance(sigma, tuple) else sigma,
        noise=job.options.noise,
        repeats=len(makespans),
        warmup=warmup,
        makespan_min_ns=min(makespans),
        makespan_max_ns=max(makespans),
        makespan_iqr_ns=round(upper - quarter),
        dispatch_overhead_ns=overhead,
        cpu_share=round(share, 3),
        freed_memory_kept=keep_freed_memory(),
        flags=tuple(flags),
    )
