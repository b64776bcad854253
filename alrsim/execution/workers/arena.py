"""Memory that the processes of one executor share: clocks of what happened, and slots for messages.

It is mapped before the workers are forked and has no name, so nothing can be left behind, however they end.
"""

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from alrsim.errors import ExecutionError
from alrsim.execution.workers.packing import Leaf, Template
from alrsim.execution.workers.unit_actions import EXCHANGES, Marks
from alrsim.units import Bytes, format_bytes

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Arena:
    """The shared mapping.

    Attributes:
        tasks: ``(units, 3, tasks)``: start, end, cpu; by unit, because a sample runs all tasks everywhere.
        messages: ``(3, messages)``: sent, left, arrived.
        states: ``(units, 2)``: task that a unit is at, and how often something began or ended.
        exchanges: ``(3, EXCHANGES)``: sent, left, arrived.
        size: Bytes for messages.
        start: Where they begin in the mapping.
        mapping: The shared memory itself.
    """

    tasks: Ints
    messages: Ints
    states: Ints
    exchanges: Ints
    size: Bytes
    start: int
    mapping: mmap.mmap

    def clear(self) -> None:
        """Forget the last run."""
        for one in (self.tasks, self.messages, self.states, self.exchanges):
            one.fill(-1)
        self.states[:, 1] = 0

    def marks(self, unit: int) -> Marks:
        """Where a unit writes."""
        start, end, cpu = (memoryview(row) for row in self.tasks[unit])
        sent, left, arrived = (memoryview(row) for row in self.messages)
        return Marks(start, end, cpu, sent, left, arrived, memoryview(self.states[unit]))

    def slots(self, template: Template, at: Bytes) -> list[Tensor]:
        """The tensors of a message that lies at ``at``: not views of one tensor, which autograd would take for one that
        every later message changes."""
        return [
            self._tensor(leaf, self.start + at + offset)
            for leaf, offset in zip(template.leaves, template.offsets, strict=True)
        ]

    def _tensor(self, leaf: Leaf, at: int) -> Tensor:
        count = prod(leaf.shape)
        if not count:
            return torch.empty(leaf.shape, dtype=leaf.dtype)
        return torch.frombuffer(self.mapping, dtype=leaf.dtype, count=count, offset=at).view(leaf.shape)


def open_arena(units: int, tasks: int, messages: int, size: Bytes) -> Arena:
    """Map the memory; pages are taken when they are first written.

    Raises:
        ExecutionError: the system refuses a mapping of that size.
    """
    parts = [units * 3 * tasks, 3 * messages, units * 2, 3 * EXCHANGES]
    head = 8 * sum(parts)
    start = -(-head // mmap.PAGESIZE) * mmap.PAGESIZE
    try:
        shared = mmap.mmap(-1, start + max(size, 1))
    except (OSError, ValueError) as error:
        raise ExecutionError(
            f"messages need {format_bytes(size)} of shared memory, which the system refuses: {error}",
            field="executor",
            fix="use fewer copies or micro-batches, or `executor=threads`",
        ) from error
    numbers = np.frombuffer(shared, dtype=np.int64, count=sum(parts))
    first, second, third, fourth = np.split(numbers, np.cumsum(parts)[:-1])
    return Arena(
        first.reshape(units, 3, tasks),
        second.reshape(3, messages),
        third.reshape(units, 2),
        fourth.reshape(3, -1),
        size,
        start,
        shared,
    )


def offsets_of(templates: Sequence[Template]) -> tuple[list[Bytes], Bytes]:
    """Where each message lies, and the bytes of all: a slot of its own for every message of a step, so that no sender
    ever waits for a slot to be free."""
    *found, total = accumulate((template.bytes for template in templates), initial=0)
    return found, total
