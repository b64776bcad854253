"""The ranks of a program that ``torchrun`` started: every rank runs the same program, and they agree on what differs.

Started by torchrun on one host or on several: who is who comes from the environment that it sets. What ranks tell each
other about themselves is numbers and JSON; nothing is unpickled.
"""

import atexit
import json
import mmap
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, distributed
from torch._C._distributed_c10d import PrefixStore, ProcessGroup, Store, TCPStore

from alrsim.errors import ExecutionError
from alrsim.execution.workers.agreement import agree_through
from alrsim.execution.workers.gloo import FOREVER
from alrsim.execution.workers.rank_watch import Watch, poison
from alrsim.following import end_with
from alrsim.tasks.token import NONE

Ints = npt.NDArray[np.int64]

_TORCHRUN = "torchrun --nproc-per-node N -m alrsim ..."


@dataclass(frozen=True, slots=True)
class Place:
    """Who this process is.

    Attributes:
        rank: Its number, which is that of its unit.
        world: How many ranks there are.
        local_rank: Its number on this host.
        local_world: How many ranks this host has.
    """

    rank: int
    world: int
    local_rank: int
    local_world: int


def rank_place() -> Place | None:
    """Who this process is; ``None`` if torchrun did not start it.

    Raises:
        ExecutionError: the environment does not hold numbers.
    """
    if not {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        return None
    try:
        rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        local = int(os.environ.get("LOCAL_RANK", rank)), int(os.environ.get("LOCAL_WORLD_SIZE", world))
    except ValueError as error:
        what = f"RANK and WORLD_SIZE: {error}"
        raise ExecutionError(what, where="environment", fix=f"start with {_TORCHRUN}") from None
    return Place(rank, world, *local)


class Ranks:
    """All ranks, from the view of one that has joined them."""

    def __init__(self, place: Place, group: ProcessGroup, watch: Watch) -> None:
        self.place, self.group, self.watch = place, group, watch

    def gather(self, numbers: Tensor) -> list[Tensor]:
        """Everybody's numbers: int64 of the same shape."""
        found = [torch.empty_like(numbers) for _ in range(self.place.world)]
        self.wait(self.group.allgather([found], [numbers]))
        return found

    def gather_bytes(self, data: bytes) -> list[bytes]:
        """Everybody's bytes."""
        sizes = [int(one) for one in self.gather(torch.tensor([len(data)]))]
        found = []
        for rank, size in enumerate(sizes):
            own = rank == self.place.rank
            tensor = _tensor(data) if own else torch.empty(size, dtype=torch.uint8)
            found.append(data if own else b"")
            if size:
                self.wait(self.group.broadcast(tensor, rank))
                found[-1] = data if own else tensor.numpy().tobytes()
        return found

    def same(self, value: Any) -> Any:
        """Rank 0's value on every rank: plain JSON."""
        return json.loads(self.gather_bytes(json.dumps(value).encode() if self.place.rank == 0 else b"")[0])

    def wait(self, work: Any, source: int = NONE) -> None:
        """Wait for the transport.

        Args:
            source: Rank that must do something for it.

        Raises:
            RunError, InterruptedRun: a rank failed.
        """
        try:
            work.wait()
        except RuntimeError as error:
            raise self.lost(str(error).splitlines()[0], source) from None

    def lost(self, cause: str, source: int) -> BaseException:
        """What to raise when the transport failed."""
        return self.watch.error(cause, None, source)

    def share(self, count: int) -> tuple[Ints, dict[int, Ints]]:
        """Numbers of this rank's own that the other ranks of this host can read, also when this rank is dead.

        Returns:
            Own numbers, all -1; and those of every rank of this host, own ones included.
        """
        size = max(8 * count, mmap.PAGESIZE)
        own = os.memfd_create("alrsim") if hasattr(os, "memfd_create") else None
        if own is None:
            self.gather_bytes(b"")
            self.gather_bytes(b"")
            numbers = np.full(count, NONE, dtype=np.int64)
            return numbers, {self.place.rank: numbers}
        os.ftruncate(own, size)
        numbers = _numbers(own, size, count)
        numbers.fill(NONE)
        here = f"{_host()} /proc/{os.getpid()}/fd/{own}"
        found = {self.place.rank: numbers}
        for rank, text in enumerate(self.gather_bytes(here.encode())):
            host, _, path = text.decode().partition(" ")
            if rank != self.place.rank and host == _host():
                try:
                    theirs = os.open(path, os.O_RDWR)
                except OSError:  # another container of this host
                    continue
                found[rank] = _numbers(theirs, size, count)
                os.close(theirs)
        self.gather_bytes(b"")  # everybody has opened everything
        os.close(own)
        return numbers, found

    def one_clock(self) -> bool:
        """Whether all ranks read the same clock: that of one host, from the same boot."""
        return len(set(self.gather_bytes(_host().encode()))) == 1


_JOINED: list[Ranks] = []


def joined() -> Ranks | None:
    """The ranks, if this process has joined them."""
    return _JOINED[0] if _JOINED else None


def join(join_seconds: float) -> Ranks:
    """Wait until all ranks are there; once per process.

    Raises:
        ExecutionError: torchrun did not start this process, or a rank never came (names it).
    """
    if _JOINED:
        return _JOINED[0]
    place = rank_place()
    if place is None:
        raise ExecutionError(
            "torchrun did not start this process: RANK and WORLD_SIZE are not set",
            field="executor",
            fix=f"start with {_TORCHRUN}",
        )
    _follow_launcher()
    store = _open_store(place, join_seconds)
    _await_all(store, place, join_seconds)
    watch = Watch(_open_store(place, join_seconds, again=True), place.rank, place.world, lambda: _break(place))
    watch.begin()
    with watch.expecting(join_seconds):
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
            store=PrefixStore("group", store),
            rank=place.rank,
            world_size=place.world,
            timeout=FOREVER,
        )
        group = distributed.group.WORLD
        assert group is not None
        ranks = Ranks(place, group, watch)
        own, shared = ranks.share(2)
        own[1] = 0
        watch.state = own.data
        ranks.gather(torch.zeros(1, dtype=torch.int64))
        watch.exact = {rank: numbers.data for rank, numbers in shared.items()}
        watch.handles = _handles(ranks)
    _JOINED.append(ranks)
    agree_through(ranks.same)
    atexit.register(leave)
    return ranks


def leave() -> None:
    """The last word of a rank; the interpreter says it if nobody else does."""
    if _JOINED:
        ranks = _JOINED.pop()
        agree_through(None)
        ranks.watch.end()
        distributed.destroy_process_group()


def all_cores(cores: int) -> int:
    """Cores of all hosts of the ranks, if each has as many as this one."""
    place = _JOINED[0].place if _JOINED else None
    return cores if place is None else cores * max(1, place.world // place.local_world)


def _open_store(place: Place, seconds: float, *, again: bool = False) -> Store:
    """The key-value store of the launcher, or rank 0's where there is none."""
    address, port = os.environ.get("MASTER_ADDR", "localhost"), os.environ.get("MASTER_PORT", "29500")
    launcher = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    try:
        store = TCPStore(
            address,
            int(port),
            place.world,
            is_master=place.rank == 0 and not (launcher or again),
            timeout=timedelta(seconds=seconds),
            wait_for_workers=False,
        )
    except (RuntimeError, ValueError) as error:
        who = "the launcher" if launcher else "rank 0"
        raise ExecutionError(
            f"{who} did not answer at {address}:{port} within {seconds:g} s: {str(error).splitlines()[0]}",
            where=f"rank {place.rank}",
            fix="check that all ranks were started with the same rendezvous options",
        ) from None
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return PrefixStore(f"alrsim/{attempt}", store)


def _await_all(store: Store, place: Place, seconds: float) -> None:
    store.set(f"joined/{place.rank}", "1")
    until, missing = time.monotonic() + seconds, list(range(place.world))
    while missing := [rank for rank in missing if not store.check([f"joined/{rank}"])]:
        if time.monotonic() > until:
            if store.add("told", 1) > 1:
                raise SystemExit(1)
            raise ExecutionError(
                f"rank {missing[0]} never joined: waited {seconds:g} s for {len(missing)} of {place.world} ranks",
                where=f"unit {missing[0]}",
                fix="look at what keeps it, or start with as many ranks as the schedule has units",
            )
        time.sleep(0.02)


def _break(place: Place) -> None:
    group = distributed.group.WORLD
    if group is not None:
        poison(group, (place.rank + 1) % place.world)


def _follow_launcher() -> None:
    """Die with the launcher, so that no rank is ever left behind."""
    if "TORCHELASTIC_RUN_ID" in os.environ:  # one that is gone by now does not answer as a store either
        end_with(os.getppid())


def _host() -> str:
    """What ranks of one host, boot and process namespace have in common."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}/{os.readlink('/proc/self/ns/time')}"
    except OSError:
        return f"unknown-{os.getpid()}"


def _handles(ranks: Ranks) -> dict[int, int]:
    texts = ranks.gather_bytes(f"{_host()} {os.getpid()}".encode())
    found = {}
    for rank, (host, number) in enumerate(text.decode().split(" ") for text in texts):
        if rank != ranks.place.rank and host == _host() and hasattr(os, "pidfd_open"):
            with suppress(OSError):
                found[rank] = os.pidfd_open(int(number))
    return found


def _numbers(file: int, size: int, count: int) -> Ints:
    return np.frombuffer(mmap.mmap(file, size), dtype=np.int64, count=count)


def _tensor(data: Sequence[int] | bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)
