"""Executors of forked processes: one per unit on this host, pinned to a core of its own.

The workers are forked, so they have the jobs without a copy. ``processes``: a message is copied by its sender into
shared memory that has no name, and read there in place. Between two units on one host that is faster than
torch.distributed's gloo, which passes everything through a socket (``python -m benchmarks transports`` measures both).
Nothing outlives the session: the workers die with their parent, and the memory with the workers.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import wait
from typing import Any

from alrsim.errors import ExecutionError
from alrsim.execution.prepared import Scheduled, division_of
from alrsim.execution.results import joined_results
from alrsim.execution.session import Exchange, InterruptedRun, Limits, Record, Results, RunError
from alrsim.execution.workers.arena import Arena, offsets_of, open_arena
from alrsim.execution.workers.clock import clock_offset
from alrsim.execution.workers.forking import Children, missing_fork
from alrsim.execution.workers.messages import transfer_spans
from alrsim.execution.workers.process_worker import Jobs
from alrsim.execution.workers.shared_memory import SharedMemory
from alrsim.execution.workers.thread_workers import Times
from alrsim.execution.workers.unit_actions import EXCHANGES, Transport, exchanges_of, median_of_five
from alrsim.tasks.token import NONE
from alrsim.timeline.facts import Facts
from alrsim.units import Bytes, Ns, format_bytes

_POLL_SECONDS = 0.1
_DYING_SECONDS = 2.0
"""Longest time from a broken connection to its worker's end."""

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
    with forked_session(jobs, limits, _share_memory, _FACTS, _LEAST_DATA) as session:
        yield session


_FACTS = Facts(executor="processes", transport="shared memory, copied by the sender")

Connect = Callable[[int, Arena, Jobs], Callable[[int], Transport]]
"""Number of units, shared memory and jobs, to what makes a unit's transport in its own process."""


def _share_memory(units: int, arena: Arena, jobs: Jobs) -> Callable[[int], Transport]:
    context = get_context("fork")
    flags = {(a, b): context.Semaphore(0) for a in range(units) for b in range(units) if a != b}
    return lambda unit: SharedMemory(arena, flags, unit, jobs)


@contextmanager
def forked_session(
    jobs: Sequence[Scheduled], limits: Limits, connect: Connect, facts: Facts, data: Bytes = 0
) -> Iterator["ProcessSession"]:
    """Workers of one host that reach each other in one way or another.

    Args:
        connect: The way.
        facts: Of the session: ``executor`` and ``transport``.
        data: Bytes of the memory that messages are copied into, at least; 0: they do not go that way.

    Raises:
        ExecutionError: the system cannot fork, or data that cannot leave its process must.
    """
    if reason := missing_fork():
        raise ExecutionError(reason, field="executor", fixes=[("executor", "threads")])
    session = ProcessSession(jobs, limits, connect, facts, data)
    try:
        session.join()
        yield session
    finally:
        session.close()


class ProcessSession:
    """See :class:`alrsim.execution.session.Session`; the arguments are those of :func:`forked_session`."""

    def __init__(self, jobs: Sequence[Scheduled], limits: Limits, connect: Connect, facts: Facts, data: Bytes) -> None:
        self._jobs, self._limits, self._facts = jobs, limits, facts
        self._divisions = [division_of(job) for job in jobs]
        units = max(len(job.schedule.lanes) for job in jobs)
        sizes = [offsets_of([message.template for message in one.messages])[1] for one in self._divisions]
        self._arena = open_arena(
            units,
            max(len(job.prepared.job.graph.tasks) for job in jobs),
            max(1, *(len(one.messages) for one in self._divisions)),
            max(data, *sizes) if data else 0,
        )
        self._names = [lane.unit for lane in max((job.schedule.lanes for job in jobs), key=len)]
        self._over, self._skew = False, 0
        self._rss: dict[str, Bytes] | None = None  # once there are results
        work = [(job.prepared, division) for job, division in zip(jobs, self._divisions, strict=True)]
        self._children = Children(units, self._arena, work, connect(units, self._arena, work))

    def join(self) -> None:
        """Wait until all workers are there, and compare clocks."""
        units = range(len(self._names))
        self._arena.clear()
        self._send(None, dict.fromkeys(units, ("join",)))
        self._gather(None, units, "ready", self._limits.join_seconds)
        self._gather(None, units, "ok", self._limits.join_seconds)
        self._skew = max(self._clock_skew(unit) for unit in units)

    @property
    def facts(self) -> Facts:
        return replace(
            self._facts,
            clock="one clock for all processes of a host: CLOCK_MONOTONIC through time.perf_counter_ns",
            clock_skew_ns=self._skew,
            peak_rss_bytes=self._rss,
        )

    def run(self, job: int) -> Record:
        self._together(job, dict.fromkeys(range(len(self._names)), ("run", job)))
        return self._record(job)

    def results(self, job: int) -> Results:
        parts = [self._ask(unit, "results", job) for unit in range(len(self._names))]
        self._rss = {name: self._ask(unit, "peak_rss") for unit, name in enumerate(self._names)}
        return joined_results(self._jobs[job].prepared, parts)

    def sample(self, job: int, workers: int) -> list[Times]:
        self._together(job, dict.fromkeys(range(workers), ("sample", job)))
        count = len(self._jobs[job].prepared.job.graph.tasks)
        return [Times(*(row[:count].tolist() for row in self._arena.tasks[unit])) for unit in range(workers)]

    def exchange(self, source: int, target: int, size: Bytes, repeats: int) -> list[Exchange]:
        if self._arena.size and size > self._arena.size:
            raise ExecutionError(
                f"a message of {format_bytes(size)} does not fit into {format_bytes(self._arena.size)}",
                field="executor",
                fix="measure links with smaller messages",
            )
        repeats = min(repeats, EXCHANGES)
        self._together(None, {source: ("send", target, size, repeats), target: ("receive", source, size, repeats)})
        return exchanges_of(*(row[:repeats].tolist() for row in self._arena.exchanges))

    def overhead(self, tasks: int) -> Ns:
        return median_of_five(lambda: int(self._together(None, {0: ("overhead", tasks)})[0]))

    def close(self) -> None:
        """End every worker; those that do not listen are killed. A second time does nothing."""
        try:
            if not self._over:
                self._over = True
                for pipe in self._children.pipes:
                    with suppress(OSError):
                        pipe.send(("stop",))
                self._children.join(patience=1.0)
        finally:
            self._children.release()

    def _record(self, job: int) -> Record:
        """What the arena says: also of a run that did not end."""
        graph, schedule = self._jobs[job].prepared.job.graph, self._jobs[job].schedule
        unit_of, rows = schedule.unit_of, self._arena.tasks.tolist()
        units = [unit_of[task.id] for task in graph.tasks]
        start, end, cpu = ([rows[unit][part][task] for task, unit in enumerate(units)] for part in range(3))
        tokens, moves = [str(task.id) for task in graph.tasks], self._arena.messages.tolist()
        spans = transfer_spans(self._divisions[job].messages, tokens, self._names, *moves)
        return Record(Times(start, end, cpu), spans)

    def _together(self, job: int | None, orders: Mapping[int, tuple[Any, ...]]) -> list[Any]:
        """Give orders to several workers, start them at the same time, and wait for all."""
        self._arena.clear()
        try:
            self._send(job, orders)
            self._gather(job, list(orders), "ready", self._limits.join_seconds)
            self._send(job, dict.fromkeys(orders, time.perf_counter_ns() + _HEAD_START_NS))
            return self._gather(job, list(orders), "ok", self._limits.task_seconds)
        except KeyboardInterrupt:
            record = None if job is None else self._record(job)
            self._kill()
            raise InterruptedRun(record) from None

    def _ask(self, unit: int, *order: Any) -> Any:
        self._send(None, {unit: order})
        return self._gather(None, [unit], "ok", self._limits.join_seconds)[0]

    def _send(self, job: int | None, words: Mapping[int, Any]) -> None:
        if self._over:
            raise RunError("the session is over: its workers have ended", record=None, fix="open a new one")
        try:
            for unit, word in words.items():
                self._children.pipes[unit].send(word)
        except OSError:  # the pipe broke: its worker is gone
            raise self._dead(job) from None

    def _gather(self, job: int | None, units: Sequence[int], word: str, patience: float) -> list[Any]:
        """An answer of every unit; ``patience`` is the longest time without anything beginning or ending."""
        found: dict[int, Any] = {}
        moves, since = -1, time.monotonic()
        while len(found) < len(units):
            waiting = [unit for unit in units if unit not in found]
            pipes, workers = self._children.pipes, self._children.workers
            sentinels = [worker.sentinel for unit, worker in enumerate(workers) if unit not in found]
            ready = wait([*(pipes[unit] for unit in waiting), *sentinels], _POLL_SECONDS)
            for unit in waiting:
                if pipes[unit] in ready:
                    found[unit] = self._read(job, unit, word)
            if any(unit not in found and not worker.is_alive() for unit, worker in enumerate(workers)):
                raise self._dead(job)
            if (now := int(self._arena.states[:, 1].sum())) != moves or ready:
                moves, since = now, time.monotonic()
            elif time.monotonic() - since > patience:
                raise self._hanging(job, waiting, word, patience)
        return [found[unit] for unit in units]

    def _read(self, job: int | None, unit: int, word: str) -> Any:
        try:
            kind, value = self._children.pipes[unit].recv()
        except (EOFError, OSError):
            raise self._dead(job) from None
        if kind == "lost":
            raise self._dead(job, unit, value)
        if kind == "error":
            what, _where, fix = value
            raise self._failed(job, unit, what, fix)
        assert kind == word, f"a worker said {kind}, expected {word}"
        return value

    def _dead(self, job: int | None, unit: int = 0, cause: str = "a worker no longer listens") -> RunError:
        """For when a worker is gone, or about to be: its connections break a little earlier.

        Args:
            unit: To be named if all workers live.
        """
        until = time.monotonic() + _DYING_SECONDS
        while time.monotonic() < until:
            for other, worker in enumerate(self._children.workers):
                if worker.exitcode is not None:
                    return self._failed(job, other, _ending(worker.exitcode), "see the system's log; try fewer copies")
            wait(self._children.sentinels, _POLL_SECONDS)
        return self._failed(job, unit, cause, "run again")

    def _hanging(self, job: int | None, waiting: Sequence[int], word: str, patience: float) -> RunError:
        if word == "ready":
            unit = min(waiting, key=lambda unit: int(self._arena.states[unit, 1]))
            return self._failed(job, unit, f"the worker did not join within {patience:g} s", "look for other programs")
        unit = next((unit for unit in waiting if self._arena.states[unit, 0] >= 0), waiting[0])
        fix = "give it more time with `limit`, or look into the task"
        return self._failed(job, unit, f"hung: nothing began or ended for {patience:g} s", fix)

    def _failed(self, job: int | None, unit: int, what: str, fix: str) -> RunError:
        self._kill()
        record, token = (None, "") if job is None else (self._record(job), self._token(job, unit))
        return RunError(what, record=record, unit=self._names[unit], token=token, fix=fix)

    def _token(self, job: int, unit: int) -> str:
        """The task that a unit is at: running, on its way to another unit, or else the next one."""
        tasks, division = self._jobs[job].prepared.job.graph.tasks, self._divisions[job]
        at, (sent, left, _) = int(self._arena.states[unit, 0]), self._arena.messages.tolist()
        leaving = (
            message.producer
            for index, message in enumerate(division.messages)
            if message.source == unit and sent[index] >= 0 > left[index]
        )
        actions = division.actions[unit] if unit < len(division.actions) else ()
        items = (division.items[action.index] for action in actions if action.verb == "run")
        following = (task for item in items for task in item if self._arena.tasks[unit, 1, task] < 0)
        found = at if at >= 0 else next(leaving, NONE)
        found = found if found >= 0 else next(following, NONE)
        return str(tasks[found].id) if found >= 0 else ""

    def _kill(self) -> None:
        self._over = True
        self._children.kill()

    def _clock_skew(self, unit: int) -> Ns:
        """Largest difference between the parent's clock and a worker's, uncertainty included."""
        rounds = []
        for _ in range(8):
            before = time.perf_counter_ns()
            remote = self._ask(unit, "clock")
            rounds.append((before, remote, time.perf_counter_ns()))
        offset = clock_offset(rounds)
        # One clock: what looks like an offset is the way there and back.
        return max(0, abs(offset.ns) - offset.residual_ns)


def _ending(code: int) -> str:
    if code >= 0:
        return f"the worker ended with exit code {code}"
    word = " (the system kills so when memory runs out)" if code == -9 else ""
    return f"the worker was killed by signal {-code}{word}"
