"""A scheduling problem: which tasks, on which machine, and how long each takes on each unit."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Literal, get_args

from alrsim.errors import OptionError
from alrsim.hardware.machine import Machine, Unit
from alrsim.hardware.precision import PrecisionPlan
from alrsim.tasks.taskgraph import Task, TaskGraph
from alrsim.units import Bytes, Ns

Semantics = Literal["latency", "link", "blocking"]
"""What a transfer occupies: nothing, its links, or its links and the sending unit."""

SEMANTICS: tuple[Semantics, ...] = get_args(Semantics)

CostModel = Callable[[Task, Unit, PrecisionPlan], Ns]

CostKey = tuple[int, str, int, bool]
"""Stage, kind, copies stacked in the task, and whether it belongs to the clean forward (copy group 0)."""


def cost_key(task: Task) -> CostKey:
    """What a measured duration depends on; tasks with equal keys do the same work.

    The clean forward draws no noise and keeps no codes, so it is told from a noisy one of as many copies.
    """
    return task.id.stage, task.id.kind, task.copies, task.id.group == 0


def with_scratch(graph: TaskGraph, table: Mapping[CostKey, Bytes]) -> TaskGraph:
    """The task graph whose tasks have the scratch that a table gives by :func:`cost_key`.

    Tasks that are not in the table keep what they have.

    Raises:
        OptionError: bytes that are not whole.
    """
    for key, size in table.items():
        if isinstance(size, bool) or not isinstance(size, int):
            raise OptionError(f"{key} has {size!r} bytes of scratch; need whole bytes", where="scratch table")
    tasks = tuple(replace(task, scratch=table.get(cost_key(task), task.scratch)) for task in graph.tasks)
    return replace(graph, tasks=tasks)


@dataclass(frozen=True)
class ContentionModel:
    """What durations are made of where that was measured: how long a task takes depends on who else is at work.

    While ``k`` other units run tasks, a task proceeds as if it took ``alone + (busy - alone) min(k, n) / n`` in all,
    with ``n`` neighbours; the executor's overhead comes on top, whatever the neighbours do.

    Attributes:
        alone: ``alone[task][unit]`` in ticks, all other units idle, without the executor's overhead.
        busy: The same with ``neighbours`` others at work; never less.
        overhead: Ticks per task that the executor takes besides.
        neighbours: Units that were at work beside the measured one for ``busy``.

    Raises:
        OptionError: times that are negative, or shorter beside neighbours than alone.
    """

    alone: tuple[tuple[Ns, ...], ...]
    busy: tuple[tuple[Ns, ...], ...]
    overhead: Ns = 0
    neighbours: int = 1

    def __post_init__(self) -> None:
        if self.overhead < 0 or self.neighbours < 1 or len(self.alone) != len(self.busy):
            raise OptionError(
                f"{len(self.alone)} and {len(self.busy)} rows, overhead {self.overhead}, {self.neighbours} neighbours",
                where="contention",
                fix="give a row per task in both, an overhead of at least 0 and at least 1 neighbour",
            )
        for idle, loaded in {(id(a), id(b)): (a, b) for a, b in zip(self.alone, self.busy, strict=True)}.values():
            if len(idle) != len(loaded) or any(not 0 <= a <= b for a, b in zip(idle, loaded, strict=True)):
                raise OptionError(
                    f"a task takes {idle} alone and {loaded} beside neighbours",
                    where="contention",
                    fix="times must not be negative, nor shorter beside neighbours than alone",
                )

    def durations(self, share: Fraction = Fraction(1)) -> tuple[tuple[Ns, ...], ...]:
        """Fixed durations, as schedulers need them: beside ``share`` of the neighbours, overhead included."""
        rows: dict[tuple[int, int], tuple[Ns, ...]] = {}
        for idle, loaded in zip(self.alone, self.busy, strict=True):
            key = (id(idle), id(loaded))
            if key not in rows:
                rows[key] = tuple(a + round((b - a) * share) + self.overhead for a, b in zip(idle, loaded, strict=True))
        return tuple(rows[id(idle), id(loaded)] for idle, loaded in zip(self.alone, self.busy, strict=True))


@dataclass(frozen=True)
class Problem:
    """Everything that a scheduler decides on and an engine needs.

    Attributes:
        durations: ``durations[task][unit]`` in ticks. Rows may be shared objects.
        cost_model: Which cost model made the durations; printed with every prediction.
        loss_unit: Index of the unit that runs the loss module; ``None``: the last stage's unit.
        time_unit: ``ns``, or ``user`` for textbook problems.
        ticks_per_unit: Ticks in one typed unit (1 for ns); reports divide by it.
        contention: What the durations are made of, if that is known. The simulator then lets neighbours slow each other
            down as they really overlap; ``durations`` is what schedulers decide on.

    Raises:
        OptionError: a missing or negative duration, or a loss unit that does not exist.
    """

    tasks: TaskGraph
    machine: Machine
    durations: tuple[tuple[Ns, ...], ...]
    cost_model: str
    loss_unit: int | None = None
    time_unit: str = "ns"
    ticks_per_unit: int = 1
    contention: ContentionModel | None = None

    def __post_init__(self) -> None:
        if len(self.durations) != len(self.tasks.tasks):
            raise OptionError(f"{len(self.tasks.tasks)} tasks but {len(self.durations)} rows of durations")
        units = len(self.machine.units)
        for row in self.rows:
            if len(row) != units or min(row) < 0:
                raise OptionError(f"durations {row} must be {units} non-negative numbers, one per unit")
        if self.loss_unit is not None and not 0 <= self.loss_unit < units:
            raise OptionError(f"loss unit {self.loss_unit} does not exist; the machine has {units} units")
        model = self.contention
        if model is not None and (len(model.alone) != len(self.durations) or len(next(iter(model.alone), ())) != units):
            raise OptionError(f"contention must have a row of {units} times for each of {len(self.durations)} tasks")

    @cached_property
    def rows(self) -> Counter[tuple[Ns, ...]]:
        """How many tasks have each row of durations; rows that are the same object are looked at once."""
        shared = Counter(map(id, self.durations))
        found: Counter[tuple[Ns, ...]] = Counter()
        for row in {id(row): row for row in self.durations}.values():
            found[row] += shared[id(row)]
        return found

    @cached_property
    def fastest(self) -> list[Ns]:
        """Per task: its time on the unit where it is fastest."""
        least = {id(row): min(row) for row in {id(row): row for row in self.durations}.values()}
        return [least[id(row)] for row in self.durations]

    @property
    def one_stage_each(self) -> tuple[int, ...]:
        """Unit per stage, the loss module last, with one stage on each unit in order; a loss unit of its own is skipped
        while there are units enough."""
        stages, every = self.tasks.stages, range(len(self.machine.units))
        others = [unit for unit in every if unit != self.loss_unit]
        return self.with_loss((others if len(others) >= stages else every)[:stages])

    def with_loss(self, placed: Sequence[int]) -> tuple[int, ...]:
        """Units of the stages and of the loss module: on the problem's loss unit, else where the last stage is."""
        return (*placed, placed[-1] if self.loss_unit is None else self.loss_unit)

    @property
    def shortest(self) -> tuple[tuple[Ns, ...], ...]:
        """Durations that no neighbour lengthens: what lower bounds may count."""
        return self.durations if self.contention is None else self.contention.durations(Fraction(0))


def price(
    tasks: TaskGraph,
    machine: Machine,
    plan: PrecisionPlan,
    model: CostModel,
    *,
    name: str,
    loss_unit: int | None = None,
) -> Problem:
    """Ask a cost model for the duration of every task on every unit; equal questions are asked once."""
    rows: dict[object, tuple[Ns, ...]] = {}
    answers: dict[object, Ns] = {}
    durations = []
    for task in tasks.tasks:
        question = (cost_key(task), task.work, task.encoded)
        row = rows.get(question)
        if row is None:
            row = rows[question] = tuple(_ask(model, task, unit, plan, question, answers) for unit in machine.units)
        durations.append(row)
    return Problem(tasks, machine, tuple(durations), name, loss_unit)


def _ask(
    model: CostModel, task: Task, unit: Unit, plan: PrecisionPlan, question: object, answers: dict[object, Ns]
) -> Ns:
    key = (
        question,
        unit.device,
        unit.launch_overhead_ns,
        tuple(unit.peak_flops.items()),
        unit.memory_bandwidth,
    )
    if key not in answers:
        answers[key] = model(task, unit, plan)
    return answers[key]
