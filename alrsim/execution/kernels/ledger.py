"""What one sequential pass found out about data: who writes, reads and sums what, and how many bytes it is.

The pass gives every later run its reference counts, the order of its sums and the sizes of its buffers, so that
timed runs do no bookkeeping that could be done before.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from alrsim.errors import ExecutionError
from alrsim.execution.workers.packing import Template
from alrsim.tasks.taskgraph import Buffer, Category, TaskGraph
from alrsim.tasks.token import NONE
from alrsim.units import Bytes

Key = tuple[str | int, ...]
"""A buffer of the run: what it is, then value or stage, micro-batch and copy group."""


@dataclass(slots=True)
class Entry:
    """A buffer seen in the pass; without a template it cannot leave its process. One that shares the storage of
    another, its ``base``, takes no memory of its own where it was made, but keeps that one's."""

    category: Category
    bytes: int
    stage: int
    producer: int
    readers: dict[int, None] = field(default_factory=dict)
    template: Template | None = None
    base: Key | None = None


@dataclass(slots=True)
class Sum:
    """An ordered sum: the tasks that add to it, in reference order, with the bytes of each term."""

    stage: int
    category: Category
    terms: list[tuple[int, int]] = field(default_factory=list)
    readers: dict[int, None] = field(default_factory=dict)
    templates: list[Template | None] = field(default_factory=list)


@dataclass(slots=True)
class Ledger:
    """Everything that the pass saw; and, once somebody asked, what tasks hold besides
    (:func:`alrsim.execution.measuring.tracking.task_scratch`)."""

    entries: dict[Key, Entry] = field(default_factory=dict)
    sums: dict[Key, Sum] = field(default_factory=dict)
    scratch: list[Bytes] = field(default_factory=list)

    def reads_of(self, tasks: int) -> list[list[Key]]:
        """Keys that each task reads; a key is freed after its last reader."""
        reads: list[list[Key]] = [[] for _ in range(tasks)]
        for key, readers in self.readers().items():
            for reader in readers:
                reads[reader].append(key)
        return reads

    def terms(self) -> dict[Key, tuple[int, ...]]:
        """Tasks whose terms make up each sum, in reference order."""
        return {key: tuple(task for task, _ in sum_.terms) for key, sum_ in self.sums.items()}

    def readers(self) -> dict[Key, dict[int, None]]:
        """Tasks that read each buffer and each sum."""
        found = {key: entry.readers for key, entry in self.entries.items()}
        return {**found, **{key: sum_.readers for key, sum_ in self.sums.items()}}


def last_dependents(graph: TaskGraph) -> list[int]:
    """For every task the last one that depends on it directly or through one other, or itself: behind that one nobody
    reads what it wrote. (W reads what F saved and waits for I alone; an update reads gradients only.)"""
    near = list(range(len(graph.tasks)))
    for index, task in enumerate(graph.tasks):
        if task.id.kind != "U":
            for other, _ in graph.dependencies(index):
                near[other] = max(near[other], index)
    last = list(near)
    for index in range(len(graph.tasks)):
        for other, _ in graph.dependencies(index):
            last[other] = max(last[other], near[index])
    return last


def require_ordered(graph: TaskGraph, ledger: Ledger) -> None:
    """Prove that the task graph orders every reader behind its producers, so that no schedule can break the data.

    Raises:
        ExecutionError: names the reader, the producer and the value.
    """
    before: list[int] = []
    for index in range(len(graph.tasks)):
        ancestors = 0
        for other, _ in graph.dependencies(index):
            ancestors |= before[other] | 1 << other
        before.append(ancestors)
    needs = [(key, entry.producer, reader) for key, entry in ledger.entries.items() for reader in entry.readers]
    needs += [
        (key, task, reader) for key, sum_ in ledger.sums.items() for task, _ in sum_.terms for reader in sum_.readers
    ]
    for key, producer, reader in needs:
        if producer != NONE and producer != reader and not before[reader] >> producer & 1:
            tasks = graph.tasks
            raise ExecutionError(
                f"{tasks[reader].id} reads {label(key)} of {tasks[producer].id}, but the rule does not make it wait",
                where=graph.rule,
                fix="this is a fault of the rule: it lacks a dependency",
            )


def measured_graph(graph: TaskGraph, ledger: Ledger, resident: Mapping[int, Mapping[Category, int]]) -> TaskGraph:
    """The task graph with the buffers that the run really has, for :func:`alrsim.timeline.memory.memory_points`.

    Parameters are read by whom the rule says: no pass through a store shows it.

    Args:
        resident: Bytes per stage and category that live for the whole step.
    """
    buffers: list[Buffer] = []
    reads: list[list[int]] = [[] for _ in graph.tasks]
    read_by = {(buffer.stage, buffer.category): buffer.readers for buffer in graph.buffers if buffer.resident}

    def add(buffer: Buffer) -> None:
        for reader in buffer.readers:
            reads[reader].append(len(buffers))
        buffers.append(buffer)

    for stage, sizes in resident.items():
        for category, size in sizes.items():
            readers = read_by.get((stage, category), ())
            add(Buffer(f"{stage}:{category}", category, size, stage, readers=readers, resident=True))
    keeping = _keeping(ledger)
    for key, entry in ledger.entries.items():
        size = entry.bytes if entry.base is None else 0
        add(Buffer(label(key), entry.category, size, entry.stage, entry.producer, tuple(sorted(keeping[key]))))
    for key, sum_ in ledger.sums.items():
        readers = tuple(sorted(sum_.readers))
        for rank, (task, size) in enumerate(sum_.terms):
            category = sum_.category if rank == 0 else Category.TEMP
            name = f"{label(key)}+{graph.tasks[task].id}"
            add(Buffer(name, category, size, sum_.stage, task, readers, False, label(key), rank))
    scratch = ledger.scratch or [task.scratch for task in graph.tasks]
    tasks = tuple(
        replace(
            task,
            reads=tuple(reads[index]),
            after=tuple(dict.fromkeys(other for other, _ in graph.dependencies(index))),
            scratch=scratch[index],
        )
        for index, task in enumerate(graph.tasks)
    )
    return replace(graph, tasks=tasks, buffers=tuple(buffers))


def _keeping(ledger: Ledger) -> dict[Key, dict[int, None]]:
    """Tasks that keep every buffer: those that read it or a view of it."""
    found = {key: dict(entry.readers) for key, entry in ledger.entries.items()}
    for key, entry in ledger.entries.items():
        if entry.base is not None:
            found[entry.base].update(found[key])
            if entry.producer != ledger.entries[entry.base].producer:
                found[entry.base][entry.producer] = None
    return found


def label(key: Key) -> str:
    """A key in words."""
    return ":".join(str(part) for part in key if part != NONE)
