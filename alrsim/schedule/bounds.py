"""Lower bounds on the makespan: what no schedule can beat, whoever made it.

Two scopes. *Any placement*: every task may run on every unit (:func:`makespan_bound`). *This placement*: the unit of
every task is given and only the order is open (:func:`placed_bound`), which is never smaller. All hold under each
transfer semantics, because links and cores that are contended only make a step longer; only fused pairs
(``overlap`` < 1) may go below them.
"""

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from heapq import heappop, heappush
from math import ceil
from typing import TypeVar

from alrsim.hardware.machine import Machine
from alrsim.schedule.lower import Delays, at_homes
from alrsim.schedule.schedule import Schedule
from alrsim.tasks.problem import Problem
from alrsim.tasks.token import NONE
from alrsim.units import Ns

Number = TypeVar("Number", int, float)
Before = Sequence[Sequence[tuple[int, Number]]]
"""Per task, what it waits for: an earlier task, and the time from the end of that to its own start."""


def heads(ticks: Sequence[Number], before: Before[Number], release: Sequence[Number] | None = None) -> list[Number]:
    """Earliest start of each task, if units were never busy; ``release``: when what is there from the start is here."""
    found = [tick * 0 for tick in ticks] if release is None else list(release)
    for task, row in enumerate(before):
        for other, lag in row:
            found[task] = max(found[task], found[other] + ticks[other] + lag)
    return found


def tails(ticks: Sequence[Number], before: Before[Number]) -> list[Number]:
    """What must pass after the end of each task."""
    found = [tick * 0 for tick in ticks]
    for task in reversed(range(len(ticks))):
        for other, lag in before[task]:
            found[other] = max(found[other], lag + ticks[task] + found[task])
    return found


def critical_path(problem: Problem) -> Ns:
    """Longest chain of dependent tasks, each on the unit where it is fastest, transfers free."""
    ticks = problem.fastest
    before = [[(other, 0) for other, _ in problem.tasks.dependencies(task)] for task in range(len(ticks))]
    return max((head + tick for head, tick in zip(heads(ticks, before), ticks, strict=True)), default=0)


def work_bound(problem: Problem) -> Ns:
    """All work, each task on the unit where it is fastest, spread evenly over the units (and shared cores)."""
    return _even_share(problem.rows, problem.machine)


def _even_share(classes: Counter[tuple[Ns, ...]], machine: Machine) -> Ns:
    cores = min(len(machine.units), machine.shared_cores or len(machine.units))
    return -(-sum(count * min(row) for row, count in classes.items()) // cores)


def split_bound(problem: Problem) -> Ns:
    """Busiest unit under the best possible split, where tasks may be cut into pieces and shared over unlike units."""
    return split_share(problem.rows, problem.machine)


def split_share(classes: Counter[tuple[Ns, ...]], machine: Machine) -> Ns:
    """:func:`split_bound` of tasks that are given by how often there is one with these durations per unit.

    The linear programme ``min T: sum_i x_iu d_iu <= T, sum_u x_iu = 1, x >= 0`` over classes of tasks with equal
    durations. The number printed is exact whatever the solver rounds: for any prices ``y >= 0`` of the units,
    ``sum_i min_u y_u d_iu / sum_u y_u`` is a lower bound, and here the solver's prices are put into it as fractions.
    """
    even = _even_share(classes, machine)
    if all(min(row) == max(row) for row in classes):
        return even
    prices = unit_prices(classes, len(machine.units))
    total = sum(prices)
    if total <= 0:
        return even
    worth = sum(count * min(y * d for y, d in zip(prices, row, strict=True)) for row, count in classes.items())
    return max(even, ceil(worth / total))


def unit_prices(classes: Counter[tuple[Ns, ...]], units: int) -> list[Fraction]:
    """Prices of the units for :func:`split_bound`, each at least 0: any are valid, these are the best.

    Args:
        classes: How often there is a task with these durations per unit.
    """
    return [Fraction(price).limit_denominator(10**9) for price in _prices(classes, units)]


def _prices(classes: Counter[tuple[Ns, ...]], units: int) -> list[float]:
    """The dual prices of the units in :func:`split_bound`'s programme."""
    import numpy as np
    from scipy.optimize import linprog
    from scipy.sparse import coo_matrix

    count, scale = len(classes), float(max(max(row) for row in classes)) or 1.0
    tasks = np.array(list(classes.values()), dtype=float)
    ticks = np.array(list(classes), dtype=float) / scale  # share x task count
    shares = np.arange(count * units)
    load = coo_matrix(((ticks * tasks[:, None]).ravel(), (shares % units, shares)), shape=(units, count * units + 1))
    load = load.tolil()
    load[:, -1] = -1.0
    whole = coo_matrix((np.ones(count * units), (shares // units, shares)), shape=(count, count * units + 1))
    cost = np.zeros(count * units + 1)
    cost[-1] = 1.0
    found = linprog(cost, A_ub=load.tocsr(), b_ub=np.zeros(units), A_eq=whole.tocsr(), b_eq=np.ones(count))
    return [max(0.0, -float(price)) for price in found.ineqlin.marginals] if found.status == 0 else [1.0] * units


def makespan_bound(problem: Problem) -> Ns:
    """The larger of :func:`critical_path` and :func:`split_bound`, for any placement."""
    return max(critical_path(problem), split_bound(problem))


def units_of(problem: Problem, schedule: Schedule) -> list[int]:
    """Unit index per task of a complete schedule."""
    return [schedule.unit_of[task.id] for task in problem.tasks.tasks]


def heads_and_tails(problem: Problem, units: Sequence[int]) -> tuple[list[Ns], list[Ns]]:
    """Earliest start of each task, and ticks that must pass after its end, if units were never busy.

    Ways between units are charged as on an idle network.
    """
    before, release = placed_inputs(problem, units)
    ticks = [row[unit] for row, unit in zip(problem.durations, units, strict=True)]
    return heads(ticks, before, release), tails(ticks, before)


def placed_inputs(problem: Problem, units: Sequence[int]) -> tuple[list[list[tuple[int, Ns]]], list[Ns]]:
    """What each task waits for on the unit where it runs, and when what is there from the start has reached that."""
    delays, graph = Delays(problem), problem.tasks
    release = [0] * len(graph.tasks)
    before: list[list[tuple[int, int]]] = []
    home = at_homes(graph, units)
    for position, task in enumerate(graph.tasks):
        row = [(other, 0) for other in task.after]
        for index in task.reads:
            buffer = graph.buffers[index]
            source = home[buffer.stage] if buffer.producer == NONE else units[buffer.producer]
            lag = delays.between(index, source, units[position])
            if buffer.producer == NONE:
                release[position] = max(release[position], lag)
            else:
                row.append((buffer.producer, lag))
        before.append(row)
    return before, release


def head_tail_bound(problem: Problem, units: Sequence[int]) -> Ns:
    """The longest preemptive one-machine schedule with heads and tails over the units (Jackson; Carlier 1982).

    At any moment the unit works on the task that is there and has the longest tail; with preemption that is optimal
    for one machine, so no order without it is shorter. At least as large as the busiest unit and the critical path of
    the placement.
    """
    early, late = heads_and_tails(problem, units)
    members: list[list[int]] = [[] for _ in problem.machine.units]
    for task, unit in enumerate(units):
        members[unit].append(task)
    ticks = [row[unit] for row, unit in zip(problem.durations, units, strict=True)]
    return max((_preemptive(lane, early, ticks, late) for lane in members if lane), default=0)


def _preemptive(lane: Sequence[int], heads: Sequence[Ns], ticks: Sequence[Ns], tails: Sequence[Ns]) -> Ns:
    """Makespan of Jackson's preemptive schedule of one machine, tails included."""
    coming = sorted(lane, key=lambda task: heads[task])
    ready: list[tuple[int, int]] = []  # (-tail, ticks left)
    now = longest = position = 0
    while position < len(coming) or ready:
        if not ready:
            now = max(now, heads[coming[position]])
        while position < len(coming) and heads[coming[position]] <= now:
            heappush(ready, (-tails[coming[position]], ticks[coming[position]]))
            position += 1
        tail, left = heappop(ready)
        until = heads[coming[position]] if position < len(coming) else now + left
        step = min(left, until - now)
        now += step
        if left > step:
            heappush(ready, (tail, left - step))
        else:
            longest = max(longest, now - tail)
    return longest


def placed_bound(problem: Problem, units: Sequence[int]) -> Ns:
    """The best bound for a given placement: :func:`head_tail_bound`, and :func:`work_bound` for shared cores."""
    return max(head_tail_bound(problem, units), work_bound(problem))
