"""A scheduling problem: which tasks, on which machine, and how long each takes on each unit."""

from collections.abc import Callable
from dataclasses import dataclass

from alrsim.errors import OptionError
from alrsim.hardware.machine import Machine, Unit
from alrsim.hardware.precision import PrecisionPlan
from alrsim.tasks.taskgraph import Task, TaskGraph
from alrsim.units import Ns

CostModel = Callable[[Task, Unit, PrecisionPlan], Ns]

CostKey = tuple[int, str, int, bool]
"""Stage, kind, copies stacked in the task, and whether it belongs to the clean forward (copy group 0)."""


def cost_key(task: Task) -> CostKey:
    """What a measured duration depends on; tasks with equal keys do the same work.

    The clean forward draws no noise and keeps no codes, so it is told from a noisy one of as many copies.
    """
    return task.id.stage, task.id.kind, task.copies, task.id.group == 0


@dataclass(frozen=True)
class Problem:
    """Everything that a scheduler decides on and an engine needs.

    Attributes:
        durations: ``durations[task][unit]`` in ticks. Rows may be shared objects.
        cost_model: Which cost model made the durations; printed with every prediction.
        loss_unit: Index of the unit that runs the loss module; ``None``: the last stage's unit.
        time_unit: ``ns``, or ``user`` for textbook problems.
        ticks_per_unit: Ticks in one typed unit (1 for ns); reports divide by it.

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

    def __post_init__(self) -> None:
        if len(self.durations) != len(self.tasks.tasks):
            raise OptionError(f"{len(self.tasks.tasks)} tasks but {len(self.durations)} rows of durations")
        units = len(self.machine.units)
        for row in {id(row): row for row in self.durations}.values():
            if len(row) != units or min(row) < 0:
                raise OptionError(f"durations {row} must be {units} non-negative numbers, one per unit")
        if self.loss_unit is not None and not 0 <= self.loss_unit < units:
            raise OptionError(f"loss unit {self.loss_unit} does not exist; the machine has {units} units")


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
