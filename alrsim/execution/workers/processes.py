"""The executor ``processes``: one process per unit on this host, pinned to a core of its own.

The workers are forked, so they have the jobs without a copy. A message is copied by its sender into shared memory that
has no name, and read there in place. Between two units on one host that is faster than torch.distributed's gloo, which
passes everything through a socket (``python -m benchmarks transports`` measures both). Nothing outlives the session:
the workers die with their parent (with the thread that opened the session, to be exact, which must live as long as it),
and the memory with the workers.
"""

import gc
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from alrsim.errors import ExecutionError
from alrsim.execution.prepared import Scheduled, division_of
from alrsim.execution.results import joined_results
from alrsim.execution.session import Exchange, Fact, InterruptedRun, Limits, Record, Results, RunError
from alrsim.execution.workers.arena import EXCHANGES, Arena, offsets_of, open_arena
from alrsim.execution.workers.clock import clock_offset
from alrsim.execution.workers.messages import transfer_spans
from alrsim.execution.workers.process_worker import Assignment, Post, serve
from alrsim.execution.workers.thread_workers import Times, available_cores
from alrsim.tasks.token import NONE
from alrsim.units import Bytes, Ns, format_bytes

_POLL_SECONDS = 0.1
_DYING_SECONDS = 2.0
"""Longest time from a broken pipe to its worker's end."""

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
    if reason := missing_fork():
        raise ExecutionError(reason, where="--executor processes", fix="use another executor")
    session = ProcessSession(jobs, limits)
    try:
        yield session
    finally:
        session.close()


def missing_fork() -> str:
    """Why this process cannot be forked; empty if it can."""
    if "fork" not in multiprocessing.get_all_start_methods():
        return "this system cannot fork processes"
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return "a process that has used CUDA cannot be forked"
    return ""


class ProcessSession:
    """See :class:`alrsim.execution.session.Session`."""

    def __init__(self, jobs: Sequence[Scheduled], limits: Limits) -> None:
        self._jobs, self._limits = jobs, limits
        self._divisions = [division_of(job) for job in jobs]
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
        self._over = False
        self._rss: tuple[str, ...] = ()  # once there are results
        self._workers, self._pipes = _fork(units, self._arena, self._assignments)
        try:
            self._skew = self._measured_skew()
        except BaseException:
            self.close()
            raise

    @property
    def facts(self) -> Mapping[str, Fact]:
        return {
            "executor": "processes",
            "transport": "shared memory, copied by the sender",
            "clock": "one clock for all processes of a host: CLOCK_MONOTONIC through time.perf_counter_ns",
            "clock_skew_ns": self._skew,
            **({"peak_rss_bytes": self._rss} if self._rss else {}),
        }

    def run(self, job: int) -> Record:
        self._arena.clear()
        self._together(job, dict.fromkeys(range(len(self._workers)), ("run", job)))
        return self._record(job)

    def results(self, job: int) -> Results:
        parts = [self._ask(unit, "results", job) for unit in range(len(self._workers))]
        peaks = [self._ask(unit, "peak_rss") for unit in range(len(self._workers))]
        self._rss = tuple(f"{name}={peak}" for name, peak in zip(self._names, peaks, strict=True))
        return joined_results(self._jobs[job].prepared, parts)

    def sample(self, job: int, workers: int) -> list[Times]:
        self._arena.clear()
        self._together(job, dict.fromkeys(range(workers), ("sample", job)))
        count = len(self._jobs[job].prepared.job.graph.tasks)
        return [Times(*(row[:count].tolist() for row in self._arena.tasks[unit])) for unit in range(workers)]

    def exchange(self, source: int, target: int, size: Bytes, repeats: int) -> list[Exchange]:
        if size > self._arena.size:
            raise ExecutionError(
                f"a message of {format_bytes(size)} does not fit into {format_bytes(self._arena.size)}",
                where="--executor processes",
                fix="measure links with smaller messages",
            )
        repeats = min(repeats, EXCHANGES)
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
        """End every worker; those that do not listen are killed. A second time does nothing."""
        workers, self._workers = self._workers, []
        try:
            if not self._over:
                self._over = True
                for pipe in self._pipes:
                    with suppress(OSError):
                        pipe.send(("stop",))
                _join(workers, patience=1.0)
        finally:
            _kill(workers)
            for worker in workers:
                worker.close()
            for pipe in self._pipes:
                pipe.close()

    def _record(self, job: int) -> Record:
        """What the arena says: also of a run that did not end."""
        graph, schedule = self._jobs[job].prepared.job.graph, self._jobs[job].schedule
        unit_of, rows = schedule.unit_of, self._arena.tasks.tolist()
        units = [unit_of[task.id] for task in graph.tasks]
        start, end, cpu = ([rows[unit][part][task] for task, unit in enumerate(units)] for part in range(3))
        tokens, moves = [str(task.id) for task in graph.tasks], self._arena.parcels.tolist()
        spans = transfer_spans(self._divisions[job].parcels, tokens, self._names, *moves)
        return Record(Times(start, end, cpu), spans)

    def _together(self, job: int | None, orders: Mapping[int, tuple[Any, ...]]) -> list[Any]:
        """Give orders to several workers, start them at the same time, and wait for all."""
        self._require_open()
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
            raise self._dead(job) from None

    def _ask(self, unit: int, *order: Any) -> Any:
        self._require_open()
        try:
            self._pipes[unit].send(order)
        except OSError:
            raise self._dead(None) from None
        return self._gather(None, [unit], "ok", self._limits.join_seconds)[0]

    def _require_open(self) -> None:
        if self._over:
            raise RunError("the session is over: its workers have ended", record=None, fix="open a new one")

    def _gather(self, job: int | None, units: Sequence[int], word: str, patience: float) -> list[Any]:
        """An answer of every unit; ``patience`` is the longest time without anything beginning or ending."""
        found: dict[int, Any] = {}
        moves, since = -1, time.monotonic()
        while len(found) < len(units):
            waiting = [unit for unit in units if unit not in found]
            sentinels = [worker.sentinel for unit, worker in enumerate(self._workers) if unit not in found]
            ready = wait([*(self._pipes[unit] for unit in waiting), *sentinels], _POLL_SECONDS)
            for unit in waiting:
                if self._pipes[unit] in ready:
                    found[unit] = self._read(job, unit, word)
            if any(unit not in found and not worker.is_alive() for unit, worker in enumerate(self._workers)):
                raise self._dead(job)
            if (now := int(self._arena.states[:, 1].sum())) != moves or ready:
                moves, since = now, time.monotonic()
            elif time.monotonic() - since > patience:
                raise self._hanging(job, waiting, word, patience)
        return [found[unit] for unit in units]

    def _read(self, job: int | None, unit: int, word: str) -> Any:
        try:
            kind, value = self._pipes[unit].recv()
        except (EOFError, OSError):
            raise self._dead(job) from None
        if kind == "error":
            what, _where, fix = value
            raise self._failed(job, unit, what, fix)
        assert kind == word, f"a worker said {kind}, expected {word}"
        return value

    def _dead(self, job: int | None) -> RunError:
        """For when a worker is gone, or about to be: its pipe breaks a little earlier."""
        until = time.monotonic() + _DYING_SECONDS
        while time.monotonic() < until:
            for unit, worker in enumerate(self._workers):
                if worker.exitcode is not None:
                    return self._failed(job, unit, _ending(worker.exitcode), "see the system's log; try fewer copies")
            wait([worker.sentinel for worker in self._workers], _POLL_SECONDS)
        return self._failed(job, 0, "a worker no longer listens", "run again")

    def _hanging(self, job: int | None, waiting: Sequence[int], word: str, patience: float) -> RunError:
        unit = next((unit for unit in waiting if self._arena.states[unit, 0] >= 0), waiting[0])
        if word == "ready":
            return self._failed(job, unit, f"the worker did not join within {patience:g} s", "look for other programs")
        fix = "give it more time with --limit, or look into the task"
        return self._failed(job, unit, f"hung: nothing began or ended for {patience:g} s", fix)

    def _failed(self, job: int | None, unit: int, what: str, fix: str) -> RunError:
        self._kill()
        record, token = (None, "") if job is None else (self._record(job), self._token(job, unit))
        return RunError(what, record=record, unit=self._names[unit], token=token, fix=fix)

    def _token(self, job: int, unit: int) -> str:
        """The task that a unit is at: running, on its way to another unit, or else the next one."""
        tasks, division = self._jobs[job].prepared.job.graph.tasks, self._divisions[job]
        at, (sent, left, _) = int(self._arena.states[unit, 0]), self._arena.parcels.tolist()
        leaving = (
            parcel.producer
            for index, parcel in enumerate(division.parcels)
            if parcel.source == unit and sent[index] >= 0 > left[index]
        )
        actions = division.actions[unit] if unit < len(division.actions) else ()
        items = (division.items[action.index] for action in actions if action.verb == "run")
        following = (task for item in items for task in item if self._arena.tasks[unit, 1, task] < 0)
        found = at if at >= 0 else next(leaving, NONE)
        found = found if found >= 0 else next(following, NONE)
        return str(tasks[found].id) if found >= 0 else ""

    def _kill(self) -> None:
        self._over = True
        _kill(self._workers)

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
    gc.freeze()  # collections in the workers would touch, and so copy, every page of the parent
    try:
        with _interrupts_held():
            for unit, (_, there) in enumerate(pairs):
                others = [pipe for other, pair in enumerate(pairs) for pipe in pair if other != unit or pipe is pair[0]]
                core = cores[unit % len(cores)] if cores else None
                post = Post(unit, there, others, flags, core, os.getpid())
                worker: BaseProcess = context.Process(
                    target=target, args=(post, arena, assignments), name=f"alrsim-unit-{unit}", daemon=True
                )
                worker.start()
                workers.append(worker)
    except BaseException as error:
        _kill(workers)
        for here, _ in pairs:
            here.close()
        if isinstance(error, OSError):
            raise ExecutionError(
                f"could not start {units} worker processes: {error}",
                where="--executor processes",
                fix="use fewer units",
            ) from error
        raise
    finally:
        gc.unfreeze()
        for _, there in pairs:
            there.close()
    return workers, [here for here, _ in pairs]


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C goes to every process of a terminal: a new worker must not see it before it has said that it ignores it
    (the mask), and here it must not be raised in the middle of a fork, whose hooks would swallow it (the handler)."""
    noted: list[int] = []
    handler = signal.getsignal(signal.SIGINT) if threading.current_thread() is threading.main_thread() else None
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    if callable(handler):
        signal.signal(signal.SIGINT, lambda number, _frame: noted.append(number))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if callable(handler):
            signal.signal(signal.SIGINT, handler)
    if noted and callable(handler):
        handler(signal.SIGINT, None)


def _join(workers: Sequence[BaseProcess], patience: float) -> None:
    until = time.monotonic() + patience
    for worker in workers:
        worker.join(max(0.0, until - time.monotonic()))


def _kill(workers: Sequence[BaseProcess]) -> None:
    """All of them, before waiting for any; nobody stays as a zombie."""
    for worker in workers:
        if worker.exitcode is None:
            worker.kill()
    _join(workers, patience=5.0)
