"""The task graph: tasks in the sequential reference order, and the buffers through which they depend on each other."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

from alrsim.graph.work import NO_WORK, Work
from alrsim.tasks.token import NONE, TaskId
from alrsim.units import Bytes


class Category(StrEnum):
    """What a buffer is for; memory is reported per category."""

    PARAM = "param"
    GRAD = "grad"
    OPTIMIZER = "optimizer"
    ACTIVATION = "activation"
    NOISE = "noise"
    TEMP = "temp"


@dataclass(frozen=True, slots=True)
class Task:
    """One atomic piece of computation.

    Attributes:
        id: Its token.
        reads: Indices of the buffers it reads. The producer of each is a dependency; if it ran on another unit, the
            buffer is transferred, once per destination unit.
        after: Indices of further tasks it waits for without reading anything of theirs.
        work: What it computes in the activation precision, copies included.
        encoded: What it computes on codes (the product of coded input and coded noise), copies included.
        copies: Replicas of the micro-batch stacked in it.
        scratch: Bytes that it allocates and frees inside itself, beyond its buffers; 0 if unknown or none. Negative
            where it never holds all that it reads and writes at once: a backward frees what was saved as it goes.
    """

    id: TaskId
    reads: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    work: Work = NO_WORK
    encoded: Work = NO_WORK
    copies: int = 1
    scratch: Bytes = 0


@dataclass(frozen=True, slots=True)
class Buffer:
    """Bytes with a lifetime: from its producer's start to its last reader's end, on the producer's unit.

    A reader on another unit gets a copy there, which lives from the start of the transfer to the last reader's end
    on that unit.

    Attributes:
        name: For messages and traces: ``2F0:out``.
        stage: Home stage. A buffer without a producer lives on the unit of its home stage from time 0.
        producer: Index of the task that writes it, ``NONE`` if it is there from the start.
        readers: Indices of the tasks that read it, ascending.
        resident: Lives on the home unit for the whole step (parameters, gradients, optimizer state).
        accumulator: Non-empty for one term of an ordered sum. Terms of the same accumulator are added in ascending
            ``rank``; a term that is finished early is held as ``temp`` until all smaller ranks are in.
        rank: Position in that sum.
    """

    name: str
    category: Category
    bytes: int
    stage: int
    producer: int = NONE
    readers: tuple[int, ...] = ()
    resident: bool = False
    accumulator: str = ""
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Summary:
    """What holds of a whole step, also where its tasks are not written out; see :class:`TaskGraph`."""

    rule: str
    stages: int
    microbatches: int
    tasks: int
    forwards_per_step: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class TaskGraph:
    """Tasks in sequential reference order (topological, proved at construction) and their buffers.

    The order of ``tasks`` is the order in which a single worker would run them and the order of every sum.

    Attributes:
        rule: Which rule made it, with its options, for reports: ``lr copies=8 baseline=clean``.
        stages: Layer stages; the loss module has index ``stages``.
        microbatches: Micro-batches in a step.
        forwards_per_step: Full-forward equivalents that each sample passes through in one step (1 for BP,
            n + 1 for n copies with a clean baseline and joint noise, ...).
        notes: What the user should know of the choices the rule made.

    Raises:
        ValueError: on an own-invariant violation (duplicate ids, dependency on a later task).
    """

    tasks: tuple[Task, ...]
    buffers: tuple[Buffer, ...]
    rule: str
    stages: int
    microbatches: int
    forwards_per_step: float = 1.0
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if len({task.id for task in self.tasks}) != len(self.tasks):
            raise ValueError("two tasks have the same id")
        for position, task in enumerate(self.tasks):
            for other, _ in self.dependencies(position):
                if not 0 <= other < position:
                    raise ValueError(f"{task.id} depends on task {other}, which is not before it")

    def dependencies(self, task: int) -> Iterator[tuple[int, int]]:
        """``(producer index, buffer index)`` for every buffer read, ``(index, NONE)`` for every plain order."""
        for buffer in self.tasks[task].reads:
            producer = self.buffers[buffer].producer
            if producer != NONE:
                yield producer, buffer
        for other in self.tasks[task].after:
            yield other, NONE

    @property
    def summary(self) -> Summary:
        """The step in a few numbers."""
        return Summary(self.rule, self.stages, self.microbatches, len(self.tasks), self.forwards_per_step, self.notes)

    @cached_property
    def index(self) -> dict[TaskId, int]:
        """Position by task id."""
        return {task.id: position for position, task in enumerate(self.tasks)}

    @property
    def peak_bytes(self) -> Bytes:
        """Most bytes that live at once where one worker runs the tasks in this order, scratch and held terms aside."""
        live = sum(buffer.bytes for buffer in self.buffers if buffer.resident)
        begun, ended = [0] * (len(self.tasks) + 1), [0] * (len(self.tasks) + 1)
        for buffer in self.buffers:
            if not buffer.resident and not buffer.accumulator:
                start = max(buffer.producer, 0)
                begun[start] += buffer.bytes
                ended[max((start, *buffer.readers[-1:]))] += buffer.bytes
        peak = live
        for come, gone in zip(begun, ended, strict=True):
            peak = max(peak, live + come)
            live += come - gone
        return peak

    def to_networkx(self) -> Any:
        """A ``networkx.MultiDiGraph``: a node per task, an edge per dependency, labelled by the buffer that makes it.

        Nodes are tokens (``"0F1"``) with ``task``, a :class:`Task`; edges have ``buffer``, a :class:`Buffer`, or
        ``None`` where it is plain order.

        >>> from alrsim.tasks.token import parse_token
        >>> tasks = (Task(parse_token("0F0")), Task(parse_token("0B0"), reads=(0,)))
        >>> buffers = (Buffer("0F0:saved", Category.ACTIVATION, 8, 0, producer=0, readers=(1,)),)
        >>> graph = TaskGraph(tasks, buffers, "bp", stages=1, microbatches=1).to_networkx()
        >>> [(source, target, buffer.name) for source, target, buffer in graph.edges(data="buffer")]
        [('0F0', '0B0', '0F0:saved')]
        """
        import networkx

        graph = networkx.MultiDiGraph(name=self.rule)
        names = [str(task.id) for task in self.tasks]
        graph.add_nodes_from((name, {"task": task}) for name, task in zip(names, self.tasks, strict=True))
        for position, name in enumerate(names):
            for other, buffer in self.dependencies(position):
                graph.add_edge(names[other], name, buffer=None if buffer == NONE else self.buffers[buffer])
        return graph
