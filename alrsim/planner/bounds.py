"""Lower bounds for one candidate from the tasks of ONE micro-batch: on time, energy and memory of a step.

Micro-batches of a step are copies of each other, so that a step of m has m times the tasks of one, and its updates
once. All bounds hold for every order, for every placement that the freedom allows, and under every transfer semantics
(transfers are taken as free).

``free``: any task on any unit. ``gradients``, ``stages``: the tasks of a stage share a unit, except for LR's G and C
tasks, which may run anywhere.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from operator import add

from alrsim.errors import ProfileError
from alrsim.hardware.machine import Machine
from alrsim.schedule.bounds import critical_path, heads, split_share, tails
from alrsim.schedulers.lr_free import FREE_KINDS
from alrsim.tasks.problem import Problem
from alrsim.tasks.taskgraph import Buffer, Category
from alrsim.tasks.token import NONE
from alrsim.units import Bytes, Ns


@dataclass(frozen=True)
class Outline:
    """The tasks of one micro-batch and their place in the step.

    Attributes:
        times: How often each task is in the step: ``microbatches``, or 1 for updates.
        least: Ticks on the fastest unit.
        heads: Ticks before a task can start, whatever the placement.
        tails: Ticks that must follow its end.
        pinned: Whether it runs on the unit of its stage.
    """

    problem: Problem
    microbatches: int
    times: tuple[int, ...]
    least: tuple[Ns, ...]
    heads: tuple[Ns, ...]
    tails: tuple[Ns, ...]
    pinned: tuple[bool, ...]


def outline(problem: Problem, microbatches: int, *, free: bool = False) -> Outline:
    """From a problem of one micro-batch to the outline of a step of many.

    Args:
        free: Any task may run on any unit.
    """
    graph = problem.tasks
    assert graph.microbatches == 1, "the outline is made from one micro-batch"
    least = tuple(problem.fastest)
    before = [[(other, 0) for other, _ in graph.dependencies(task)] for task in range(len(least))]
    times = tuple(1 if task.id.microbatch == NONE else microbatches for task in graph.tasks)
    pinned = tuple(not free and task.id.kind not in FREE_KINDS for task in graph.tasks)
    return Outline(
        problem, microbatches, times, least, tuple(heads(least, before)), tuple(tails(least, before)), pinned
    )


def time_bound(found: Outline) -> Ns:
    """Ticks that no schedule of the step can beat: the largest of four.

    The critical path of one micro-batch; all work under the best fractional split over unlike units; every stage alone
    on its fastest unit, with what must come before its first and after its last task (a one-machine bound on those of
    its tasks with a long tail); and on equal units the sum of idle time before the first stage of each unit can start.
    """
    problem = found.problem
    return max(critical_path(problem), _work(found), _stages(found), _fill(found))


def _work(found: Outline) -> Ns:
    """As :func:`alrsim.schedule.bounds.split_bound`, with every task as often as it is in the step."""
    rows: Counter[tuple[Ns, ...]] = Counter()
    for row, times in zip(found.problem.durations, found.times, strict=True):
        rows[row] += times
    return split_share(rows, found.problem.machine)


def _stages(found: Outline) -> Ns:
    """For every stage and every length of tail: head + work of the tasks with at least that tail + that tail."""
    longest = 0
    for members in _members(found).values():
        for limit in {found.tails[task] for task in members}:
            chosen = [task for task in members if found.tails[task] >= limit]
            head = min(found.heads[task] for task in chosen)
            rows = [found.problem.durations[task] for task in chosen]
            times = [found.times[task] for task in chosen]
            units = range(len(found.problem.machine.units))
            load = min(sum(row[u] * n for row, n in zip(rows, times, strict=True)) for u in units)
            longest = max(longest, head + load + limit)
    return longest


def _fill(found: Outline) -> Ns:
    """Equal units: a unit is idle until the first of its stages can start, and every unit has another first stage.

    With k units at work, ``k T`` is at least all pinned work plus the k shortest heads plus the k shortest tails of
    stages; T is at least the least of that over k. Once with updates, once without them, where tails are longer.
    """
    if any(min(row) != max(row) for row in set(found.problem.durations)):
        return 0
    machine, members = found.problem.machine, _members(found)
    if machine.shared_cores is not None and machine.shared_cores < len(machine.units):
        return 0  # units that wait for a core are not idle in this sense
    longest = 0
    for updates in (True, False):
        work, early, late = 0, list[int](), list[int]()
        for tasks in members.values():
            chosen = [task for task in tasks if updates or found.problem.tasks.tasks[task].id.kind != "U"]
            if chosen:
                work += sum(found.least[task] * found.times[task] for task in chosen)
                early.append(min(found.heads[task] for task in chosen))
                late.append(min(found.tails[task] for task in chosen))
        idle = [*accumulate(map(add, sorted(early), sorted(late)))][: len(machine.units)]
        longest = max(longest, min((-(-(work + gap) // count) for count, gap in enumerate(idle, 1)), default=0))
    return longest


def _members(found: Outline) -> dict[int, list[int]]:
    """Pinned tasks per stage, those of the loss module included: they share a unit, too."""
    members: dict[int, list[int]] = {}
    for index, task in enumerate(found.problem.tasks.tasks):
        if found.pinned[index]:
            members.setdefault(task.id.stage, []).append(index)
    return members


def energy_bound(found: Outline, idle: float = 0.0, time: Ns = 0) -> float:
    """Joules that no placement can beat: every task on the unit where it takes least energy.

    Args:
        idle: Share of its power that a unit draws while it is idle.
        time: A lower bound on the step; idle power is paid that long at least.

    Raises:
        ProfileError: a unit's power is not known.
    """
    powers = unit_powers(found.problem.machine)
    total = sum(
        times * (1 - idle) * min(p * ticks for p, ticks in zip(powers, row, strict=True))
        for row, times in zip(found.problem.durations, found.times, strict=True)
    )
    return (total + idle * sum(powers) * time) * 1e-9


def unit_powers(machine: Machine) -> tuple[float, ...]:
    """Watts per unit.

    Raises:
        ProfileError: a unit has none.
    """
    for unit in machine.units:
        if unit.power_watts is None:
            raise ProfileError(
                f"unit {unit.name} ({unit.device}) has no power, so that energy cannot be estimated",
                where=machine.name,
                fix="add tdp_w to the hardware profile",
            )
    return tuple(unit.power_watts or 0.0 for unit in machine.units)


def memory_bound(found: Outline) -> Bytes:
    """Bytes that the unit which holds most must hold, in every placement and order.

    The larger of: all resident state spread evenly; and of every task that takes time, what it reads and writes, with
    the resident state of its stage where it runs on the stage's unit.
    """
    graph = found.problem.tasks
    resident: Counter[int] = Counter()
    outputs: Counter[int] = Counter()
    for buffer in graph.buffers:
        if buffer.resident:
            resident[buffer.stage] += buffer.bytes
        elif buffer.producer != NONE:
            outputs[buffer.producer] += _sure(buffer)
    units = len(found.problem.machine.units)
    most = -(-sum(resident.values()) // units)
    for index, task in enumerate(graph.tasks):
        if not found.least[index]:
            continue
        reads = sum(_sure(graph.buffers[buffer]) for buffer in set(task.reads))
        most = max(most, outputs[index] + reads + found.pinned[index] * resident[task.id.stage])
    return most


def _sure(buffer: Buffer) -> Bytes:
    """Bytes that are surely there while a task writes or reads them: terms of sums may have been added up and gone."""
    return 0 if buffer.resident or (buffer.accumulator and buffer.category is Category.TEMP) else buffer.bytes
