"""Collects tasks and buffers in reference order and freezes them into a task graph."""

from dataclasses import dataclass, field

from alrsim.graph.work import NO_WORK, Work
from alrsim.tasks.taskgraph import Buffer, Category, Task, TaskGraph
from alrsim.tasks.token import NONE, TaskId


@dataclass
class Draft:
    """Mutable while a rule runs; readers of a buffer are filled in as tasks that read it are added."""

    tasks: list[Task] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)
    readers: list[list[int]] = field(default_factory=list)

    def buffer(
        self,
        name: str,
        category: Category,
        size: int,
        stage: int,
        *,
        producer: int = NONE,
        resident: bool = False,
        accumulator: str = "",
        rank: int = 0,
    ) -> int:
        """Add a buffer of ``size`` bytes and return its index."""
        self.buffers.append(Buffer(name, category, size, stage, producer, (), resident, accumulator, rank))
        self.readers.append([])
        return len(self.buffers) - 1

    def task(
        self,
        id_: TaskId,
        reads: list[int],
        *,
        after: list[int] | None = None,
        work: Work = NO_WORK,
        encoded: Work = NO_WORK,
        copies: int = 1,
    ) -> int:
        """Add a task that reads the given buffers and return its index."""
        unique = tuple(dict.fromkeys(reads))
        index = len(self.tasks)
        self.tasks.append(Task(id_, unique, tuple(dict.fromkeys(after or ())), work, encoded, copies))
        for buffer in unique:
            self.readers[buffer].append(index)
        return index

    def freeze(
        self, *, rule: str, stages: int, microbatches: int, forwards_per_step: float, notes: tuple[str, ...]
    ) -> TaskGraph:
        """The finished graph; its constructor proves the order."""
        buffers = tuple(
            Buffer(
                b.name,
                b.category,
                b.bytes,
                b.stage,
                b.producer,
                tuple(readers),
                b.resident,
                b.accumulator,
                b.rank,
            )
            for b, readers in zip(self.buffers, self.readers, strict=True)
        )
        return TaskGraph(tuple(self.tasks), buffers, rule, stages, microbatches, forwards_per_step, notes)
