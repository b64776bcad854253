"""Which data crosses units under a schedule: a message per buffer (or term of a sum) and unit that reads it.

A message without data is a signal: it stands for an order between tasks that no data carries.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from alrsim.errors import ExecutionError
from alrsim.execution.kernels.ledger import Key, Ledger, label
from alrsim.execution.workers.packing import Template
from alrsim.schedule.actions import Message
from alrsim.tasks.taskgraph import TaskGraph
from alrsim.tasks.token import NONE
from alrsim.timeline.timeline import TransferSpan


@dataclass(frozen=True, slots=True)
class BufferMessage(Message):
    """A message with what it carries.

    Attributes:
        key: Of the buffer or sum; ``()`` for a signal.
        term: Whether it is one task's term of the sum ``key``.
        template: Its form; without leaves for a signal.
        bytes: Of its data.
    """

    key: Key
    template: Template
    bytes: int
    term: bool = False

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


def messages_of(graph: TaskGraph, ledger: Ledger, placed: Placed) -> tuple[BufferMessage, ...]:
    """All messages, by producer in reference order.

    Raises:
        ExecutionError: data that cannot leave its process must.
    """
    found = [*_buffers(graph, ledger, placed), *_terms(ledger, placed)]
    found += _signals(graph, placed, found)
    return tuple(sorted(found, key=lambda one: (one.producer, one.target, label(one.key))))


def transfer_spans(
    messages: Sequence[BufferMessage],
    tokens: Sequence[str],
    units: Sequence[str],
    sent: Sequence[int],
    left: Sequence[int],
    arrived: Sequence[int],
) -> tuple[TransferSpan, ...]:
    """What a run's messages look like in a timeline; signals and what had not arrived are left out.

    Args:
        tokens: Of all tasks.
        units: Names.
        sent, left, arrived: As in :class:`alrsim.execution.workers.unit_actions.Marks`.
    """
    spans = []
    for index, one in enumerate(messages):
        if one.key and arrived[index] >= 0:
            name = label(one.key) + (f"+{tokens[one.producer]}" if one.term else "")
            end = max(left[index], arrived[index])
            spans.append(TransferSpan(name, units[one.source], units[one.target], sent[index], end, one.bytes))
    return tuple(sorted(spans, key=lambda span: (span.start, span.source, span.target, span.buffer)))


def _buffers(graph: TaskGraph, ledger: Ledger, placed: Placed) -> Iterator[BufferMessage]:
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
                yield BufferMessage(entry.producer, source, target, readers, key, entry.template, entry.bytes)


def _terms(ledger: Ledger, placed: Placed) -> Iterator[BufferMessage]:
    for key, sites in sum_sites(ledger, placed).items():
        one = ledger.sums[key]
        here = _readers_by_unit(one.readers, placed)
        for (task, size), template in zip(one.terms, one.templates, strict=True):
            for target in sites:
                if placed.unit[task] != target and template is not None:
                    source, readers = placed.unit[task], here.get(target, ())
                    yield BufferMessage(task, source, target, readers, key, template, size, term=True)


def _signals(graph: TaskGraph, placed: Placed, messages: Sequence[BufferMessage]) -> Iterator[BufferMessage]:
    carried = {(one.producer, reader) for one in messages for reader in one.readers}
    nothing = Template((), lambda _: None)
    for index in range(len(graph.tasks)):
        for other, _ in graph.dependencies(index):
            source, target = placed.unit[other], placed.unit[index]
            if source != target and (other, index) not in carried:
                carried.add((other, index))
                yield BufferMessage(other, source, target, (index,), (), nothing, 0)


def _readers_by_unit(readers: dict[int, None], placed: Placed) -> dict[int, tuple[int, ...]]:
    found: dict[int, list[int]] = {}
    for reader in readers:
        found.setdefault(placed.unit[reader], []).append(reader)
    return {unit: tuple(sorted(tasks)) for unit, tasks in found.items()}
