"""A device that is pretended: its tensors say ``meta:1`` and hold real numbers in CPU memory.

Torch treats them as another device's (factories, ``x.device``, autograd's checks), and every operator that mixes them
with a CPU tensor of one dimension or more is an error, as it is on a GPU. So a stray tensor of the default device, a
numpy round trip or a wrong ``device=`` is found without a GPU. The numbers are the CPU's own, so that a step's results
can be compared bit by bit with the step on the CPU.

:class:`PretendedDevice` also plays streams for the executor ``cuda``: operators of a thread belong to its stream,
streams have vector clocks, and an operator that reads or writes memory without being ordered behind its last writer (or
its readers) is an error. Memory that is freed while another stream may still read it is noted in ``races``.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

CPU = torch.device("cpu")
SETUP = "setup"


class StrayError(RuntimeError):
    """An operator got tensors of two devices."""


class RaceError(RuntimeError):
    """An operator touches memory that another stream may still be working on."""


class Here(threading.local):
    """The stream of this thread."""

    name: str = SETUP


HERE = Here()


class Clocks:
    """How far each stream has come (a number that grows), and how far it knows the others to be."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.known: dict[str, dict[str, int]] = {}
        self.floor: dict[str, int] = {}
        self.races: list[str] = []
        self.generation = 0

    def of(self, name: str) -> dict[str, int]:
        return self.known.setdefault(name, {name: 0})

    def tick(self) -> tuple[str, int]:
        clock = self.of(HERE.name)
        clock[HERE.name] += 1
        return HERE.name, clock[HERE.name]

    def knows(self, name: str, other: str, at: int) -> bool:
        """Whether a stream is ordered behind a moment of another one."""
        return name == other or max(self.of(name).get(other, 0), self.floor.get(other, 0)) >= at

    def rest(self) -> None:
        """All streams have come to rest: everybody is ordered behind everything."""
        with self.lock:
            self.floor = {name: clock[name] for name, clock in self.known.items()}

    def forget(self) -> None:
        with self.lock:
            self.known, self.floor, self.races = {}, {}, []
            self.generation += 1


CLOCKS = Clocks()


@dataclass(eq=False)
class Cell:
    """What is known of one piece of memory: where it was taken, who wrote it and who has read it since."""

    home: str
    written: tuple[str, int]
    read: dict[str, int] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    generation: int = field(default_factory=lambda: CLOCKS.generation)

    def __del__(self) -> None:
        """An allocator gives the memory to its home stream again, at once."""
        with CLOCKS.lock:
            if self.generation != CLOCKS.generation:
                return
            for name, at in (*self.read.items(), self.written):
                if name not in self.kept and not CLOCKS.knows(self.home, name, at):
                    CLOCKS.races.append(f"memory of stream {self.home} is freed while stream {name} may use it")


class Pretended(Tensor):
    """A tensor of the pretended device."""

    inner: Tensor
    cell: Cell

    @staticmethod
    def __new__(cls, inner: Tensor, device: torch.device, _cell: Cell) -> "Pretended":
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=device,
        )

    def __init__(self, inner: Tensor, _device: torch.device, cell: Cell) -> None:
        self.inner, self.cell = inner, cell

    def __repr__(self) -> str:
        return f"Pretended({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})


class Pretend(TorchDispatchMode):
    """Makes what is asked for on a pretended device; needed in every thread that asks."""

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})


def _call(func: Any, args: Any, kwargs: Any) -> Any:
    leaves = [*_tensors(args), *_tensors(kwargs.values())]
    ours = [value for value in leaves if isinstance(value, Pretended)]
    asked = None if kwargs.get("device") is None else torch.device(kwargs["device"])
    places = list(dict.fromkeys(value.device for value in ours))
    stray = [tuple(value.shape) for value in leaves if not isinstance(value, Pretended) and value.dim()]
    if not ours and not _is_ours(asked):
        return func(*args, **kwargs)
    copies = func in (torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default)
    if not copies and places and (stray or len(places) > 1):
        raise StrayError(f"{func} mixes tensors of {places} with CPU tensors of shapes {stray}")
    target = asked or (args[0].device if copies else next(iter(places), CPU))
    with CLOCKS.lock:
        now = CLOCKS.tick()
        _check(func, args, kwargs, ours, now)
    if asked and not _is_ours(asked) and asked.type == "meta":
        raise StrayError(f"{func} asks for a shape without numbers")
    real = {**kwargs, "device": CPU} if asked else kwargs
    found = func(*_mapped(_inner, args), **{name: _mapped(_inner, value) for name, value in real.items()})
    if not _is_ours(target):
        return found
    cells = {value.inner.untyped_storage()._cdata: value.cell for value in ours}
    made = _mapped(lambda value: _wrap(value, target, cells, now), found)
    return return_and_correct_aliasing(func, args, kwargs, made) if ours and not asked and _aliases(func) else made


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _mapped(change: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)([_mapped(change, one) for one in value])
    return change(value)


@cache
def _aliases(func: Any) -> bool:
    """Whether an operator gives a view, or writes to what it gets."""
    return any(one.alias_info is not None for one in func._schema.arguments)


@cache
def _writes(func: Any) -> tuple[tuple[int, str], ...]:
    """Position and name of the arguments that an operator writes to."""
    arguments = enumerate(func._schema.arguments)
    return tuple((at, one.name) for at, one in arguments if one.alias_info is not None and one.alias_info.is_write)


def _is_ours(device: torch.device | None) -> bool:
    """Torch's own ``meta`` has no number."""
    return device is not None and device.type == "meta" and device.index is not None


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, Pretended) else value


def _wrap(value: Any, device: torch.device, cells: dict[int, Cell], now: tuple[str, int]) -> Any:
    if not isinstance(value, Tensor):
        return value
    cell = cells.get(value.untyped_storage()._cdata) or Cell(HERE.name, now)
    return Pretended(value, device, cell)


def _check(func: Any, args: Any, kwargs: Any, ours: Sequence[Pretended], now: tuple[str, int]) -> None:
    """Hold an operator's memory against this stream's clock, and note what it does."""
    name, at = now
    written = {
        id(value.cell)
        for position, key in _writes(func)
        for value in _tensors([args[position]] if position < len(args) else [kwargs.get(key)])
        if isinstance(value, Pretended)
    }
    for cell in {id(value.cell): value.cell for value in ours}.values():
        if cell.generation != CLOCKS.generation:  # of an earlier test
            continue
        if not CLOCKS.knows(name, *cell.written):
            raise RaceError(f"{func} on {name} reads what {cell.written[0]} may not have written yet")
        if id(cell) not in written:
            cell.read[name] = at
            continue
        for reader, when in cell.read.items():
            if not CLOCKS.knows(name, reader, when):
                raise RaceError(f"{func} on {name} writes what {reader} may still read")
        cell.written, cell.read = (name, at), {}


@dataclass
class PretendedMark:
    """A moment of a stream's clock, with the host's time."""

    clock: dict[str, int]
    at: int

    def passed(self) -> bool:
        return True


class PretendedStream:
    """A stream that does its work at once."""

    def __init__(self, place: torch.device, name: str) -> None:
        self.device, self.name = place, name

    @contextmanager
    def work(self) -> Iterator[None]:
        before = HERE.name
        HERE.name = self.name
        try:
            with Pretend():
                yield
        finally:
            HERE.name = before

    def mark(self) -> PretendedMark:
        with CLOCKS.lock:
            return PretendedMark(dict(CLOCKS.of(self.name)), time.perf_counter_ns())

    def wait(self, mark: PretendedMark) -> None:
        with CLOCKS.lock:
            clock = CLOCKS.of(self.name)
            for other, at in mark.clock.items():
                clock[other] = max(clock.get(other, 0), at)

    def keep(self, tensor: Tensor) -> None:
        assert isinstance(tensor, Pretended)
        tensor.cell.kept.add(self.name)


class PretendedDevice:
    """One or more pretended devices; copies between them need no more than an order."""

    def __init__(self, count: int = 1) -> None:
        self.places = tuple(torch.device("meta", index + 1) for index in range(count))
        self.name = "pretended"

    def stream(self, place: torch.device, name: str) -> PretendedStream:
        return PretendedStream(place, name)

    def elapsed(self, earlier: PretendedMark, later: PretendedMark) -> int:
        return later.at - earlier.at

    def rest(self) -> None:
        CLOCKS.rest()

    def allocated(self) -> int:
        return 0

    def peak(self) -> int:
        return 0


@contextmanager
def pretending() -> Iterator[None]:
    """This thread and those that it starts may ask for tensors of a pretended device; clocks start anew."""
    run = threading.Thread.run

    def entered(thread: threading.Thread) -> None:
        with Pretend():
            run(thread)

    CLOCKS.forget()
    threading.Thread.run = entered  # type: ignore[method-assign]
    try:
        with Pretend():
            yield
    finally:
        threading.Thread.run = run  # type: ignore[method-assign]
