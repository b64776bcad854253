"""Children forked by a session: started all or none, killed all, and the caller's state as it was."""

import gc
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import torch

from alrsim.errors import ExecutionError
from alrsim.execution.workers.arena import Arena
from alrsim.execution.workers.process_worker import Jobs, Place, serve
from alrsim.execution.workers.thread_workers import available_cores
from alrsim.execution.workers.unit_actions import Transport


def missing_fork() -> str:
    """Why this process cannot be forked; empty if it can."""
    if "fork" not in multiprocessing.get_all_start_methods():
        return "this system cannot fork processes"
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return "a process that has used CUDA cannot be forked"
    return ""


_FORKS = [threading.Lock()]
"""Held while a session forks: workers of two threads' sessions that held each other's pipes would keep each other alive
when the parent is gone."""

if hasattr(os, "register_at_fork"):  # a child may copy the lock while another thread of its parent holds it
    os.register_at_fork(after_in_child=lambda: _FORKS.__setitem__(0, threading.Lock()))


class Children:
    """A worker per unit, with a pipe to each.

    Raises:
        ExecutionError: the system cannot start them; none is left then.
    """

    def __init__(self, units: int, arena: Arena, jobs: Jobs, connect: Callable[[int], Transport]) -> None:
        self.workers: list[BaseProcess] = []
        self.pipes: list[Connection] = []
        self._lives: list[Connection] = []
        with _FORKS[0]:
            self._fork(units, arena, jobs, connect)

    def _fork(self, units: int, arena: Arena, jobs: Jobs, connect: Callable[[int], Transport]) -> None:
        context, cores = multiprocessing.get_context("fork"), available_cores()
        pairs = [context.Pipe() for _ in range(units)]
        lives = [context.Pipe(duplex=False) for _ in range(units)]
        self.pipes, self._lives = [here for here, _ in pairs], [here for _, here in lives]
        theirs = [(there, life) for (_, there), (life, _) in zip(pairs, lives, strict=True)]
        try:
            with frozen_heap(), _interrupts_held():  # collections in the workers would copy every page of the parent
                for unit, (there, life) in enumerate(theirs):
                    others = [pipe for other, both in enumerate(theirs) if other != unit for pipe in both]
                    core = cores[unit % len(cores)] if cores else None
                    place = Place(unit, there, life, [*self.pipes, *self._lives, *others], core, connect)
                    worker: BaseProcess = context.Process(
                        target=serve, args=(place, arena, jobs), name=f"alrsim-unit-{unit}", daemon=True
                    )
                    worker.start()
                    self.workers.append(worker)
        except BaseException as error:
            self.release()
            if isinstance(error, OSError):
                raise ExecutionError(
                    f"could not start {units} worker processes: {error}", field="executor", fix="use fewer units"
                ) from error
            raise
        finally:
            for pipe in (pipe for both in theirs for pipe in both):
                pipe.close()

    @property
    def sentinels(self) -> list[int]:
        """Readable when a worker has ended."""
        return [worker.sentinel for worker in self.workers]

    def join(self, patience: float) -> None:
        """Wait for all to end."""
        until = time.monotonic() + patience
        for worker in self.workers:
            worker.join(max(0.0, until - time.monotonic()))

    def kill(self) -> None:
        """All of them, before waiting for any; nobody stays as a zombie."""
        for worker in self.workers:
            if worker.exitcode is None:
                worker.kill()
        self.join(patience=5.0)

    def release(self) -> None:
        """Kill who is left, and let go of everything that belongs to them."""
        try:
            self.kill()
        finally:
            for worker in self.workers:
                worker.close()
            for pipe in (*self.pipes, *self._lives):
                pipe.close()
            self.workers = []


@contextmanager
def frozen_heap() -> Iterator[None]:
    """What there is now is no collector's business; put back afterwards (a caller's own frozen objects stay so)."""
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


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
