"""What one unit does in a process of its own: its actions, one after the other, with the time of each."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from alrsim.execution.kernels.store import KEPT, Store
from alrsim.execution.kernels.sums import FOLDS
from alrsim.execution.workers.messages import Parcel
from alrsim.execution.workers.packing import build, copied
from alrsim.execution.workers.thread_workers import Body
from alrsim.schedule.actions import Action
from alrsim.tasks.token import NONE


class Clock(Protocol):
    """Numbers by task or parcel: ns after the common start; -1: not yet."""

    def __getitem__(self, index: int, /) -> int: ...

    def __setitem__(self, index: int, value: int, /) -> None: ...


@dataclass(frozen=True)
class Marks:
    """Where a unit writes down when things happen; the parent may read it at any moment.

    Attributes:
        start: Of tasks.
        end: Of tasks.
        cpu: ns for which the unit computed, of tasks.
        sent: When the sender began, of parcels.
        left: When the sender was free again, of parcels.
        arrived: When a receiver who waited had it, of parcels; 0: it was there when the receiver looked.
        state: ``[task that the unit is at or -1, number of beginnings and ends so far]``.
    """

    start: Clock
    end: Clock
    cpu: Clock
    sent: Clock
    left: Clock
    arrived: Clock
    state: Clock


@dataclass(frozen=True)
class Mail:
    """How a unit's data leaves and arrives.

    Attributes:
        send: Takes the parcel's number; returns when the sender may go on.
        receive: Takes the parcel's number; returns when it is in the store, and whether the unit had to wait.
    """

    send: Callable[[int], object]
    receive: Callable[[int], bool]


def _nothing(_index: int) -> bool:
    raise AssertionError("a step in reference order sends nothing")


NO_MAIL = Mail(_nothing, _nothing)
"""Of a unit that runs everything itself."""


def run_actions(
    actions: Sequence[Action], items: Sequence[tuple[int, ...]], body: Body, mail: Mail, marks: Marks, origin: int
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
            mail.send(index)
            marks.left[index] = now() - origin
        else:
            waited = mail.receive(index)
            marks.arrived[index] = now() - origin if waited else 0


def take(store: Store, parcel: Parcel, tensors: Sequence[Tensor]) -> None:
    """Put what arrived where the unit's tasks will look for it."""
    if not parcel.key:
        return
    value = build(parcel.template, tensors)
    if parcel.key[0] in KEPT and parcel.key[0] != "grad":
        value = copied(value)  # it outlives the run, the message's memory does not (gradients are added into others)
    if parcel.term:
        store.add(parcel.producer, parcel.key, value, parcel.bytes, NONE, FOLDS[parcel.key[0]])
    else:
        store.deliver(parcel.key, value)
