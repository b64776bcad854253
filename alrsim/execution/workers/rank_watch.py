"""A thread beside every rank that sees to it that a run of many ranks ends when one of them cannot go on.

Each rank beats: it writes where it is into the launcher's key-value store, a few times per second. Whoever learns of a
failure writes it down there, first come first served, so that all ranks tell the same story. A rank that waits inside
gloo cannot be interrupted, so the thread makes gloo give up: a receive that times out ends all of its connections.
"""

import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
from torch.distributed import ProcessGroup
from torch.distributed.distributed_c10d import Store

from alrsim.execution.session import InterruptedRun, Record, RunError
from alrsim.tasks.token import NONE

BEAT_SECONDS = 0.1
_STALE_SECONDS = 0.7
"""A rank that has not beaten for so long, while connections broke, is gone."""

_DIAGNOSIS_SECONDS = 2.0
_GRACE_SECONDS = 2.0
"""For the main thread to notice a failure and to tell it; then the rank ends without it."""

INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Failure:
    """What all ranks say about the end of a run.

    Attributes:
        rank: Who failed.
        unit: Its unit's name.
        token: Of the task that it was at, or empty.
    """

    what: str
    rank: int = NONE
    unit: str = ""
    token: str = ""
    fix: str = ""


@dataclass(slots=True)
class Beat:
    """Where a rank was when last heard of.

    Attributes:
        count: Of beats.
        moves: Beginnings and ends of tasks so far.
        task: That it is at, or -1.
        waiting: Whether it has come to where the others wait for it.
        seen: When ``count`` last changed, by this rank's clock.
    """

    count: int = NONE
    moves: int = 0
    task: int = NONE
    waiting: bool = False
    seen: float = 0.0


class Watch(threading.Thread):
    """The thread. ``state`` holds ``[task or -1, moves]`` of this rank, as in
    :class:`alrsim.execution.workers.unit_actions.Marks`.

    Args:
        store: Of this thread alone.
        poison: Ends all connections of this rank.
    """

    def __init__(self, store: Store, rank: int, world: int, poison: Callable[[], None]) -> None:
        super().__init__(name="rank-watch", daemon=True)
        self.state: list[int] | memoryview = [NONE, 0]
        self.failure: Failure | None = None
        self.tokens: Callable[[int, int], str] = lambda _rank, _task: ""
        self.names: list[str] = [f"rank {index}" for index in range(world)]
        self.exact: dict[int, memoryview] = {}
        """States of ranks on this host, readable also when they are dead."""
        self.handles: dict[int, int] = {}
        """Of the other ranks on this host: handles of these very processes, whatever becomes of their numbers."""
        self._store, self._rank, self._world, self._poison = store, rank, world, poison
        self._beats = [Beat() for _ in range(world)]
        self._count, self._moves, self._since = 0, 0, 0.0
        self._patience: float | None = None
        self._acknowledged = False
        self._over = threading.Event()
        self._speaks: bool | None = None
        self._enforced = self._stopping = 0.0
        self._lock = threading.Lock()
        self._found: tuple[int, Any] | None = None
        """Wake-up file and handler of SIGTERM before."""
        self._wake, self._woken = os.pipe()
        os.set_blocking(self._woken, False)

    def begin(self) -> None:
        """Start watching, and take over SIGTERM (the launcher's word for: another rank has failed)."""
        self._publish()
        if threading.current_thread() is threading.main_thread():
            self._found = (
                signal.set_wakeup_fd(self._woken, warn_on_full_buffer=False),
                signal.signal(signal.SIGTERM, self._terminated),
            )
        self.start()

    @contextmanager
    def expecting(self, patience: float | None) -> Iterator[None]:
        """Give up if no rank begins or ends anything for ``patience`` seconds while this rank is in here."""
        self._since, self._patience = time.monotonic(), patience
        try:
            yield
        finally:
            self._patience = None

    def report(self, failure: Failure) -> Failure:
        """Write a failure down, unless another rank was first; whose is returned."""
        try:
            with self._lock:
                text = self._store.compare_set("failed", "", json.dumps(asdict(failure)))
            failure = Failure(**json.loads(text))
        except (RuntimeError, ValueError, TypeError):  # the store is gone: tell what is known here
            pass
        self.failure = self.failure or failure
        return self.failure

    def acknowledge(self) -> None:
        """The main thread knows. Wait a moment for the other ranks to know too: a rank that leaves ends the rest."""
        self._acknowledged = True
        until = time.monotonic() + _STALE_SECONDS
        try:
            with self._lock:
                known = self._store.add("known", 1)
            while known < self._world and time.monotonic() < until:
                time.sleep(0.02)
                with self._lock:
                    known = self._store.add("known", 0)
        except RuntimeError:
            return
        if known < self._world and self.failure is not None and self.failure.rank in self.handles:
            # It hangs, perhaps without its interpreter: a launcher would give it half a minute.
            with suppress(OSError):
                signal.pidfd_send_signal(self.handles[self.failure.rank], signal.SIGKILL)

    def speaks(self) -> bool:
        """Whether this rank is the first who wants to tell the failure; stays as it is for the rest of the program."""
        if self._speaks is None:
            try:
                with self._lock:
                    self._speaks = int(self._store.add("told", 1)) == 1
            except RuntimeError:
                self._speaks = True
        return self._speaks

    def error(self, cause: str, record: Record | None, suspect: int = NONE) -> BaseException:
        """What to raise when the transport failed: finds out who is to blame."""
        failure = self._diagnose(cause, suspect)
        self.acknowledge()
        if failure.what == INTERRUPTED:
            return InterruptedRun(record)
        return RunError(failure.what, record=record, unit=failure.unit, token=failure.token, fix=failure.fix)

    def end(self) -> None:
        """The program is through: nobody is watched any more, and signals are whose they were."""
        if self._found is not None and threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(self._found[0])
            signal.signal(signal.SIGTERM, self._found[1])
        self._over.set()
        os.write(self._woken, b"\0")
        self.join(_GRACE_SECONDS)

    def at(self, rank: int) -> str:
        """Token of the task that a rank is or was at, as far as that is known."""
        task = self.exact[rank][0] if rank in self.exact else self._beats[rank].task
        return self.tokens(rank, task)

    def run(self) -> None:
        while not self._over.is_set():
            try:
                ready, _, _ = select.select([self._wake], [], [], BEAT_SECONDS)
                self._signals(os.read(self._wake, 64) if ready else b"")
                self._tick()
            except RuntimeError as error:
                if self._over.is_set():
                    return
                self.failure = self.failure or Failure(f"the launcher is gone: {str(error).splitlines()[0]}")
                self._enforce(time.monotonic())

    def _signals(self, numbers: bytes) -> None:
        if signal.SIGINT in numbers:
            self.report(Failure(INTERRUPTED))
        if signal.SIGTERM in numbers and not self._stopping:
            self._stopping = time.monotonic()

    def _publish(self) -> None:
        self._count += 1
        words = (self._count, self.state[1], self.state[0], int(self._patience is not None))
        with self._lock:
            self._store.set(f"beat/{self._rank}", " ".join(map(str, words)))

    def _tick(self) -> None:
        self._publish()
        now = time.monotonic()
        self._listen(now)
        if self.failure is not None:
            self._enforce(now)
        elif self._patience is not None and now - self._since > self._patience:
            self._blame_hanging(self._patience)
        elif self._stopping and now - self._stopping > _DIAGNOSIS_SECONDS:
            self.report(Failure("the launcher ended the run"))

    def _listen(self, now: float) -> None:
        with self._lock:
            if self.failure is None and self._store.check(["failed"]):
                self.failure = Failure(**json.loads(self._store.get("failed")))
            keys = [f"beat/{rank}" for rank in range(self._world)]
            known = [rank for rank, key in enumerate(keys) if self._store.check([key])]
            texts = self._store.multi_get([keys[rank] for rank in known])
        for rank, text in zip(known, texts, strict=True):
            count, moves, task, waiting = map(int, text.split())
            if count != self._beats[rank].count:
                self._beats[rank] = Beat(count, moves, task, bool(waiting), now)
        if (moves := sum(beat.moves for beat in self._beats)) != self._moves:
            self._moves, self._since = moves, now

    def _blame_hanging(self, patience: float) -> None:
        at = [view[0] if (view := self.exact.get(rank)) else beat.task for rank, beat in enumerate(self._beats)]
        rank = next((rank for rank, task in enumerate(at) if task >= 0), NONE)
        if rank == NONE:
            rank = next((rank for rank, beat in enumerate(self._beats) if not beat.waiting), 0)
        what = f"rank {rank} hung: nothing began or ended for {patience:g} s"
        fix = "give it more time with `limit`, or look into the task"
        self.report(Failure(what, rank, self.names[rank], self.at(rank), fix))

    def _diagnose(self, cause: str, suspect: int) -> Failure:
        """Connections broke: a rank that no longer beats is to blame, or who says that it failed."""
        until = time.monotonic() + _DIAGNOSIS_SECONDS
        while time.monotonic() < until:
            if self.failure is not None:  # the thread has heard of one
                return self.failure
            now = time.monotonic()
            gone = [rank for rank, beat in enumerate(self._beats) if now - beat.seen > _STALE_SECONDS]
            if gone and self._rank not in gone:
                return self._gone(gone[0])
            time.sleep(0.02)
        if suspect != NONE:
            return self.report(Failure(f"lost rank {suspect}: {cause}", suspect, self.names[suspect], self.at(suspect)))
        return self.report(Failure(f"the ranks lost each other: {cause}"))

    def _gone(self, rank: int) -> Failure:
        what = f"rank {rank} is gone: it was killed (the system kills so when memory runs out), or its host is"
        fix = "see the system's log; try fewer copies"
        return self.report(Failure(what, rank, self.names[rank], self.at(rank), fix))

    def _enforce(self, now: float) -> None:
        """Wake the main thread up; end the rank if that does not help."""
        if self._acknowledged:
            return
        if not self._enforced:
            self._enforced = now
            self._poison()
        elif now - self._enforced > _GRACE_SECONDS:
            failure = self.failure
            assert failure is not None
            if failure.what != INTERRUPTED and self.speaks():
                told = RunError(failure.what, record=None, unit=failure.unit, token=failure.token, fix=failure.fix)
                os.write(2, f"error: {told}\n".encode())
            sys.stdout.flush()
            os._exit(130 if failure.what == INTERRUPTED else 1)

    def _terminated(self, _signal: int, _frame: FrameType | None) -> None:
        """SIGTERM, in the main thread."""
        if not self._acknowledged:
            raise self.error("the launcher ended the run", None)


def poison(group: ProcessGroup, other: int) -> None:
    """Make everybody who waits in this group on this rank give up."""
    try:
        group.recv([torch.zeros(1, dtype=torch.uint8)], other, _UNUSED_TAG).wait(timedelta(milliseconds=1))
    except RuntimeError:
        return


_UNUSED_TAG = 0x7FFFFFFF
