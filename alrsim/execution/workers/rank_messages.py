"""A rank's parcels as torch.distributed messages: every tensor of a value is one, with a tag of its own."""

from collections.abc import Callable
from itertools import accumulate
from time import perf_counter_ns
from typing import Any

import torch
from torch import Tensor

from alrsim.execution.kernels.store import Store
from alrsim.execution.prepared import Prepared
from alrsim.execution.workers.packing import flatten
from alrsim.execution.workers.rank import Mail, take
from alrsim.execution.workers.ranks import Ranks
from alrsim.execution.workers.unit_part import Division, sent_key

_LOOKED_NS = 15_000
"""A wait that is over sooner was no wait."""


def open_mail(
    ranks: Ranks, division: Division, prepared: Prepared, store: Store, slots: list[list[Tensor]], *, early: bool
) -> tuple[Mail, Callable[[], None]]:
    """The mail of one run.

    Args:
        slots: Buffers of what this rank receives, by parcel; filled by the first run of a job, then used again.
        early: Post all receives now (messages are buffered and told apart by their tags). Else a receive is posted
            where the order has it.

    Returns:
        The mail, and what waits until all that was sent has left.
    """
    rank, group, parcels = ranks.place.rank, ranks.group, division.parcels
    count, device = len(prepared.job.graph.tasks), prepared.job.program.device
    if not slots:
        slots.extend(_slots(division, index, rank, device) for index in range(len(parcels)))
    tags = [0, *accumulate(max(1, len(parcel.template.leaves)) for parcel in parcels)]
    signal = torch.zeros(1, dtype=torch.uint8, device=device)
    sent: list[tuple[int, Any, Tensor]] = []

    def settle() -> None:
        for target, work, _ in sent:
            ranks.wait(work, target)
        sent.clear()  # a send that is waited for twice never ends

    def post(index: int) -> list[Any]:
        source, tag = parcels[index].source, tags[index]
        tensors = slots[index] if parcels[index].key else [torch.empty_like(signal)]
        return [group.recv([one], source, tag + leaf) for leaf, one in enumerate(tensors) if one.numel()]

    posted = [post(index) if early and one.target == rank else [] for index, one in enumerate(parcels)]

    def send(index: int) -> None:
        parcel, tag = parcels[index], tags[index]
        tensors = flatten(store.values[sent_key(parcel)]) if parcel.key else [signal]
        try:
            for leaf, tensor in enumerate(tensors):
                if tensor.numel():
                    whole = tensor.contiguous()
                    sent.append((parcel.target, group.send([whole], parcel.target, tag + leaf), whole))
        except RuntimeError as error:
            raise ranks.watch.error(str(error).splitlines()[0], None, parcel.target) from None
        if not early:
            settle()
        store.finish(count + index)

    def receive(index: int) -> bool:
        since = perf_counter_ns()
        for work in posted[index] if early else post(index):
            ranks.wait(work, parcels[index].source)
        waited = perf_counter_ns() - since > _LOOKED_NS
        take(store, parcels[index], slots[index])
        return waited

    return Mail(send, receive), settle


def _slots(division: Division, index: int, rank: int, device: torch.device) -> list[Tensor]:
    parcel = division.parcels[index]
    if parcel.target != rank:
        return []
    return [torch.empty(leaf.shape, dtype=leaf.dtype, device=device) for leaf in parcel.template.leaves]
