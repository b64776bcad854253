"""What the executor ``cuda`` needs of a device, and torch's CUDA as that.

A *stream* is work that is done in order; a *mark* is a place in it (a CUDA event). The host only hands work in: it does
not wait for a stream until a run ends. Tests put another implementation here, which checks the order of every access.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from alrsim.errors import ExecutionError
from alrsim.units import Bytes, Ns


class Mark(Protocol):
    """A place in a stream."""

    def passed(self) -> bool:
        """Whether the stream has come there."""


class Stream(Protocol):
    """Work of one unit, in order."""

    @property
    def device(self) -> torch.device:
        """Where it is done."""

    def work(self) -> AbstractContextManager[None]:
        """Operators that this thread calls inside belong to the stream."""

    def mark(self) -> Mark:
        """The place behind everything that was handed in so far."""

    def wait(self, mark: Mark) -> None:
        """What is handed in from now on comes after a place of another stream."""

    def keep(self, tensor: Tensor) -> None:
        """Memory of another stream is read here: it must not be used again before this stream is through with it."""


class Device(Protocol):
    """A host's devices."""

    @property
    def places(self) -> Sequence[torch.device]:
        """One unit each, over and over."""

    @property
    def name(self) -> str:
        """For reports."""

    def stream(self, place: torch.device, name: str) -> Stream:
        """A new stream."""

    def elapsed(self, earlier: Mark, later: Mark) -> Ns:
        """Between two marks of one device that have been passed."""

    def rest(self) -> None:
        """Wait until all work is done."""

    def allocated(self) -> Bytes:
        """Of tensors, now, on all devices: not what the allocator holds in reserve."""

    def peak(self) -> Bytes:
        """The most of that since the last time this was asked."""


class CudaMark:
    """A CUDA event."""

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self.event: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        self.event.record(stream)

    def passed(self) -> bool:
        return bool(self.event.query())


class CudaStream:
    """A CUDA stream."""

    def __init__(self, place: torch.device) -> None:
        self.device = place
        self._stream: Any = torch.cuda.Stream(place)  # type: ignore[no-untyped-call]

    @contextmanager
    def work(self) -> Iterator[None]:
        # By default autograd calls a device's operators from one thread for all units of the device.
        with torch.cuda.stream(self._stream), torch.autograd.set_multithreading_enabled(False):
            yield

    def mark(self) -> Mark:
        return CudaMark(self._stream)

    def wait(self, mark: Mark) -> None:
        assert isinstance(mark, CudaMark), "marks of one implementation"
        self._stream.wait_event(mark.event)

    def keep(self, tensor: Tensor) -> None:
        tensor.record_stream(self._stream)


class Cuda:
    """The CUDA devices of this host."""

    def __init__(self) -> None:
        self.places = tuple(torch.device("cuda", index) for index in range(torch.cuda.device_count()))

    @property
    def name(self) -> str:
        names = [torch.cuda.get_device_name(place) for place in self.places]
        return names[0] if len(names) == 1 else f"{len(names)} x {', '.join(dict.fromkeys(names))}"

    def stream(self, place: torch.device, name: str) -> Stream:
        del name
        return CudaStream(place)

    def elapsed(self, earlier: Mark, later: Mark) -> Ns:
        assert isinstance(earlier, CudaMark), "marks of one implementation"
        assert isinstance(later, CudaMark), "marks of one implementation"
        milliseconds: float = earlier.event.elapsed_time(later.event)
        return round(milliseconds * 1e6)

    def rest(self) -> None:
        for place in self.places:
            torch.cuda.synchronize(place)

    def allocated(self) -> Bytes:
        return sum(torch.cuda.memory_allocated(place) for place in self.places)

    def peak(self) -> Bytes:
        most = sum(torch.cuda.max_memory_allocated(place) for place in self.places)
        for place in self.places:
            torch.cuda.reset_peak_memory_stats(place)
        return most


def missing_cuda() -> str:
    """Why this host has no CUDA; empty if it has."""
    if torch.cuda.is_available():
        return ""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    return "torch finds no CUDA device on this host"


def find_cuda() -> Device:
    """This host's CUDA devices.

    Raises:
        ExecutionError: there are none; says why.
    """
    reason = missing_cuda()
    if reason:
        raise ExecutionError(
            reason,
            field="executor",
            fix="use threads, processes or torchrun, or a host with a GPU and torch's build for it",
        )
    return Cuda()


ROUNDS = 7
"""Tries of which the shortest aligns two clocks."""


def align(device: Device, stream: Stream) -> tuple[Mark, Ns, Ns]:
    """A mark on an idle stream, when that was by the host's ``time.perf_counter_ns``, and by how much that may be off.

    The mark is passed between the moment it is handed in and the moment it is seen to be passed.
    """
    found: list[tuple[Ns, Ns, Mark]] = []
    for _ in range(ROUNDS):
        device.rest()
        before = time.perf_counter_ns()
        mark = stream.mark()
        while not mark.passed():
            pass
        found.append((time.perf_counter_ns() - before, before, mark))
    trip, before, mark = min(found, key=lambda one: one[0])
    return mark, before + trip // 2, -(-trip // 2)


@contextmanager
def exact() -> Iterator[None]:
    """fp32 is fp32, and the same sums every time; everything as it was afterwards."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
    cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = True, False, False, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before
