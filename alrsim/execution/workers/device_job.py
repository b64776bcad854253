"""A job of the executor ``cuda`` on its devices, and what goes between the units of one run."""

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from alrsim.execution.job import Run
from alrsim.execution.kernels.ledger import Key
from alrsim.execution.prepared import Prepared, Scheduled, division_of, prepared_on, task_body
from alrsim.execution.workers.division import Division, sent_key
from alrsim.execution.workers.packing import flatten
from alrsim.execution.workers.stream_worker import Bridge, Crossing, Handover, Script
from alrsim.execution.workers.streams import Device, Stream
from alrsim.execution.workers.unit_actions import take


@dataclass(frozen=True)
class DeviceJob:
    """A job on its devices.

    Attributes:
        scheduled: As it was given.
        division: Among the units.
        prepared: Of every unit of the session, on the unit's device.
        shared: Terms that several units add up: whoever adds to one must have a copy.
    """

    scheduled: Scheduled
    division: Division
    prepared: tuple[Prepared, ...]
    shared: frozenset[tuple[Key, int]]

    @property
    def tasks(self) -> int:
        """How many there are."""
        return len(self.scheduled.prepared.job.graph.tasks)


def bring(job: Scheduled, streams: Sequence[Stream]) -> DeviceJob:
    """Prepare a job on every device that its units are on.

    Raises:
        ExecutionError: anything that the executor cannot do there; a B, I or W that is not where its F is.
    """
    ready: dict[torch.device, Prepared] = {}
    for stream in streams:
        if stream.device not in ready:
            ready[stream.device] = prepared_on(job.prepared, stream.device)
    first = ready[streams[0].device]
    division = division_of(replace(job, prepared=first))
    terms = Counter((one.key, one.producer) for one in division.messages if one.term)
    return DeviceJob(
        job,
        division,
        tuple(ready[stream.device] for stream in streams),
        frozenset(term for term, targets in terms.items() if targets > 1),
    )


class UnitLinks:
    """What goes between the units of one run.

    Attributes:
        crossings: By message: when it crossed devices.
    """

    def __init__(self, work: DeviceJob, device: Device, streams: Sequence[Stream], runs: Sequence[Run]) -> None:
        self._work, self._streams, self._runs = work, streams, runs
        self._handovers = [Handover() for _ in work.division.messages]
        self._bridges = [Bridge(device, stream, f"unit {unit}") for unit, stream in enumerate(streams)]
        self.crossings: dict[int, Crossing] = {}

    def script(self, unit: int) -> Script:
        division = self._work.division
        return Script(
            self._streams[unit],
            division.actions[unit],
            division.items,
            task_body(self._work.prepared[unit], self._runs[unit]),
            partial(self._send, unit),
            partial(self._receive, unit),
        )

    def _send(self, unit: int, number: int) -> None:
        box, message, store = self._handovers[number], self._work.division.messages[number], self._runs[unit].store
        if message.key:
            box.tensors = flatten(store.values[sent_key(message)])
        box.mark = self._streams[unit].mark()
        box.filled.set()
        store.finish(self._work.tasks + number)

    def _receive(self, unit: int, number: int, stop: threading.Event) -> None:
        message = self._work.division.messages[number]
        tensors, mark = self._handovers[number].open(stop)
        self._handovers[number].tensors = ()
        found, crossing = self._bridges[unit].bring(tensors, mark)
        if crossing is not None:
            self.crossings[number] = crossing
        elif (message.key, message.producer) in self._work.shared:
            found = [tensor.clone() for tensor in found]
        take(self._runs[unit].store, message, found)
