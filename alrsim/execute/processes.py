"""The executor ``processes``: one process per unit on this host, pinned to a core of its own.

The workers are forked, so they have the jobs without a copy. A message is copied by its sender into shared memory that
has no name, and read there in place. Between two units on one host that is faster than torch.distributed's gloo, which
passes everything through a socket (``python -m benchmarks transports`` measures both). Nothing outlives the session:
the workers die with their parent, and the memory with the workers.
"""

import gc
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from alrsim.errors import ExecutionError
from alrsim.execute.arena import EXCHANGES, Arena, offsets_of, open_arena
from alrsim.execute.clock import clock_offset
from alrsim.execute.ledger import label
from alrsim.execute.part import Division, divide
from alrsim.execute.prepared import Scheduled, lane_items
from alrsim.execute.process_worker import Assignment, Post, serve
from alrsim.execute.results import joined_results
from alrsim.execute.session import Exchange, Fact, InterruptedRun, Limits, Record, Results, RunError
from alrsim.execute.workers import Times, available_cores
from alrsim.schedule.lower import homes
from alrsim.timeline.timeline import TransferSpan
from alrsim.units import Bytes, Ns

_POLL_SECONDS = 0.1
_HEAD_START_NS = 1_500_000
"""From the order to start to the start: time for every worker to read it."""

_LEAST_DATA = 32 << 20
"""Bytes of the message area at least, so that links can be measured."""


@contextmanager
def processes(jobs: Sequence[Scheduled], limits: Limits) -> Iterator["ProcessSession"]:
    """Fork one worker per unit of the largest job.

    Raises:
        ExecutionError: the system cannot fork, or data that cannot leave its process must.
    """
    _refuse()
    session = ProcessSession(jobs, limits)
    try:
        yield session
    finally:
        session.close()


def _refuse() -> None:
    if "fork" not in multiprocessing.get_all_start_methods():
        raise ExecutionError("this system cannot fork", where="--executor processes", fix="use threads or torchrun")
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        raise ExecutionError(
            "a process that has used CUDA cannot be forked", where="--executor processes", fix="use cuda or torchrun"
        )


class ProcessSession:
    """See :class:`alrsim.execute.session.Session`."""

    def __init__(self, jobs: Sequence[Scheduled], limits: Limits) -> None:
        self._jobs, self._limits = jobs, limits
        self._divisions = [_divide(job) for job in jobs]
        units = max(len(job.schedule.lanes) for job in jobs)
        places = [offsets_of([parcel.template for parcel in one.parcels]) for one in self._divisions]
        self._arena = open_arena(
            units,
            max(len(job.prepared.job.graph.tasks) for job in jobs),
            max(1, *(len(one.parcels) for one in self._divisions)),
            max(_LEAST_DATA, *(size for _, size in places)),
        )
        self._assignments = [
            Assignment(job.prepared, division, offsets)
            for job, division, (offsets, _) in zip(jobs, self._divisions, places, strict=True)
        ]
        self._names = [lane.unit for lane in max((job.schedule.lanes for job in jobs), key=len)]
        self._workers, self._pipes = _fork(units, self._arena, self._assignments)
        self._skew = self._measured_skew()

    @property
    def facts(self) -> Mapping[str, Fact]:
        return {
            "executor": "processes",
            "transport": "shared memory, copied by the sender",
            "clock": "one clock for all processes of a host: CLOCK_MONOTONIC through time.perf_counter_ns",
            "clock_skew_ns": self._skew,
        }

    def run(self, job: int) -> Record:
        self._arena.clear()
        self._together(job, dict.fromkeys(range(len(self._workers)), ("run", job)))
        return self._record(job)

    def results(self, job: int) -> Results:
        parts = [self._ask(unit, "results", job) for unit in range(len(self._workers))]
        return joined_results(self._jobs[job].prepared, parts)

    def sample(self, job: int, workers: int) -> list[Times]:
        self._arena.clear()
        self._together(job, dict.fromkeys(range(workers), ("sample", job)))
        count = len(self._jobs[job].prepared.job.graph.tasks)
        return [_times(*(row[:count].tolist() for row in self._arena.tasks[unit])) for unit in range(workers)]

    def exchange(self, source: int, target: int, size: Bytes, repeats: int) -> list[Exchange]:
        repeats, size = min(repeats, EXCHANGES), min(size, self._arena.size)
        self._arena.clear()
        self._together(None, {source: ("send", target, size, repeats), target: ("receive", source, repeats)})
        sent, left, arrived = (row[:repeats].tolist() for row in self._arena.exchanges)
        return [Exchange(b - a, max(b, c) - a) for a, b, c in zip(sent, left, arrived, strict=True)]

    def overhead(self, tasks: int) -> Ns:
        found = []
        for _ in range(5):
            self._arena.clear()
            found.append(self._together(None, {0: ("overhead", tasks)})[0])
        return int(sorted(found)[2])

    def close(self) -> None:
        """End every worker; those that do not listen are killed."""
        for pipe in self._pipes:
            with suppress(OSError, ValueError):
                pipe.send(("stop",))
        _end(self._workers, patience=1.0)
        for pipe in self._pipes:
            pipe.close()

    def _record(self, job: int) -> Record:
        """What the arena says: also of a run that did not end."""
        graph, schedule = self._jobs[job].prepared.job.graph, self._jobs[job].schedule
        unit_of, rows = schedule.unit_of, self._arena.tasks.tolist()
        units = [unit_of[task.id] for task in graph.tasks]
        start, end, cpu = ([rows[unit][part][task] for task, unit in enumerate(units)] for part in range(3))
        return Record(_times(start, end, cpu), self._transfers(job))

    def _transfers(self, job: int) -> tuple[TransferSpan, ...]:
        tasks = self._jobs[job].prepared.job.graph.tasks
        sent, left, arrived = self._arena.parcels.tolist()
        spans = []
        for index, parcel in enumerate(self._divisions[job].parcels):
            if parcel.key and arrived[index] >= 0:
                name = label(parcel.key) + (f"+{tasks[parcel.producer].id}" if parcel.term else "")
                end = max(left[index], arrived[index])
                source, target = self._names[parcel.source], self._names[parcel.target]
                spans.append(TransferSpan(name, source, target, sent[index], end, parcel.bytes))
        return tuple(sorted(spans, key=lambda span: (span.start, span.source, span.target, span.buffer)))

    def _together(self, job: int | None, orders: Mapping[int, tuple[Any, ...]]) -> list[Any]:
        """Give orders to several workers, start them at the same time, and wait for all."""
        try:
            for unit, order in orders.items():
                self._pipes[unit].send(order)
            self._gather(job, list(orders), "ready", self._limits.join_seconds)
            origin = time.perf_counter_ns() + _HEAD_START_NS
            for unit in orders:
                self._pipes[unit].send(origin)
            return self._gather(job, list(orders), "ok", self._limits.task_seconds)
        except KeyboardInterrupt:
            record = None if job is None else self._record(job)
            self._kill()
            raise InterruptedRun(record) from None
        except OSError:  # a pipe broke: its worker is gone
            self._raise_dead(job)
            raise

    def _ask(self, unit: int, *order: Any) -> Any:
        self._pipes[unit].send(order)
        return self._gather(None, [unit], "ok", self._limits.join_seconds)[0]

    def _gather(self, job: int | None, units: Sequence[int], word: str, patience: float) -> list[Any]:
        """An answer of every unit; ``patience`` is the longest time without anything beginning or ending."""
        found: dict[int, Any] = {}
        moves, since = -1, time.monotonic()
        while len(found) < len(units):
            open_ = [unit for unit in units if unit not in found]
            ready = wait([*(self._pipes[unit] for unit in open_), *self._sentinels()], _POLL_SECONDS)
            for unit in open_:
                if self._pipes[unit] in ready:
                    found[unit] = self._read(job, unit, word)
            if any(unit not in found and not self._workers[unit].is_alive() for unit in range(len(self._workers))):
                self._raise_dead(job)
            if (now := int(self._arena.states[:, 1].sum())) != moves or ready:
                moves, since = now, time.monotonic()
            elif time.monotonic() - since > patience:
                self._raise_hanging(job, patience)
        return [found[unit] for unit in units]

    def _sentinels(self) -> list[int]:
        return [worker.sentinel for worker in self._workers]

    def _read(self, job: int | None, unit: int, word: str) -> Any:
        try:
            kind, value = self._pipes[unit].recv()
        except (EOFError, OSError):
            self._raise_dead(job)
            raise
        if kind == "error":
            what, _where, fix = value
            raise self._failed(job, unit, what, fix)
        assert kind == word, f"a worker said {kind}, expected {word}"
        return value

    def _raise_dead(self, job: int | None) -> None:
        for unit, worker in enumerate(self._workers):
            worker.join(0.05)
            if worker.exitcode is not None:
                raise self._failed(job, unit, _ending(worker.exitcode), "see the system's log; try fewer copies")

    def _raise_hanging(self, job: int | None, patience: float) -> None:
        at = self._arena.states[:, 0].tolist()
        unit = next((unit for unit, task in enumerate(at) if task >= 0), 0)
        fix = "give it more time with --limit, or look into the task"
        raise self._failed(job, unit, f"hung: nothing began or ended for {patience:g} s", fix)

    def _failed(self, job: int | None, unit: int, what: str, fix: str) -> RunError:
        task = int(self._arena.states[unit, 0])
        if job is None:
            record, token = None, ""
        else:
            record = self._record(job)
            token = str(self._jobs[job].prepared.job.graph.tasks[task].id) if task >= 0 else ""
        self._kill()
        return RunError(what, record=record, unit=self._names[unit], token=token, fix=fix)

    def _kill(self) -> None:
        for worker in self._workers:
            worker.kill()
        _end(self._workers, patience=5.0)

    def _measured_skew(self) -> Ns:
        """Largest difference between the parent's clock and a worker's, uncertainty included."""
        found = []
        for unit in range(len(self._workers)):
            rounds = []
            for _ in range(8):
                before = time.perf_counter_ns()
                remote = self._ask(unit, "clock")
                rounds.append((before, remote, time.perf_counter_ns()))
            offset = clock_offset(rounds)
            # One clock: what looks like an offset is the way there and back.
            found.append(max(0, abs(offset.ns) - offset.residual_ns))
        return max(found)


def _divide(job: Scheduled) -> Division:
    graph = job.prepared.job.graph
    lanes = lane_items(graph, job.schedule)
    return divide(graph, job.prepared.ledger, lanes, homes(job.problem, job.schedule))


def _times(start: list[Ns], end: list[Ns], cpu: list[Ns]) -> Times:
    return Times(start, end, cpu)


def _ending(code: int) -> str:
    if code >= 0:
        return f"the worker ended with exit code {code}"
    word = " (the system kills so when memory runs out)" if code == -9 else ""
    return f"the worker was killed by signal {-code}{word}"


def _fork(
    units: int, arena: Arena, assignments: Sequence[Assignment], target: Callable[..., None] = serve
) -> tuple[list[BaseProcess], list[Connection]]:
    context, cores = multiprocessing.get_context("fork"), available_cores()
    flags = {(a, b): context.Semaphore(0) for a in range(units) for b in range(units) if a != b}
    pairs = [context.Pipe() for _ in range(units)]
    workers: list[BaseProcess] = []
    gc.collect()
    gc.freeze()  # collections in the workers would touch, and so copy, every page of the parent
    try:
        for unit, (_, there) in enumerate(pairs):
            others = [pipe for other, pair in enumerate(pairs) for pipe in pair if other != unit or pipe is pair[0]]
            core = cores[unit % len(cores)] if cores else None
            post = Post(unit, there, others, flags, core, os.getpid())
            worker: BaseProcess = context.Process(
                target=target, args=(post, arena, assignments), name=f"alrsim-unit-{unit}", daemon=True
            )
            worker.start()
            workers.append(worker)
    except OSError as error:
        for worker in workers:
            worker.kill()
        raise ExecutionError(
            f"could not start {units} worker processes: {error}", where="--executor processes", fix="use fewer units"
        ) from error
    finally:
        gc.unfreeze()
        for _, there in pairs:
            there.close()
    return workers, [here for here, _ in pairs]


def _end(workers: Sequence[BaseProcess], patience: float) -> None:
    until = time.monotonic() + patience
    for worker in workers:
        worker.join(max(0.0, until - time.monotonic()))
    for worker in workers:
        if worker.is_alive():
            worker.kill()
            worker.join()
