"""The costs that a prediction was made from, as a value on disk: enough to predict again without torch or the model."""

from dataclasses import dataclass
from itertools import permutations

from alrsim.errors import FileError
from alrsim.hardware.machine import Machine
from alrsim.hardware.topology import Link, Listed
from alrsim.hardware.unit import Unit
from alrsim.tasks.problem import ContentionModel, CostKey, Problem, Semantics, cost_key, with_scratch
from alrsim.tasks.taskgraph import TaskGraph
from alrsim.units import Bytes, Ns

Row = tuple[Ns, ...]


@dataclass(frozen=True, slots=True)
class CostRow:
    """What tasks of one kind cost, one time per unit.

    Attributes:
        stage, kind, copies, clean: The key (:func:`alrsim.tasks.problem.cost_key`).
        durations: What the schedulers decided on.
        alone: With idle neighbours, without overhead; empty where durations are fixed.
        busy: Beside busy neighbours, without overhead; empty where durations are fixed.
        scratch: Bytes that live only while the task runs.
    """

    stage: int
    kind: str
    copies: int
    clean: bool
    durations: Row
    alone: Row = ()
    busy: Row = ()
    scratch: Bytes = 0

    @property
    def key(self) -> CostKey:
        return self.stage, self.kind, self.copies, self.clean


@dataclass(frozen=True, slots=True)
class ListedMachine:
    """A machine as it is written: a host of a few units, with every link between them."""

    name: str
    units: tuple[Unit, ...]
    links: tuple[Link, ...] = ()
    shared_cores: int | None = None

    @property
    def machine(self) -> Machine:
        """The machine again; its links are listed."""
        return Machine(self.name, self.units, Listed(self.links), self.shared_cores)


def listed(machine: Machine) -> ListedMachine:
    """A machine with its links one by one."""
    pairs = permutations(range(len(machine.units)), 2)
    links = tuple(link for pair in pairs if (link := machine.link(*pair)) is not None)
    return ListedMachine(machine.name, machine.units, links, machine.shared_cores)


@dataclass(frozen=True, slots=True)
class Costs:
    """A problem without its tasks, and how it was simulated.

    Attributes:
        semantics: Of transfers (``latency``, ``link``, ``blocking``).
        overhead: Ticks per task beside ``alone`` and ``busy``.
        neighbours: Units at work for ``busy``.
    """

    cost_model: str
    machine: ListedMachine
    rows: tuple[CostRow, ...]
    semantics: Semantics = "link"
    loss_unit: int | None = None
    overhead: Ns = 0
    neighbours: int = 1


def costs_of(problem: Problem, semantics: Semantics) -> Costs:
    """What a problem's durations say, by kind of task.

    Raises:
        ValueError: two tasks of one key cost differently: such a problem is not one of measured costs.
    """
    rows: dict[CostKey, CostRow] = {}
    contention = problem.contention
    for index, task in enumerate(problem.tasks.tasks):
        key = cost_key(task)
        alone, busy = ((), ()) if contention is None else (contention.alone[index], contention.busy[index])
        row = CostRow(*key, problem.durations[index], alone, busy, task.scratch)
        if rows.setdefault(key, row) != row:
            raise ValueError(f"tasks like {task.id} cost differently: {row} and {rows[key]}")
    more = {} if contention is None else {"overhead": contention.overhead, "neighbours": contention.neighbours}
    return Costs(
        problem.cost_model, listed(problem.machine), tuple(rows.values()), semantics, problem.loss_unit, **more
    )


def problem_of(costs: Costs, tasks: TaskGraph, *, where: str = "costs") -> Problem:
    """The problem again; the inverse of :func:`costs_of` on the same tasks.

    Raises:
        FileError: the tasks are not those that the costs were recorded for.
    """
    table = {row.key: row for row in costs.rows}
    missing = next((task.id for task in tasks.tasks if cost_key(task) not in table), None)
    if missing is not None:
        raise FileError(f"has no cost of {missing}", where=where, fix="record the run again with this version")
    tasks = with_scratch(tasks, {key: row.scratch for key, row in table.items() if row.scratch})
    rows = [table[cost_key(task)] for task in tasks.tasks]
    contention = None
    if any(row.busy for row in rows):
        alone, busy = tuple(row.alone for row in rows), tuple(row.busy for row in rows)
        contention = ContentionModel(alone, busy, costs.overhead, costs.neighbours)
    durations = tuple(row.durations for row in rows)
    return Problem(tasks, costs.machine.machine, durations, costs.cost_model, costs.loss_unit, contention=contention)
