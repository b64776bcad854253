"""Bytes of tensor storage as they really are, from every storage's birth and death: the step's own account of memory.

A pass that is not timed runs the step in reference order under a dispatch mode that sees every operator's results,
also those of autograd's backward. A storage counts from the operator that made it until the last reference to it is
gone (a weak reference says so); views and in-place results are storages that were counted before. A storage that
comes as an argument without having been made by an operator (numpy's memory handed to torch) counts from then on.

Not seen is what an operator allocates and frees inside itself (a convolution's reordered tensors: torch's own allocator
had up to 1.23 times as much in a step of ResNet-5, 1.03 times in one of VGG-8, the same to the byte without
convolutions) and the tiles of machine-code kernels: the same definition as
:class:`torch.distributed._tools.mem_tracker.MemTracker`. Under a dispatch mode autograd adds gradients of a value with
several readers into a new tensor, so a stage that has such values (recurrent models) is told a little too high. Passes
through numpy that are large say so by :func:`alrsim.allocation.beside`.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from alrsim.allocation import listening
from alrsim.execution.job import Run
from alrsim.execution.prepared import Prepared, new_run, task_body
from alrsim.execution.workers.thread_workers import one_thread
from alrsim.tasks.problem import CostKey, cost_key
from alrsim.tasks.taskgraph import Category
from alrsim.units import Bytes


class Meter(Protocol):
    """Live bytes of what was made since the meter was started, and the most there were since the last mark."""

    def mark(self) -> Bytes:
        """Begin a new peak at what is live now, and return that."""

    def peak(self) -> Bytes:
        """The most live bytes since the last mark."""


class StorageMeter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the storages that operators of this thread make while the mode is active.

    Args:
        known: Tensors that were there before; they and their views count nothing.
    """

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live: Bytes = 0
        self._most: Bytes = 0
        self._seen: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        for tensor in known:
            self._watch(tensor, count=False)

    def mark(self) -> Bytes:
        self._most = self.live
        return self.live

    def peak(self) -> Bytes:
        return self._most

    def beside(self, size: Bytes) -> None:
        """Somebody holds ``size`` bytes at this moment that no operator made."""
        self._most = max(self._most, self.live + size)

    def _watch(self, tensor: Tensor, *, count: bool = True) -> None:
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address in self._seen:
            return
        size = storage.nbytes() if count else 0

        def gone(_reference: object) -> None:
            del self._seen[address]
            self.live -= size

        self._seen[address] = weakref.ref(storage, gone)
        self.live += size

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        self._watch_all((args, given))
        result = func(*args, **given)
        self._watch_all(result)
        self._most = max(self._most, self.live)
        return result

    def _watch_all(self, values: Any) -> None:
        for value in tree_leaves(values):
            if isinstance(value, Tensor):
                self._watch(value)


class AllocatorMeter:
    """Allocated (not reserved) bytes of a CUDA device, from torch's caching allocator: scratch of operators included.

    One unit's figure only if that unit alone runs on the device meanwhile, as in a pass in reference order.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._before = self._now("current")

    def _now(self, what: str) -> Bytes:
        return int(torch.cuda.memory_stats(self.device)[f"allocated_bytes.all.{what}"])

    def mark(self) -> Bytes:
        torch.cuda.reset_peak_memory_stats(self.device)
        return self._now("current") - self._before

    def peak(self) -> Bytes:
        return self._now("peak") - self._before


@contextmanager
def metering(known: Iterable[Tensor], device: torch.device) -> Iterator[Meter]:
    """The meter of a device: storages on a CPU, the allocator's statistics on CUDA."""
    if device.type == "cuda":
        yield AllocatorMeter(device)
        return
    meter = StorageMeter(known)
    with one_thread(), meter, listening(meter.beside):  # as a worker has, so that operators do what they do there
        yield meter


@dataclass(frozen=True)
class Tracked:
    """One step in reference order on one unit, by the meter alone.

    Attributes:
        before: Live bytes when each task began, of what the step made: without parameters, gradients, optimizer
            state and inputs, which were there.
        peaks: The most live bytes while each task ran.
        after: Live bytes behind the last task: what the run hands out (losses, running statistics).
    """

    before: tuple[Bytes, ...]
    peaks: tuple[Bytes, ...]
    after: Bytes

    @property
    def peak(self) -> Bytes:
        """The most live bytes of the step."""
        return max(self.peaks, default=self.after)


def tracked_peak(prepared: Prepared) -> Tracked:
    """Run the step once in reference order and meter it; independent of the ledger and of every timeline."""
    run = new_run(prepared, recording=False)
    body = task_body(prepared, run)
    before, peaks = [], []
    with metering(_known(prepared, run), prepared.job.program.device) as meter:
        for index in range(len(prepared.job.graph.tasks)):
            before.append(meter.mark())
            body(index)
            peaks.append(meter.peak())
        after = meter.mark()
    return Tracked(tuple(before), tuple(peaks), after)


def measure_scratch(prepared: Prepared) -> dict[CostKey, Bytes]:
    """What tasks allocate and free inside themselves, by :func:`alrsim.tasks.problem.cost_key`: the most of all tasks
    of a key. See :func:`task_scratch`."""
    found: dict[CostKey, Bytes] = {}
    for task, size in zip(prepared.job.graph.tasks, task_scratch(prepared), strict=True):
        key = cost_key(task)
        found[key] = max(found.get(key, size), size)
    return found


def task_scratch(prepared: Prepared) -> list[Bytes]:
    """Of every task the most bytes that it had live above what was there when it began and the buffers that it writes
    (which count from its start).

    A backward frees what was saved while its gradients come into being, and may never have both: then it is less
    than nothing, at most by the ``temp`` buffers that it writes. The pass is run once for each prepared job, which
    then knows it: measured timelines have it from then on.
    """
    known = prepared.ledger.scratch
    if not known:
        tracked, made, temp = tracked_peak(prepared), made_bytes(prepared), made_bytes(prepared, Category.TEMP)
        known += [
            max(peak - before - size, -least)
            for peak, before, size, least in zip(tracked.peaks, tracked.before, made, temp, strict=True)
        ]
    return known


def made_bytes(prepared: Prepared, only: Category | None = None) -> list[Bytes]:
    """Bytes of the buffers and terms of sums (of a category) that each task writes, as the recording pass saw them."""
    made = [0] * len(prepared.job.graph.tasks)
    for entry in prepared.ledger.entries.values():
        if entry.producer >= 0 and entry.base is None and only in (None, entry.category):
            made[entry.producer] += entry.bytes
    for total in prepared.ledger.sums.values():
        for rank, (task, size) in enumerate(total.terms):
            if only in (None, Category.TEMP if rank else total.category):
                made[task] += size
    return made


def _known(prepared: Prepared, run: Run) -> Iterator[Tensor]:
    """Tensors that are there before the step."""
    program = prepared.job.program
    yield from (*prepared.batch.inputs, prepared.batch.targets, *prepared.targets)
    yield from (value for values in prepared.inputs for value in values.values())
    yield from (*program.source.tensors.values(), *run.parameters.values(), *run.updated.values())
    yield from run.buffers.values()
    yield from (value for values in run.optimizer.values() for value in values)
    yield from (value for found in prepared.job.receptive_fields.values() for value in found)
    for key, values in run.store.values.items():
        if key[0] == "grad":
            yield from values.values()
