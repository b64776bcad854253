"""The state of one build: tasks and buffers so far, and where each value, loss and gradient of a micro-batch is."""

from dataclasses import dataclass, field

from alrsim.graph.stages import Edge, Stage, StageGraph
from alrsim.graph.work import NO_WORK, Work
from alrsim.hardware.precision import PrecisionPlan
from alrsim.rules.instances import Instance, Instances
from alrsim.rules.options import RuleOptions
from alrsim.rules.segmentation import Segmentation
from alrsim.tasks.taskgraph import Buffer, Category, Task, TaskGraph
from alrsim.tasks.token import NONE, TaskId


@dataclass
class Draft:
    """Tasks and buffers in reference order, until they are frozen into a task graph.

    Mutable while a rule runs; readers of a buffer are filled in as tasks that read it are added.
    """

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


@dataclass
class Step:
    """Mutable while a rule runs.

    Attributes:
        incoming: Edges that each stage reads, the loss last.
        outgoing: Edges that each layer stage writes.
        param: Buffer of each stage's parameters, ``None`` without any.
        partials: Terms of each stage's weight-gradient sum, in reference order.
        noisy_forwards: Forward tasks of each stage's noisy instances; with noise on its parameters, of all instances.
        loss_cells: Gradient tasks of the loss module.
        values: Buffer of each value, by (value, copy group).
        kept: Buffers that a forward kept for its stage's gradient, by (stage, copy group).
        noise: Buffer of stored noise, by (stage, copy group); none if it is regenerated.
        losses: Buffer of per-sample losses, by copy group.
        forwards: Forward task, by (stage, copy group).
        upstream: Gradient buffers of a value, one from each reader, by (value, copy group).
        sums: Terms of each stage's estimated cotangent.
    """

    graph: StageGraph
    segmentation: Segmentation
    options: RuleOptions
    split: bool
    instances: Instances
    draft: Draft
    incoming: list[tuple[Edge, ...]]
    outgoing: list[tuple[Edge, ...]]
    param: list[int | None]
    partials: list[list[int]]
    noisy_forwards: list[list[int]]
    loss_cells: list[int] = field(default_factory=list)
    values: dict[tuple[str, int], int] = field(default_factory=dict)
    kept: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    noise: dict[tuple[int, int], int] = field(default_factory=dict)
    losses: dict[int, int] = field(default_factory=dict)
    forwards: dict[tuple[int, int], int] = field(default_factory=dict)
    upstream: dict[tuple[str, int], list[int]] = field(default_factory=dict)
    sums: dict[int, list[int]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Layer stages; also the index of the loss module."""
        return len(self.graph.stages)

    @property
    def plan(self) -> PrecisionPlan:
        return self.options.precision

    @property
    def layerwise(self) -> bool:
        return self.options.scope == "layerwise"

    def begin_microbatch(self) -> None:
        """Forget the last micro-batch's values."""
        for state in (self.values, self.kept, self.noise, self.losses, self.forwards, self.upstream, self.sums):
            state.clear()


def made(step: Step, task: int, id_: TaskId, what: str, category: Category, size: int) -> int:
    return step.draft.buffer(f"{id_}:{what}", category, size, id_.stage, producer=task)


def hand_back(step: Step, task: int, id_: TaskId, copies: int) -> None:
    """Gradients of what the task's stage (or the loss) reads, for the stages above that take part in them."""
    for edge in step.incoming[id_.stage]:
        asked = id_.stage == step.count or step.segmentation.trainable[edge.source]
        if asked and step.segmentation.joined(edge.source, id_.stage):
            size = step.plan.activations.bytes_for(edge.elements * copies)
            cotangent = made(step, task, id_, f"d{edge.value}", Category.TEMP, size)
            step.upstream.setdefault((edge.value, id_.group), []).append(cotangent)


def value(step: Step, edge: Edge, one: Instance) -> int:
    """The buffer of an edge's value that this instance reads: its own, else the clean one, else the input."""
    for group in (one.group, 0, NONE):
        if (edge.value, group) in step.values:
            return step.values[edge.value, group]
    raise AssertionError(f"no value {edge.value} for {edge.target}")


def is_product(step: Step, stage: Stage) -> bool:
    """Whether an LR gradient is one product of (a code of) the operator's own input and the cotangent."""
    return stage.linear and not step.segmentation.passes[stage.index] and not step.segmentation.inside(stage.index)
