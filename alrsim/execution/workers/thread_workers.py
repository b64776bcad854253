"""Worker threads: one for each lane, in lane order, waiting for tasks of other lanes through events.

::

    for every item of the lane:  wait for its dependencies -> [start] run its tasks [end] -> set its events

A worker that raises, or Ctrl-C, sets the stop flag and every event, so that everybody wakes up, looks at the flag and
leaves; all threads are joined before the error is raised. A thread cannot be killed: one that is in the middle of a
long task is left behind after :data:`LEAVE_SECONDS`; it does nothing behind that task, and ends with the process.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import torch

from alrsim.errors import AlrsimError, ExecutionError
from alrsim.estimators.kernels.gemm import intra_op
from alrsim.tasks.taskgraph import TaskGraph
from alrsim.tasks.token import NONE

_POLL_SECONDS = 0.05
LEAVE_SECONDS = 3.0
"""How long a run that has failed waits for workers that are in the middle of a task."""

_SWITCH_SECONDS = 0.0002
"""Longest time for which a thread keeps the interpreter while another waits (CPython's default is 5 ms)."""

Body = Callable[[int], None]
"""Runs one task, by index."""


@dataclass(slots=True)
class Times:
    """When tasks ran, in ns after the common start, and how long their thread was computing, by task index.

    -1: not yet.
    """

    start: list[int]
    end: list[int]
    cpu: list[int]
    woken: dict[tuple[int, int], int] = field(default_factory=dict)
    """``(dependency, lane) -> time`` at which a worker that was waiting for the dependency woke up."""


def no_times(tasks: int) -> Times:
    """Of a run that has not begun."""
    return Times([NONE] * tasks, [NONE] * tasks, [NONE] * tasks)


class LaneError(ExecutionError):
    """A lane that failed.

    Attributes:
        lane: Its index.
        task: Index of the task that it was at, -1 for none.
        times: Of what had run by then.
    """

    def __init__(self, what: str, *, where: str, fix: str, lane: int, task: int, times: Times) -> None:
        super().__init__(what, where=where, fix=fix)
        self.lane, self.task, self.times = lane, task, times


@dataclass(slots=True)
class _Shared:
    done: list[threading.Event]
    stop: threading.Event
    barrier: threading.Barrier
    times: Times
    errors: list[tuple[int, int, BaseException]]
    origin: list[int]
    finished: list[threading.Event]
    current: list[int]
    moves: list[int]


def run_lanes(
    graph: TaskGraph,
    lanes: Sequence[Sequence[tuple[int, ...]]],
    body: Body,
    *,
    pin: bool = True,
    limit: float | None = None,
    times: Times | None = None,
) -> Times:
    """Run every lane on a thread of its own.

    Args:
        lanes: Per lane the items in order, each the tasks that run back to back.
        body: Called by the lane's thread.
        pin: Pin lane ``i`` to the i-th core that the process may use (modulo their number), where the system can.
        limit: Seconds without any task beginning or ending after which the run is given up.
        times: Filled in, for a caller who wants them whatever happens.

    Raises:
        LaneError: a task raised, or hung; names its token. All threads but a hanging one have ended by then.
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
        no_times(count) if times is None else times,
        [],
        [],
        [threading.Event() for _ in lanes],
        [NONE] * len(lanes),
        [0] * len(lanes),
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
        hung = _run_threads(threads, shared, limit)
    if shared.errors:
        lane, task, error = shared.errors[0]
        what, where, fix = error_words(error)
        own = isinstance(error, AlrsimError)
        raise LaneError(
            what, where=where or f"task {graph.tasks[task].id}", fix=fix, lane=lane, task=task, times=shared.times
        ) from (error.__cause__ if own else error)
    if hung:
        raise _hanging(graph, hung[0], shared, limit)
    return shared.times


def error_words(error: BaseException) -> tuple[str, str, str]:
    """What, where and fix of anything that a task raised."""
    if isinstance(error, AlrsimError):
        fixes = [*([error.fix] if error.fix else []), *(f"`{field}={value}`" for field, value in error.fixes)]
        return error.what, error.where or error.field, " or ".join(fixes)
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:  # an error that cannot even say what it is
        text = type(error).__name__
    if isinstance(error, MemoryError) or "allocate memory" in text or "out of memory" in text:
        return f"out of memory: {text}", "", "use fewer copies, smaller micro-batches or a smaller state format"
    return text, "", "see the cause above"


def _hanging(graph: TaskGraph, lane: int, shared: _Shared, limit: float | None) -> LaneError:
    task = shared.current[lane]
    return LaneError(
        f"hung: nothing began or ended for {limit:g} s",
        where=f"task {graph.tasks[task].id}" if task != NONE else "run",
        fix="give it more time with `limit`, or look into the task",
        lane=lane,
        task=task,
        times=shared.times,
    )


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


def _run_threads(threads: Sequence[threading.Thread], shared: _Shared, limit: float | None) -> list[int]:
    """Start, wait, join. Waits on events of our own: a ``Thread.join`` that Ctrl-C interrupts takes a running thread
    for a stopped one in CPython 3.11.

    Returns:
        Lanes that hung; their threads are daemons and end with the process.
    """
    patience = LEAVE_SECONDS
    try:
        for thread in threads:
            thread.start()
        shared.barrier.wait()
        hung = _watch(shared, limit)
        patience = 0.0 if hung else LEAVE_SECONDS
    except BaseException:  # Ctrl-C, or a thread that could not start: nobody may keep waiting
        _stop(shared)
        shared.barrier.abort()
        raise
    finally:
        until = time.monotonic() + patience
        for thread, finished in zip(threads, shared.finished, strict=True):
            if thread.ident is not None and finished.wait(max(_POLL_SECONDS, until - time.monotonic())):
                thread.join()
    return hung


def _watch(shared: _Shared, limit: float | None) -> list[int]:
    """Wait until all lanes have finished, one has failed, or nothing has moved for too long."""
    moves, since = 0, time.monotonic()
    for finished in shared.finished:
        while not finished.wait(_POLL_SECONDS):
            if shared.errors:
                return []
            if sum(shared.moves) != moves:
                moves, since = sum(shared.moves), time.monotonic()
            elif limit is not None and time.monotonic() - since > limit:
                _stop(shared)
                at_work = [lane for lane, task in enumerate(shared.current) if task != NONE]
                return at_work or [lane for lane, one in enumerate(shared.finished) if not one.is_set()]
    return []


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
                shared.current[lane] = task
                shared.moves[lane] += 1
                times.start[task] = time.perf_counter_ns() - origin
                body(task)
                times.end[task] = time.perf_counter_ns() - origin
                times.cpu[task] = time.thread_time_ns() - cpu
                shared.current[lane] = NONE
            for task in tasks:
                done[task].set()
    except BaseException as error:  # handed to the caller, who names the token
        shared.errors.append((lane, task, error))
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
    interval = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        with one_thread():
            yield
    finally:
        sys.setswitchinterval(interval)


def one_thread() -> AbstractContextManager[None]:
    """One intra-op thread, as workers have: a product split over more threads may round differently.

    Around many steps at once it is free; changing the number at every step costs more than a small step.
    """
    return intra_op(1)
