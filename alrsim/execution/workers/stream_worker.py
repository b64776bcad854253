"""A worker of the executor ``cuda``: a thread that hands one unit's actions in to the unit's stream, in lane order.

The thread runs ahead of the device: it waits for other threads to hand their part in, never for the device. Data that
crosses units takes a mark along; the reader's stream waits for the mark.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from alrsim.execution.workers.streams import Device, Mark, Stream
from alrsim.execution.workers.thread_workers import Body
from alrsim.schedule.actions import Action
from alrsim.tasks.token import NONE

_POLL_SECONDS = 0.05


class Stopped(Exception):  # noqa: N818 - no error: another unit failed, or Ctrl-C
    """The run is over before its end."""


@dataclass
class Handover:
    """A message between the threads of two units."""

    filled: threading.Event = field(default_factory=threading.Event)
    tensors: Sequence[Tensor] = ()
    mark: Mark | None = None

    def open(self, stop: threading.Event) -> tuple[Sequence[Tensor], Mark]:
        """Wait until the sender's thread has handed it in.

        Raises:
            Stopped: it never will.
        """
        while not self.filled.wait(_POLL_SECONDS):
            if stop.is_set():
                raise Stopped
        if self.mark is None:
            raise Stopped
        return self.tensors, self.mark


@dataclass
class Script:
    """What one unit does in a run, and the marks of when it did.

    Attributes:
        items: Tasks of every item.
        send: Takes a message's number.
        receive: Takes a message's number and what is set if the run is over.
        begun: By task.
        ended: By task.
        at: Task that the thread is at.
        moves: Beginnings and ends so far.
        last: The last end.
    """

    stream: Stream
    actions: Sequence[Action]
    items: Sequence[tuple[int, ...]]
    body: Body
    send: Callable[[int], None] | None = None
    receive: Callable[[int, threading.Event], None] | None = None
    begun: dict[int, Mark] = field(default_factory=dict)
    ended: dict[int, Mark] = field(default_factory=dict)
    at: int = NONE
    moves: int = 0
    last: Mark | None = None
    error: BaseException | None = None
    finished: threading.Event = field(default_factory=threading.Event)

    def carry_out(self, start: threading.Barrier, stop: threading.Event) -> None:
        """The thread's work."""
        try:
            with self.stream.work():
                start.wait()
                for action in self.actions:
                    if stop.is_set():
                        return
                    self._act(action, stop)
        except (Stopped, threading.BrokenBarrierError):
            return
        except BaseException as error:  # the caller names the token
            self.error = error
            stop.set()
        finally:
            self.finished.set()

    def _act(self, action: Action, stop: threading.Event) -> None:
        if action.verb == "send":
            assert self.send is not None, "a script with messages can send"
            self.send(action.index)
        elif action.verb == "receive":
            assert self.receive is not None, "a script with messages can receive"
            self.receive(action.index, stop)
        else:
            for task in self.items[action.index]:
                self.at = task
                self.moves += 1
                self.begun[task] = self.stream.mark()
                self.body(task)
                self.ended[task] = self.last = self.stream.mark()
                self.at = NONE
                self.moves += 1


@dataclass
class Crossing:
    """When a message crossed devices: two marks of the receiving device."""

    begin: Mark
    end: Mark


class Bridge:
    """How data comes to a unit from a stream of another unit."""

    def __init__(self, device: Device, target: Stream, name: str) -> None:
        self._device, self._target, self._name = device, target, name
        self._sides: dict[str, tuple[Stream, Stream]] = {}

    def bring(self, tensors: Sequence[Tensor], mark: Mark) -> tuple[Sequence[Tensor], Crossing | None]:
        """Tensors as the unit may read them: themselves on the same device, else copies.

        Copies run on streams of their own, beside the unit's work; torch copies between devices on the current stream
        of the source.
        """
        here = self._target.device
        if all(tensor.device == here for tensor in tensors):
            self._target.wait(mark)
            for tensor in tensors:
                self._target.keep(tensor)
            return tensors, None
        out, side = self._between(tensors[0])
        out.wait(mark)
        side.wait(mark)
        with out.work(), side.work():
            begin = side.mark()
            moved = [tensor.to(here, non_blocking=True) for tensor in tensors]
            end = side.mark()
        for tensor in tensors:
            out.keep(tensor)
            side.keep(tensor)
        self._target.wait(end)
        for tensor in moved:
            self._target.keep(tensor)
        return moved, Crossing(begin, end)

    def _between(self, tensor: Tensor) -> tuple[Stream, Stream]:
        source = str(tensor.device)
        if source not in self._sides:
            self._sides[source] = (
                self._device.stream(tensor.device, f"{self._name} from {source}, out"),
                self._device.stream(self._target.device, f"{self._name} from {source}"),
            )
        return self._sides[source]
