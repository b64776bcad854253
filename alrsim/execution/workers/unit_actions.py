"""What one unit does in a process of its own: its actions, one after the other, with the time of each."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from alrsim.execution.kernels.folds import FOLDS
from alrsim.execution.kernels.ledger import Ledger
from alrsim.execution.kernels.store import KEPT, Store
from alrsim.execution.prepared import empty_body
from alrsim.execution.session import Exchange
from alrsim.execution.workers.messages import BufferMessage
from alrsim.execution.workers.packing import build, copied
from alrsim.execution.workers.thread_workers import Body
from alrsim.schedule.actions import Action
from alrsim.tasks.token import NONE
from alrsim.units import Ns

EXCHANGES = 256
"""Most messages of one measurement of a link."""

_RECEIVER_WAITS_SECONDS = 0.0003


class Clock(Protocol):
    """Numbers by task or message: ns after the common start; -1: not yet."""

    def __getitem__(self, index: int, /) -> int: ...

    def __setitem__(self, index: int, value: int, /) -> None: ...


@dataclass(frozen=True)
class Marks:
    """Where a unit writes down when things happen; the parent may read it at any moment.

    Attributes:
        start: Of tasks.
        end: Of tasks.
        cpu: ns for which the unit computed, of tasks.
        sent: When the sender began, of messages.
        left: When the sender was free again, of messages.
        arrived: When a receiver who waited had it, of messages; 0: it was there when the receiver looked.
        state: ``[task that the unit is at or -1, number of beginnings and ends so far]``.
    """

    start: Clock
    end: Clock
    cpu: Clock
    sent: Clock
    left: Clock
    arrived: Clock
    state: Clock


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Endpoint:
    """How a unit's messages leave and arrive.

    Attributes:
        send: Takes the message's number; returns when the sender may go on.
        receive: Takes the message's number; returns when it is in the store, and whether the unit had to wait.
        settle: Waits until all that was sent has left.
    """

    send: Callable[[int], object]
    receive: Callable[[int], bool]
    settle: Callable[[], None] = _nothing


def _no_message(_index: int) -> bool:
    raise AssertionError("a step in reference order sends nothing")


NO_MESSAGES = Endpoint(_no_message, _no_message)
"""Of a unit that runs everything itself."""


class Transport(Protocol):
    """What a unit has to reach the other units."""

    def endpoint(self, job: int, store: Store) -> Endpoint:
        """For one run of a job on this unit."""

    def probe(self, source: int, target: int, size: int) -> Endpoint:
        """For messages of ``size`` bytes from one unit to another, to measure them; all have number 0."""


def run_actions(
    actions: Sequence[Action],
    items: Sequence[tuple[int, ...]],
    body: Body,
    endpoint: Endpoint,
    marks: Marks,
    origin: int,
) -> None:
    """Carry the actions out.

    Args:
        items: Tasks of every item.
        body: Runs a task, by index.
        origin: ``time.perf_counter_ns()`` of the common start.
    """
    now, computing, state = time.perf_counter_ns, time.thread_time_ns, marks.state
    for action in actions:
        index = action.index
        if action.verb == "run":
            for task in items[index]:
                state[0] = task
                state[1] += 1
                cpu = computing()
                marks.start[task] = now() - origin
                body(task)
                marks.end[task] = now() - origin
                marks.cpu[task] = computing() - cpu
                state[0] = NONE
                state[1] += 1
        elif action.verb == "send":
            marks.sent[index] = now() - origin
            endpoint.send(index)
            marks.left[index] = now() - origin
        else:
            waited = endpoint.receive(index)
            marks.arrived[index] = now() - origin if waited else 0
    endpoint.settle()


def run_alone(tasks: int, body: Body, marks: Marks, origin: int) -> None:
    """All tasks of a step in reference order, without messages."""
    actions = [Action("run", index) for index in range(tasks)]
    run_actions(actions, [(index,) for index in range(tasks)], body, NO_MESSAGES, marks, origin)


def run_empty(tasks: int, marks: Marks, start: Callable[[], int]) -> Ns:
    """Time per task besides its kernel.

    Args:
        start: Waits for the common start and gives its time.
    """
    body = empty_body(Store(Ledger(), recording=False, tasks=tasks))
    origin = start()
    run_actions([Action("run", 0)] * tasks, [(0,)], body, NO_MESSAGES, marks, origin)
    return (time.perf_counter_ns() - origin) // tasks


def send_probes(endpoint: Endpoint, sent: Clock, left: Clock, repeats: int, origin: int) -> None:
    """Send messages one after the other, each to a receiver who waits for it by then."""
    for index in range(repeats):
        time.sleep(_RECEIVER_WAITS_SECONDS)
        sent[index] = time.perf_counter_ns() - origin
        endpoint.send(0)
        left[index] = time.perf_counter_ns() - origin
        endpoint.settle()


def receive_probes(endpoint: Endpoint, arrived: Clock, repeats: int, origin: int) -> None:
    """Wait for the messages of :func:`send_probes`."""
    for index in range(repeats):
        endpoint.receive(0)
        arrived[index] = time.perf_counter_ns() - origin


def exchanges_of(sent: Sequence[Ns], left: Sequence[Ns], arrived: Sequence[Ns]) -> list[Exchange]:
    """What was measured with :func:`send_probes` and :func:`receive_probes`."""
    return [Exchange(b - a, max(b, c) - a) for a, b, c in zip(sent, left, arrived, strict=True)]


def median_of_five(measure: Callable[[], Ns]) -> Ns:
    """Of five measurements."""
    return sorted(measure() for _ in range(5))[2]


def take(store: Store, message: BufferMessage, tensors: Sequence[Tensor]) -> None:
    """Put what arrived where the unit's tasks will look for it."""
    if not message.key:
        return
    value = build(message.template, tensors)
    if message.key[0] in KEPT and message.key[0] != "grad":
        value = copied(value)  # it outlives the run, the message's memory does not (gradients are added into others)
    if message.term:
        store.add(message.producer, message.key, value, message.bytes, NONE, FOLDS[message.key[0]])
    else:
        store.deliver(message.key, value)
