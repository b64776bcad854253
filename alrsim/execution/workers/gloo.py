"""Messages between units through torch.distributed: every tensor of a value is one, with a tag of its own."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import accumulate
from time import perf_counter_ns
from typing import Any, cast

import torch
from torch import Tensor
from torch._C._distributed_c10d import FileStore, ProcessGroup, ProcessGroupGloo

from alrsim.execution.kernels.store import Store
from alrsim.execution.prepared import Prepared
from alrsim.execution.workers.division import Division, sent_key
from alrsim.execution.workers.packing import flatten
from alrsim.execution.workers.unit_actions import Endpoint, take
from alrsim.units import Bytes

FOREVER = timedelta(days=30)
"""gloo's own patience; somebody else has ours."""

TRANSPORT = "gloo, receives posted early"
"""A fact of sessions whose messages are posted so."""

_LOOKED_NS = 15_000
"""A wait that is over sooner was no wait."""

_PROBE_TAG = 0x7FFFFFFE
_LOOPBACK = "127.0.0.1"


def join_on_this_host(rank: int, world: int, meeting: str) -> ProcessGroup:
    """Connect processes of this host through its loopback; returns when all of them are there.

    Args:
        meeting: File through which they find each other. Nobody else may read it, and it may go when all have joined.
    """
    options: Any = ProcessGroupGloo._Options()  # type: ignore[attr-defined]
    options._devices = [ProcessGroupGloo.create_device(hostname=_LOOPBACK)]
    options._timeout = FOREVER
    group: Any = ProcessGroupGloo(FileStore(meeting, world), rank, world, options)
    return cast(ProcessGroup, group)  # torch's stubs do not know that a back end alone sends and receives


class GroupTransport:
    """See :class:`alrsim.execution.workers.unit_actions.Transport`.

    Args:
        rank: Of this unit.
        early: Post all receives of a run before it starts: messages are buffered and told apart by their tags. Else a
            receive is posted where the order has it.
        lost: The error when the transport fails, from its cause and the rank on the other side.
    """

    def __init__(
        self,
        group: ProcessGroup,
        rank: int,
        jobs: Sequence[tuple[Prepared, Division]],
        lost: Callable[[str, int], BaseException],
        *,
        early: bool = True,
    ) -> None:
        self._group, self._rank, self._jobs, self._lost, self._early = group, rank, jobs, lost, early
        self._slots: dict[int, list[list[Tensor]]] = {}

    def endpoint(self, job: int, store: Store) -> Endpoint:
        (prepared, division), group, early = self._jobs[job], self._group, self._early
        messages, count, device = division.messages, len(prepared.job.graph.tasks), prepared.job.program.device
        if job not in self._slots:  # used again by the next run of the job
            self._slots[job] = [_slots(division, index, self._rank, device) for index in range(len(messages))]
        slots = self._slots[job]
        tags = [0, *accumulate(max(1, len(message.template.leaves)) for message in messages)]
        signal = torch.zeros(1, dtype=torch.uint8, device=device)
        sent: list[tuple[int, Any, Tensor]] = []

        def settle() -> None:
            for target, work, _ in sent:
                self._wait(work, target)
            sent.clear()  # a send that is waited for twice never ends

        def post(index: int) -> list[Any]:
            source, tag = messages[index].source, tags[index]
            tensors = slots[index] if messages[index].key else [torch.empty_like(signal)]
            return [group.recv([one], source, tag + leaf) for leaf, one in enumerate(tensors) if one.numel()]

        posted = [post(index) if early and one.target == self._rank else [] for index, one in enumerate(messages)]

        def send(index: int) -> None:
            message, tag = messages[index], tags[index]
            tensors = flatten(store.values[sent_key(message)]) if message.key else [signal]
            try:
                for leaf, tensor in enumerate(tensors):
                    if tensor.numel():
                        whole = tensor.contiguous()
                        sent.append((message.target, group.send([whole], message.target, tag + leaf), whole))
            except RuntimeError as error:
                raise self._lost(str(error).splitlines()[0], message.target) from None
            if not early:
                settle()
            store.finish(count + index)

        def receive(index: int) -> bool:
            since = perf_counter_ns()
            for work in posted[index] if early else post(index):
                self._wait(work, messages[index].source)
            waited = perf_counter_ns() - since > _LOOKED_NS
            take(store, messages[index], slots[index])
            return waited

        return Endpoint(send, receive, settle)

    def probe(self, source: int, target: int, size: Bytes) -> Endpoint:
        value, sent = torch.ones(max(1, size), dtype=torch.uint8), list[Any]()

        def settle() -> None:
            self._wait(sent.pop(), target)

        def receive(_index: int) -> bool:
            self._wait(self._group.recv([value], source, _PROBE_TAG), source)
            return True

        return Endpoint(lambda _index: sent.append(self._group.send([value], target, _PROBE_TAG)), receive, settle)

    def _wait(self, work: Any, other: int) -> None:
        try:
            work.wait()
        except RuntimeError as error:
            raise self._lost(str(error).splitlines()[0], other) from None


def _slots(division: Division, index: int, rank: int, device: torch.device) -> list[Tensor]:
    message = division.messages[index]
    if message.target != rank:
        return []
    return [torch.empty(leaf.shape, dtype=leaf.dtype, device=device) for leaf in message.template.leaves]
