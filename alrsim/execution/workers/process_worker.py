"""A worker of a :class:`alrsim.execution.workers.processes.ProcessSession`: a forked child that carries out commands of
its parent, for one unit. Commands come through a pipe; how data comes is the transport's affair."""

import fcntl
import gc
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch

from alrsim.execution.job import Run
from alrsim.execution.measuring.rss import peak_rss, reset_peak_rss
from alrsim.execution.prepared import Prepared, new_run, task_body
from alrsim.execution.results import unit_values
from alrsim.execution.workers.arena import Arena
from alrsim.execution.workers.division import Division
from alrsim.execution.workers.thread_workers import error_words
from alrsim.execution.workers.unit_actions import (
    Transport,
    receive_probes,
    run_actions,
    run_alone,
    run_empty,
    send_probes,
)

_SPIN_NS = 200_000
"""A worker sleeps until this long before the common start, then looks at the clock all the time."""

Jobs = Sequence[tuple[Prepared, Division]]


class LostUnitError(Exception):
    """The transport broke: the unit on the other side is gone."""


@dataclass(frozen=True)
class Place:
    """What a worker is given by the fork.

    Attributes:
        unit: Its number.
        pipe: To the parent.
        parent: A pipe of its own that closes when the parent ends.
        close: Ends of other pipes that the fork copied.
        core: To be pinned to.
        connect: Makes the transport; returns when all units are there.
    """

    unit: int
    pipe: Connection
    parent: Connection
    close: Sequence[Connection]
    core: int | None
    connect: Callable[[int], Transport]


def serve(place: Place, arena: Arena, jobs: Jobs) -> None:
    """Carry out commands until the parent says stop, or is gone."""
    _settle(place)
    worker = Worker(place, arena, jobs)
    while True:
        try:
            command, *arguments = place.pipe.recv()
        except (EOFError, OSError):
            return
        if command == "stop":
            return
        try:
            reply: tuple[str, Any] = ("ok", getattr(worker, command)(*arguments))
        except LostUnitError as error:
            reply = ("lost", str(error))
        except BaseException as error:  # the parent names the unit and the token
            reply = ("error", error_words(error))
        try:
            place.pipe.send(reply)
        except OSError:
            return


class Worker:
    """Each method is a command of the parent."""

    def __init__(self, place: Place, arena: Arena, jobs: Jobs) -> None:
        self._place, self._arena, self._jobs = place, arena, jobs
        self._marks = arena.marks(place.unit)
        self._last: dict[int, Run] = {}

    def join(self) -> None:
        self._marks.state[1] += 1  # tells the parent who has come so far
        self._transport = self._place.connect(self._place.unit)
        if self._place.core is not None:  # not before: a transport's own threads go where there is room
            _pin(self._place.core)
        self._place.pipe.send(("ready", None))

    def clock(self) -> int:
        return time.perf_counter_ns()

    def peak_rss(self) -> int:
        return peak_rss()

    def run(self, job: int) -> None:
        unit, (prepared, division) = self._place.unit, self._jobs[job]
        if unit >= len(division.actions):
            self._start()
            return
        self._last.pop(job, None)  # before the next one takes memory
        run = new_run(prepared, recording=False, view=division.views[unit])
        body, actions = task_body(prepared, run), division.actions[unit]
        endpoint = self._transport.endpoint(job, run.store)
        run_actions(actions, division.items, body, endpoint, self._marks, self._start())
        self._last[job] = run
        gc.collect()

    def sample(self, job: int) -> None:
        prepared, _ = self._jobs[job]
        body = task_body(prepared, new_run(prepared, recording=False))
        run_alone(len(prepared.job.graph.tasks), body, self._marks, self._start())
        gc.collect()

    def overhead(self, tasks: int) -> int:
        return run_empty(tasks, self._marks, self._start)

    def send(self, target: int, size: int, repeats: int) -> None:
        endpoint = self._transport.probe(self._place.unit, target, size)
        sent, left, _ = self._arena.exchanges
        send_probes(endpoint, sent, left, repeats, self._start())

    def receive(self, source: int, size: int, repeats: int) -> None:
        endpoint = self._transport.probe(source, self._place.unit, size)
        receive_probes(endpoint, self._arena.exchanges[2], repeats, self._start())

    def results(self, job: int) -> Any:
        _, division = self._jobs[job]
        if self._place.unit >= len(division.actions):
            return {}, {}
        return unit_values(self._last[job], division.views[self._place.unit])

    def _start(self) -> int:
        """Say that everything is prepared, and wait for the common start."""
        self._place.pipe.send(("ready", None))
        origin = int(self._place.pipe.recv())
        gap = origin - time.perf_counter_ns() - _SPIN_NS
        if gap > 0:
            time.sleep(gap / 1e9)
        while time.perf_counter_ns() < origin:
            pass
        return origin


def _settle(place: Place) -> None:
    """A child of its own: dies with its parent, leaves Ctrl-C to it, computes with one thread."""
    for pipe in place.close:
        pipe.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # the parent held it back for the fork
    _die_with(place.parent.fileno())
    gc.disable()
    reset_peak_rss()
    torch.set_num_threads(1)


def _die_with(parent: int) -> None:
    """Be killed when the pipe closes, whatever this process is doing by then.

    (Linux could also be asked for a signal at the parent's end, but takes the end of the thread that forked for it.)
    """
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(parent, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(parent, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(parent, fcntl.F_SETFL, fcntl.fcntl(parent, fcntl.F_GETFL) | os.O_ASYNC)
    else:
        threading.Thread(target=_wait_for, args=(parent,), daemon=True).start()
    if select.select([parent], [], [], 0)[0]:  # it closed before anybody could be asked
        os._exit(1)


def _wait_for(parent: int) -> None:
    select.select([parent], [], [])
    os.kill(os.getpid(), signal.SIGKILL)


def _pin(core: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        with suppress(OSError):
            os.sched_setaffinity(0, {core})
