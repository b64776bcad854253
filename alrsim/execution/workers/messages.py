"""Which data crosses units under a schedule: one parcel per buffer (or term of a sum) and unit that reads it.

A parcel without data is a signal: it stands for an order between tasks that no data carries.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from alrsim.errors import ExecutionError
from alrsim.execution.kernels.ledger import Key, Ledger, label
from alrsim.execution.workers.packing import Template
from alrsim.schedule.actions import Wire
from alrsim.tasks.taskgraph import TaskGraph
from alrsim.tasks.token import NONE
from alrsim.timeline.timeline import TransferSpan


@dataclass(frozen=True, slots=True)
class Parcel:
    """A buffer on its way to one unit.

    Attributes:
        key: Of the buffer or sum; ``()`` for a signal.
        producer: Task that makes it, ``NONE`` for what is there from the start.
        term: Whether it is one task's term of the sum ``key``.
        source: Unit.
        target: Unit.
        readers: Tasks of the target that wait for it.
        template: Its form; without leaves for a signal.
        bytes: Of its data.
    """

    key: Key
    producer: int
    term: bool
    source: int
    target: int
    readers: tuple[int, ...]
    template: Template
    bytes: int

    @property
    def label(self) -> str:
        """As the buffer is called in a measured timeline."""
        return label(self.key) if self.key else "signal"


@dataclass(frozen=True, slots=True)
class Placed:
    """Where tasks and stages are.

    Attributes:
        unit: Of every task.
        home: Of every stage's parameters, the loss module last.
    """

    unit: Sequence[int]
    home: Sequence[int]


def sum_sites(ledger: Ledger, placed: Placed) -> dict[Key, tuple[int, ...]]:
    """Units on which each sum is taken: where it is read, else the home of its stage."""
    return {
        key: tuple(sorted({placed.unit[reader] for reader in one.readers})) or (placed.home[one.stage],)
        for key, one in ledger.sums.items()
    }


def parcels_of(graph: TaskGraph, ledger: Ledger, placed: Placed) -> tuple[Parcel, ...]:
    """All parcels, by producer in reference order.

    Raises:
        ExecutionError: data that cannot leave its process must.
    """
    found = [*_buffers(graph, ledger, placed), *_terms(ledger, placed)]
    found += _signals(graph, placed, found)
    return tuple(sorted(found, key=lambda one: (one.producer, one.target, label(one.key))))


def transfer_spans(
    parcels: Sequence[Parcel],
    tokens: Sequence[str],
    units: Sequence[str],
    sent: Sequence[int],
    left: Sequence[int],
    arrived: Sequence[int],
) -> tuple[TransferSpan, ...]:
    """What a run's parcels look like in a timeline; signals and what had not arrived are left out.

    Args:
        tokens: Of all tasks.
        units: Names.
        sent, left, arrived: As in :class:`alrsim.execution.workers.unit_actions.Marks`.
    """
    spans = []
    for index, one in enumerate(parcels):
        if one.key and arrived[index] >= 0:
            name = label(one.key) + (f"+{tokens[one.producer]}" if one.term else "")
            end = max(left[index], arrived[index])
            spans.append(TransferSpan(name, units[one.source], units[one.target], sent[index], end, one.bytes))
    return tuple(sorted(spans, key=lambda span: (span.start, span.source, span.target, span.buffer)))


def wires_of(parcels: Sequence[Parcel], item_of: Sequence[int]) -> list[Wire]:
    """The parcels as :func:`alrsim.schedule.actions.order_actions` sees them."""
    return [
        Wire(
            NONE if one.producer == NONE else item_of[one.producer],
            one.source,
            one.target,
            tuple(dict.fromkeys(item_of[reader] for reader in one.readers)),
        )
        for one in parcels
    ]


def _buffers(graph: TaskGraph, ledger: Ledger, placed: Placed) -> Iterator[Parcel]:
    for key, entry in ledger.entries.items():
        source = placed.home[entry.stage] if entry.producer == NONE else placed.unit[entry.producer]
        for target, readers in _readers_by_unit(entry.readers, placed).items():
            if target != source:
                if entry.template is None:
                    reader, maker = graph.tasks[readers[0]].id, graph.tasks[entry.producer].id
                    raise ExecutionError(
                        f"{reader} reads what autograd saved in {maker}, which cannot be sent to another process",
                        where=str(reader),
                        fix=f"put {reader} and {maker} on one unit, or `executor=threads`",
                    )
                yield Parcel(key, entry.producer, False, source, target, readers, entry.template, entry.bytes)


def _terms(ledger: Ledger, placed: Placed) -> Iterator[Parcel]:
    for key, sites in sum_sites(ledger, placed).items():
        one = ledger.sums[key]
        here = _readers_by_unit(one.readers, placed)
        for (task, size), template in zip(one.terms, one.templates, strict=True):
            for target in sites:
                if placed.unit[task] != target and template is not None:
                    yield Parcel(key, task, True, placed.unit[task], target, here.get(target, ()), template, size)


def _signals(graph: TaskGraph, placed: Placed, parcels: Sequence[Parcel]) -> Iterator[Parcel]:
    carried = {(one.producer, reader) for one in parcels for reader in one.readers}
    nothing = Template((), lambda _: None)
    for index in range(len(graph.tasks)):
        for other, _ in graph.dependencies(index):
            source, target = placed.unit[other], placed.unit[index]
            if source != target and (other, index) not in carried:
                carried.add((other, index))
                yield Parcel((), other, False, source, target, (index,), nothing, 0)


def _readers_by_unit(readers: dict[int, None], placed: Placed) -> dict[int, tuple[int, ...]]:
    found: dict[int, list[int]] = {}
    for reader in readers:
        found.setdefault(placed.unit[reader], []).append(reader)
    return {unit: tuple(sorted(tasks)) for unit, tasks in found.items()}
