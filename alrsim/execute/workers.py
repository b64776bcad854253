"""Worker threads: one for each lane, in lane order, waiting for tasks of other lanes through events.

::

    for every item of the lane:  wait for its dependencies -> [start] run its tasks [end] -> set its events

A worker that raises, or Ctrl-C, sets the stop flag and every event, so that everybody wakes up, looks at the flag and
leaves; all threads are joined before the error is raised.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from alrsim.errors import AlrsimError, ExecutionError
from alrsim.tasks.taskgraph import TaskGraph

_POLL_SECONDS = 0.05
_SWITCH_SECONDS = 0.0002
"""Longest time for which a thread keeps the interpreter while another waits (CPython's default is 5 ms)."""

Body = Callable[[int], None]
"""Runs one task, by index."""


@dataclass(slots=True)
class Times:
    """When tasks ran, in ns after the common start, and how long their thread was computing, by task index."""

    start: list[int]
    end: list[int]
    cpu: list[int]
    woken: dict[tuple[int, int], int] = field(default_factory=dict)
    """``(dependency, lane) -> time`` at which a worker that was waiting for the dependency woke up."""


@dataclass(slots=True)
class _Shared:
    done: list[threading.Event]
    stop: threading.Event
    barrier: threading.Barrier
    times: Times
    errors: list[tuple[int, BaseException]]
    origin: list[int]
    finished: list[threading.Event]


def run_lanes(graph: TaskGraph, lanes: Sequence[Sequence[tuple[int, ...]]], body: Body, *, pin: bool = True) -> Times:
    """Run every lane on a thread of its own.

    Args:
        lanes: Per lane the items in order, each the tasks that run back to back.
        body: Called by the lane's thread.
        pin: Pin lane ``i`` to the i-th core that the process may use (modulo their number), where the system can.

    Raises:
        ExecutionError: a task raised; names its token. All threads have ended by then.
    """
    count = len(graph.tasks)
    lane_of = {task: index for index, lane in enumerate(lanes) for item in lane for task in item}
    waits = [
        [(item, [d for d in _outside(graph, item) if lane_of[d] != index]) for item in lane]
        for index, lane in enumerate(lanes)
    ]
    shared = _Shared(
        [threading.Event() for _ in range(count)],
        threading.Event(),
        threading.Barrier(len(lanes) + 1),
        Times([0] * count, [0] * count, [0] * count),
        [],
        [],
        [threading.Event() for _ in lanes],
    )
    cores = available_cores() if pin else []
    threads = [
        threading.Thread(
            target=_work,
            args=(index, lane, body, shared, cores[index % len(cores)] if cores else None),
            name=f"alrsim-{index}",
            daemon=True,
        )
        for index, lane in enumerate(waits)
    ]
    with _quick_switching():
        _run_threads(threads, shared)
    if shared.errors:
        task, error = shared.errors[0]
        if isinstance(error, AlrsimError):
            raise error
        raise ExecutionError(
            f"{type(error).__name__}: {error}", where=f"task {graph.tasks[task].id}", fix="see the cause above"
        ) from error
    return shared.times


def available_cores() -> list[int]:
    """Cores that this process may use, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return []


def core_count() -> int:
    """Number of cores that this process may use."""
    return len(available_cores()) or os.cpu_count() or 1


def _outside(graph: TaskGraph, item: tuple[int, ...]) -> list[int]:
    members = set(item)
    found = {other: None for task in item for other, _ in graph.dependencies(task) if other not in members}
    return list(found)


def _run_threads(threads: Sequence[threading.Thread], shared: _Shared) -> None:
    """Start, wait, join. Waits on events of our own: a ``Thread.join`` that Ctrl-C interrupts takes a running thread
    for a stopped one in CPython 3.11."""
    try:
        for thread in threads:
            thread.start()
        shared.barrier.wait()
        for finished in shared.finished:
            while not finished.wait(_POLL_SECONDS):
                pass
    except BaseException:  # Ctrl-C, or a thread that could not start: nobody may keep waiting
        _stop(shared)
        shared.barrier.abort()
        raise
    finally:
        for thread, finished in zip(threads, shared.finished, strict=True):
            if thread.ident is not None:
                finished.wait()
                thread.join()


def _stop(shared: _Shared) -> None:
    shared.stop.set()
    for event in shared.done:
        event.set()


def _work(
    lane: int, items: list[tuple[tuple[int, ...], list[int]]], body: Body, shared: _Shared, core: int | None
) -> None:
    try:
        _run_lane(lane, items, body, shared, core)
    finally:
        shared.finished[lane].set()


def _run_lane(
    lane: int, items: list[tuple[tuple[int, ...], list[int]]], body: Body, shared: _Shared, core: int | None
) -> None:
    try:
        _settle(core)
        shared.barrier.wait()
    except threading.BrokenBarrierError:
        return
    if not shared.origin:
        shared.origin.append(time.perf_counter_ns())
    origin, times, done, stop, task = shared.origin[0], shared.times, shared.done, shared.stop, -1
    try:
        for tasks, needs in items:
            task = tasks[0]
            for need in needs:
                if not done[need].is_set():
                    done[need].wait()
                    times.woken[need, lane] = time.perf_counter_ns() - origin
            if stop.is_set():
                return
            for task in tasks:
                cpu = time.thread_time_ns()
                times.start[task] = time.perf_counter_ns() - origin
                body(task)
                times.end[task] = time.perf_counter_ns() - origin
                times.cpu[task] = time.thread_time_ns() - cpu
            for task in tasks:
                done[task].set()
    except BaseException as error:  # handed to the caller, who names the token
        shared.errors.append((task, error))
        _stop(shared)


def _settle(core: int | None) -> None:
    """One intra-op thread, and a core of its own where the system allows it."""
    torch.set_num_threads(1)
    if core is not None and hasattr(os, "sched_setaffinity"):
        try:
            os.sched_setaffinity(0, {core})  # 0 is the calling thread
        except OSError:
            return


@contextmanager
def _quick_switching() -> Iterator[None]:
    """Let waiting threads have the interpreter soon; put everything back afterwards."""
    interval, threads = sys.getswitchinterval(), torch.get_num_threads()
    sys.setswitchinterval(_SWITCH_SECONDS)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        torch.set_num_threads(threads)
