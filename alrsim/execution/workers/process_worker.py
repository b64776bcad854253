"""A worker of the executor ``processes``: a forked child that carries out commands of its parent, for one unit.

Commands come through a pipe, data through shared memory, and a semaphore per pair of units counts what has been sent.
A semaphore counts in the order of sending, so a receiver who wants a later message notes the earlier ones first.
"""

import ctypes
import gc
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Semaphore
from typing import Any

import torch

from alrsim.execution.job import Run
from alrsim.execution.kernels.ledger import Ledger
from alrsim.execution.kernels.store import Store
from alrsim.execution.measuring.rss import peak_rss, reset_peak_rss
from alrsim.execution.prepared import Prepared, empty_body, new_run, task_body
from alrsim.execution.results import part_values
from alrsim.execution.workers.arena import Arena
from alrsim.execution.workers.packing import Leaf, Template, flatten
from alrsim.execution.workers.rank import NO_MAIL, Mail, run_actions, take
from alrsim.execution.workers.thread_workers import error_words
from alrsim.execution.workers.unit_part import Division, sent_key
from alrsim.schedule.actions import Action
from alrsim.tasks.token import NONE

_SPIN_NS = 200_000
"""A worker sleeps until this long before the common start, then looks at the clock all the time."""

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Assignment:
    """A job as a worker needs it.

    Attributes:
        division: Among the units.
        offsets: Where each parcel lies in the arena.
    """

    prepared: Prepared
    division: Division
    offsets: Sequence[int]


@dataclass(frozen=True)
class Post:
    """A worker's place.

    Attributes:
        unit: Its number.
        pipe: To the parent.
        close: Ends of other pipes that the fork copied.
        flags: A semaphore per ordered pair of units.
        core: To be pinned to.
        parent: Process number of the parent.
    """

    unit: int
    pipe: Connection
    close: Sequence[Connection]
    flags: Mapping[tuple[int, int], Semaphore]
    core: int | None
    parent: int


def serve(post: Post, arena: Arena, assignments: Sequence[Assignment]) -> None:
    """Carry out commands until the parent says stop, or is gone."""
    _settle(post)
    worker = Worker(post, arena, assignments)
    while True:
        try:
            command, *arguments = post.pipe.recv()
        except (EOFError, OSError):
            return
        if command == "stop":
            return
        try:
            reply = ("ok", getattr(worker, command)(*arguments))
        except BaseException as error:  # the parent names the unit and the token
            reply = ("error", error_words(error))
        try:
            post.pipe.send(reply)
        except OSError:
            return


class Worker:
    """Each method is a command of the parent."""

    def __init__(self, post: Post, arena: Arena, assignments: Sequence[Assignment]) -> None:
        self._post, self._arena, self._assignments = post, arena, assignments
        self._marks = arena.marks(post.unit)
        self._last: dict[int, Run] = {}
        self._slots: dict[tuple[int, int], list[torch.Tensor]] = {}

    def clock(self) -> int:
        return time.perf_counter_ns()

    def peak_rss(self) -> int:
        return peak_rss()

    def run(self, job: int) -> None:
        unit, one = self._post.unit, self._assignments[job]
        if unit >= len(one.division.actions):
            self._start()
            return
        self._last.pop(job, None)  # before the next one takes memory
        run = new_run(one.prepared, recording=False, part=one.division.parts[unit])
        body, actions = task_body(one.prepared, run), one.division.actions[unit]
        mail = self._mail(job, run.store)
        run_actions(actions, one.division.items, body, mail, self._marks, self._start())
        self._last[job] = run
        gc.collect()

    def sample(self, job: int) -> None:
        prepared = self._assignments[job].prepared
        count = len(prepared.job.graph.tasks)
        run = new_run(prepared, recording=False)
        actions = [Action("run", index) for index in range(count)]
        items, body = [(index,) for index in range(count)], task_body(prepared, run)
        run_actions(actions, items, body, NO_MAIL, self._marks, self._start())
        gc.collect()

    def overhead(self, tasks: int) -> int:
        body = empty_body(Store(Ledger(), recording=False, tasks=tasks))
        actions, items = [Action("run", 0)] * tasks, [(0,)]
        origin = self._start()
        run_actions(actions, items, body, NO_MAIL, self._marks, origin)
        return (time.perf_counter_ns() - origin) // tasks

    def send(self, target: int, size: int, repeats: int) -> None:
        value = torch.ones(size, dtype=torch.uint8)
        (slot,) = self._arena.slots(Template((Leaf((size,), torch.uint8),), next), 0)
        sent, left, _ = self._arena.exchanges
        origin = self._start()
        for index in range(repeats):
            time.sleep(0.0003)  # the receiver waits by now
            sent[index] = time.perf_counter_ns() - origin
            slot.copy_(value)
            self._post.flags[self._post.unit, target].release()
            left[index] = time.perf_counter_ns() - origin

    def receive(self, source: int, repeats: int) -> None:
        _, _, arrived = self._arena.exchanges
        origin = self._start()
        for index in range(repeats):
            self._post.flags[source, self._post.unit].acquire()
            arrived[index] = time.perf_counter_ns() - origin

    def results(self, job: int) -> Any:
        one = self._assignments[job]
        if self._post.unit >= len(one.division.actions):
            return {}, {}
        return part_values(self._last[job], one.division.parts[self._post.unit])

    def _start(self) -> int:
        """Say that everything is prepared, and wait for the common start."""
        self._post.pipe.send(("ready", None))
        origin = int(self._post.pipe.recv())
        gap = origin - time.perf_counter_ns() - _SPIN_NS
        if gap > 0:
            time.sleep(gap / 1e9)
        while time.perf_counter_ns() < origin:
            pass
        return origin

    def _mail(self, job: int, store: Store) -> Mail:
        one, unit, flags, arena = self._assignments[job], self._post.unit, self._post.flags, self._arena
        parcels, count = one.division.parcels, len(one.prepared.job.graph.tasks)
        ranks = _ranks(one.division)
        taken = dict.fromkeys(range(len(one.division.actions)), 0)

        def slots(index: int) -> list[torch.Tensor]:
            if (job, index) not in self._slots:
                self._slots[job, index] = arena.slots(parcels[index].template, one.offsets[index])
            return self._slots[job, index]

        def send(index: int) -> None:
            parcel = parcels[index]
            if parcel.key:
                for slot, tensor in zip(slots(index), flatten(store.values[sent_key(parcel)]), strict=True):
                    slot.copy_(tensor)
            flags[unit, parcel.target].release()
            store.finish(count + index)

        def receive(index: int) -> bool:
            parcel, waited = parcels[index], False
            flag = flags[parcel.source, unit]
            while taken[parcel.source] <= ranks[index]:
                if not flag.acquire(block=False):
                    waited = True
                    flag.acquire()
                taken[parcel.source] += 1
            take(store, parcel, slots(index))
            return waited

        return Mail(send, receive)


def _ranks(division: Division) -> dict[int, int]:
    """The how-manieth message of its pair each parcel is."""
    found: dict[int, int] = {}
    counts: dict[tuple[int, int], int] = {}
    for actions in division.actions:
        for action in actions:
            if action.verb == "send":
                parcel = division.parcels[action.index]
                pair = parcel.source, parcel.target
                found[action.index] = counts.get(pair, 0)
                counts[pair] = found[action.index] + 1
    return found


def _settle(post: Post) -> None:
    """A child of its own: dies with its parent, leaves Ctrl-C to it, computes with one thread on one core."""
    for pipe in post.close:
        pipe.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # the parent held it back for the fork
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != post.parent:  # it died before it could be asked
        os._exit(1)
    gc.disable()
    reset_peak_rss()
    torch.set_num_threads(1)
    if post.core is not None and hasattr(os, "sched_setaffinity"):
        try:
            os.sched_setaffinity(0, {post.core})
        except OSError:
            return


assert NONE == -1, "clocks are cleared with it"
