"""Messages between processes of one host through memory that they share: the sender copies, the receiver reads there.

A semaphore per pair of units counts what has been sent. It counts in the order of sending, so a receiver who wants a
later message notes the earlier ones first.
"""

from collections.abc import Mapping, Sequence
from multiprocessing.synchronize import Semaphore

import torch
from torch import Tensor

from alrsim.execution.kernels.store import Store
from alrsim.execution.prepared import Prepared
from alrsim.execution.workers.arena import Arena, offsets_of
from alrsim.execution.workers.division import Division, sent_key
from alrsim.execution.workers.packing import Leaf, Template, flatten
from alrsim.execution.workers.unit_actions import Endpoint, take
from alrsim.units import Bytes

Flags = Mapping[tuple[int, int], Semaphore]
"""By source and target."""


class SharedMemory:
    """See :class:`alrsim.execution.workers.unit_actions.Transport`."""

    def __init__(self, arena: Arena, flags: Flags, unit: int, jobs: Sequence[tuple[Prepared, Division]]) -> None:
        self._arena, self._flags, self._unit, self._jobs = arena, flags, unit, jobs
        self._offsets = [offsets_of([one.template for one in division.messages])[0] for _, division in jobs]
        self._slots: dict[tuple[int, int], list[Tensor]] = {}

    def endpoint(self, job: int, store: Store) -> Endpoint:
        (prepared, division), unit, flags = self._jobs[job], self._unit, self._flags
        messages, count = division.messages, len(prepared.job.graph.tasks)
        turns, taken = _turns(division), dict.fromkeys(range(len(division.actions)), 0)

        def send(index: int) -> None:
            message = messages[index]
            if message.key:
                for slot, tensor in zip(self._at(job, index), flatten(store.values[sent_key(message)]), strict=True):
                    slot.copy_(tensor)
            flags[unit, message.target].release()
            store.finish(count + index)

        def receive(index: int) -> bool:
            message, waited = messages[index], False
            flag = flags[message.source, unit]
            while taken[message.source] <= turns[index]:
                if not flag.acquire(block=False):
                    waited = True
                    flag.acquire()
                taken[message.source] += 1
            take(store, message, self._at(job, index))
            return waited

        return Endpoint(send, receive)

    def probe(self, source: int, target: int, size: Bytes) -> Endpoint:
        (slot,) = self._arena.slots(Template((Leaf((size,), torch.uint8),), next), 0)
        value, flag = torch.ones(size, dtype=torch.uint8), self._flags[source, target]

        def send(_index: int) -> None:
            slot.copy_(value)
            flag.release()

        return Endpoint(send, lambda _index: flag.acquire())

    def _at(self, job: int, index: int) -> list[Tensor]:
        """Where a message of a job lies."""
        if (job, index) not in self._slots:
            template = self._jobs[job][1].messages[index].template
            self._slots[job, index] = self._arena.slots(template, self._offsets[job][index])
        return self._slots[job, index]


def _turns(division: Division) -> dict[int, int]:
    """The how-manieth message of its pair each one is."""
    found: dict[int, int] = {}
    counts: dict[tuple[int, int], int] = {}
    for actions in division.actions:
        for action in actions:
            if action.verb == "send":
                message = division.messages[action.index]
                pair = message.source, message.target
                found[action.index] = counts.get(pair, 0)
                counts[pair] = found[action.index] + 1
    return found
