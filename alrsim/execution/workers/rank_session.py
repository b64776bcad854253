"""A session whose units are the ranks of a program that torchrun started, on one host or on several.

All ranks run the same program and prepare the same jobs, so a rank has what it needs without a message; a session
carries out the rank's own lane, and gathers afterwards what the others saw and computed. Messages are torch.distributed
sends and receives: gloo for tensors on a CPU, with all receives of a step posted before it starts; NCCL for tensors on
CUDA devices, where sends and receives wait for each other and come in the order of :mod:`alrsim.schedule.actions`.
"""

import gc
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from alrsim.errors import ExecutionError
from alrsim.execution.job import Run
from alrsim.execution.prepared import Prepared, Scheduled, division_of, new_run, task_body
from alrsim.execution.session import Exchange, InterruptedRun, Limits, Record, Results, RunError
from alrsim.execution.workers.division import Division
from alrsim.execution.workers.gloo import TRANSPORT, GroupTransport
from alrsim.execution.workers.messages import transfer_spans
from alrsim.execution.workers.rank_clock import RankClock, common_start
from alrsim.execution.workers.rank_results import gathered_results
from alrsim.execution.workers.rank_watch import INTERRUPTED, Failure
from alrsim.execution.workers.ranks import Ints, Ranks
from alrsim.execution.workers.thread_workers import Times, available_cores, error_words
from alrsim.execution.workers.unit_actions import (
    EXCHANGES,
    Marks,
    exchanges_of,
    median_of_five,
    receive_probes,
    run_actions,
    run_alone,
    run_empty,
    send_probes,
)
from alrsim.tasks.token import NONE
from alrsim.timeline.facts import Facts
from alrsim.units import Bytes, Ns


class RankSession:
    """See :class:`alrsim.execution.session.Session`. All ranks call the same methods in the same order."""

    def __init__(self, ranks: Ranks, jobs: Sequence[Scheduled], limits: Limits) -> None:
        self._ranks, self._jobs, self._limits = ranks, jobs, limits
        self._rank = ranks.place.rank
        widest = max((job.schedule.lanes for job in jobs), key=len)
        refuse_small_world(len(widest), ranks.place.world)
        self._names = [lane.unit for lane in widest] + [f"rank {r}" for r in range(len(widest), ranks.place.world)]
        ranks.watch.names = self._names
        self._cuda = any(job.prepared.job.program.device.type == "cuda" for job in jobs)
        self._early = not _meeting(self._cuda)
        self._divisions = [division_of(job, "buffered" if self._early else "rendezvous") for job in jobs]
        self._tasks = max(len(job.prepared.job.graph.tasks) for job in jobs)
        self._messages = max(EXCHANGES, *(len(one.messages) for one in self._divisions))
        with self._waiting():
            _require_same_jobs(ranks, jobs, self._divisions)
            self._own, self._boards = ranks.share(3 * (self._tasks + self._messages))
            self._clock = RankClock(ranks)
        work = [(job.prepared, division) for job, division in zip(jobs, self._divisions, strict=True)]
        self._transport = GroupTransport(ranks.group, self._rank, work, ranks.lost, early=self._early)
        self._last: dict[int, Run] = {}

    @property
    def facts(self) -> Facts:
        return Facts(
            executor="torchrun",
            transport="NCCL" if self._cuda else TRANSPORT,
            ranks=self._ranks.place.world,
        ).joined(self._clock.facts)

    def run(self, job: int) -> Record:
        one, division = self._jobs[job].prepared, self._divisions[job]
        if self._rank >= len(division.actions):
            self._alone(job, lambda _origin: None)
            return self._record(job, self._gathered())
        run = new_run(one, recording=False, view=division.views[self._rank])
        endpoint, body = self._transport.endpoint(job, run.store), self._body(one, run)
        actions = division.actions[self._rank]
        self._alone(job, lambda origin: run_actions(actions, division.items, body, endpoint, self._marks, origin))
        self._last[job] = run
        return self._record(job, self._gathered())

    def results(self, job: int) -> Results:
        division, run = self._divisions[job], self._last.get(job)
        view = division.views[self._rank] if run is not None else None
        with self._waiting():
            self._clock.check()
            return gathered_results(self._ranks, self._jobs[job].prepared, run, view)

    def sample(self, job: int, workers: int) -> list[Times]:
        prepared = self._jobs[job].prepared
        count = len(prepared.job.graph.tasks)
        if self._rank < workers:
            body = self._body(prepared, new_run(prepared, recording=False))
            self._alone(job, lambda origin: run_alone(count, body, self._marks, origin))
        else:
            self._alone(job, lambda _origin: None)
        return [_times(board, self._tasks, count) for board in self._gathered()[:workers]]

    def exchange(self, source: int, target: int, size: Bytes, repeats: int) -> list[Exchange]:
        repeats = min(repeats, EXCHANGES)
        first = 3 * self._tasks
        sent, left, arrived = (self._own[first + part * self._messages :][:repeats] for part in range(3))
        endpoint = self._transport.probe(source, target, size)

        def work(origin: int) -> None:
            if self._rank == source:
                send_probes(endpoint, sent, left, repeats, origin)
            elif self._rank == target:
                receive_probes(endpoint, arrived, repeats, origin)

        self._alone(None, work)
        boards = self._gathered()
        found = [boards[unit][first:].reshape(3, -1)[:, :repeats].tolist() for unit in (source, target)]
        return exchanges_of(found[0][0], found[0][1], found[1][2])

    def overhead(self, tasks: int) -> Ns:
        def work(origin: int) -> None:
            if self._rank == 0:
                self._own[0] = run_empty(tasks, self._marks, lambda: origin)

        def measure() -> Ns:
            self._alone(None, work)
            return int(self._gathered()[0][0])

        return median_of_five(measure)

    @property
    def _marks(self) -> Marks:
        low, tasks, messages = 3 * self._tasks, self._tasks, self._messages
        start, end, cpu = (self._own[part * tasks : (part + 1) * tasks].data for part in range(3))
        sent, left, arrived = (self._own[low + part * messages : low + (part + 1) * messages].data for part in range(3))
        return Marks(start, end, cpu, sent, left, arrived, self._ranks.watch.state)

    def _body(self, prepared: Prepared, run: Run) -> Callable[[int], None]:
        body = task_body(prepared, run)
        if not self._cuda:
            return body

        def finished(task: int) -> None:
            body(task)
            torch.cuda.synchronize()

        return finished

    def _alone(self, job: int | None, work: Callable[[int], None]) -> None:
        """Start at the same time as the other ranks. What this rank raises, all ranks learn."""
        self._own.fill(NONE)
        watch = self._ranks.watch
        watch.tokens = lambda rank, task: "" if job is None else self._token(job, rank, task)
        gc.collect()
        try:
            with at_work(self._ranks.place.local_rank):
                with self._waiting():
                    origin = common_start(self._ranks, self._clock)
                with watch.expecting(self._limits.task_seconds):
                    work(origin)
            watch.state[0] = NONE
        except (RunError, InterruptedRun) as stopped:
            stopped.record = None if job is None else self._record(job, self._seen())
            raise
        except KeyboardInterrupt:
            watch.report(Failure(INTERRUPTED))
            watch.acknowledge()
            raise InterruptedRun(None if job is None else self._record(job, self._seen())) from None
        except Exception as error:
            raise self._failed(job, error) from error

    def _token(self, job: int, rank: int, task: int) -> str:
        """The task that a rank is at; between tasks the next one of its lane."""
        division, board = self._divisions[job], self._boards.get(rank)
        if task < 0 and rank < len(division.actions) and board is not None:
            lane = [task for one in division.actions[rank] if one.verb == "run" for task in division.items[one.index]]
            task = next((index for index in lane if board[index] < 0), lane[-1] if lane else NONE)
        return str(self._jobs[job].prepared.job.graph.tasks[task].id) if task >= 0 else ""

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """For ranks that prepare something, as long as joining may take."""
        with self._ranks.watch.expecting(self._limits.join_seconds):
            yield

    def _failed(self, job: int | None, error: Exception) -> RunError:
        watch = self._ranks.watch
        what, _where, fix = error_words(error)
        told = watch.report(Failure(what, self._rank, self._names[self._rank], watch.at(self._rank), fix))
        watch.acknowledge()
        record = None if job is None else self._record(job, self._seen())
        return RunError(told.what, record=record, unit=told.unit, token=told.token, fix=told.fix)

    def _gathered(self) -> list[Ints]:
        """The boards of all ranks, in the time of the common start."""
        with self._ranks.watch.expecting(self._limits.task_seconds):
            return [one.numpy() for one in self._ranks.gather(torch.from_numpy(self._clock.corrected(self._own)))]

    def _seen(self) -> list[Ints]:
        """The boards that can still be read when a run has failed: of this host."""
        return list(self._boards.values())

    def _record(self, job: int, boards: Sequence[Ints]) -> Record:
        """What all boards say: each number is on one of them."""
        merged = np.maximum.reduce(list(boards))
        tasks = self._jobs[job].prepared.job.graph.tasks
        messages = self._divisions[job].messages
        rows = merged[3 * self._tasks :].reshape(3, -1)[:, : len(messages)].tolist()
        spans = transfer_spans(messages, [str(task.id) for task in tasks], self._names, *rows)
        return Record(_times(merged, self._tasks, len(tasks)), spans)


@contextmanager
def at_work(local_rank: int) -> Iterator[None]:
    """One thread on a core of its own, where the system allows it, and no collections; put back afterwards."""
    cores, threads, collecting = available_cores(), torch.get_num_threads(), gc.isenabled()
    torch.set_num_threads(1)
    gc.disable()
    if cores:
        os.sched_setaffinity(0, {cores[local_rank % len(cores)]})
    try:
        yield
    finally:
        if cores:
            os.sched_setaffinity(0, cores)
        if collecting:
            gc.enable()
        torch.set_num_threads(threads)


def refuse_small_world(units: int, world: int) -> None:
    """Raises:
    ExecutionError: the schedule has more units than there are ranks.
    """
    if units > world:
        raise ExecutionError(
            f"the schedule has {units} units, but torchrun started {world} rank{'s' * (world > 1)}",
            field="executor",
            fix=f"start {units} ranks: torchrun --nproc-per-node {units} (over several hosts: {units} in all)",
        )


def _meeting(cuda: bool) -> bool:
    """Whether a send and its receive wait for each other: NCCL's do; gloo keeps what nobody has asked for."""
    return cuda


def _require_same_jobs(ranks: Ranks, jobs: Sequence[Scheduled], divisions: Sequence[Division]) -> None:
    about = [
        (
            job.schedule.lanes,
            division.actions,
            [(one.key, one.source, one.target, one.template.leaves) for one in division.messages],
        )
        for job, division in zip(jobs, divisions, strict=True)
    ]
    digests = ranks.gather_bytes(hashlib.sha256(repr(about).encode()).digest())
    other = next((rank for rank, digest in enumerate(digests) if digest != digests[0]), None)
    if other is not None:
        raise ExecutionError(
            f"ranks 0 and {other} have prepared different schedules or data",
            where=f"rank {other}",
            fix="start every rank with the same arguments, model and versions",
        )


def _times(board: Ints, tasks: int, count: int) -> Times:
    start, end, cpu = (board[part * tasks : part * tasks + count].tolist() for part in range(3))
    return Times(start, end, cpu)
