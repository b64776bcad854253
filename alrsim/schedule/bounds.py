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

from alrsim.schedule.lower import Delays
from alrsim.schedule.schedule import Schedule
from alrsim.tasks.problem import Problem
from alrsim.tasks.token import NONE
from alrsim.units import Ns


def critical_path(problem: Problem) -> Ns:
    """Longest chain of dependent tasks, each on the unit where it is fastest, transfers free."""
    ends: list[Ns] = []
    for position, row in enumerate(problem.durations):
        ready = max((ends[other] for other, _ in problem.tasks.dependencies(position)), default=0)
        ends.append(ready + min(row))
    return max(ends, default=0)


def work_bound(problem: Problem) -> Ns:
    """All work, each task on the unit where it is fastest, spread evenly over the units (and shared cores)."""
    units = len(problem.machine.units)
    cores = units if problem.machine.shared_cores is None else min(units, problem.machine.shared_cores)
    return -(-sum(min(row) for row in problem.durations) // cores)


def split_bound(problem: Problem) -> Ns:
    """Busiest unit under the best possible split, where tasks may be cut into pieces and shared out over unlike units.

    The linear programme ``min T: sum_i x_iu d_iu <= T, sum_u x_iu = 1, x >= 0`` over classes of tasks with equal
    durations. The number printed is exact whatever the solver rounds: for any prices ``y >= 0`` of the units,
    ``sum_i min_u y_u d_iu / sum_u y_u`` is a lower bound, and here the solver's prices are put into it as fractions.
    """
    classes = Counter(problem.durations)
    if all(min(row) == max(row) for row in classes):
        return work_bound(problem)
    prices = unit_prices(classes, len(problem.machine.units))
    total = sum(prices)
    if total <= 0:
        return work_bound(problem)
    worth = sum(count * min(y * d for y, d in zip(prices, row, strict=True)) for row, count in classes.items())
    return max(work_bound(problem), -(-worth.numerator * total.denominator // (worth.denominator * total.numerator)))


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
    delays, graph = Delays(problem), problem.tasks
    count = len(graph.tasks)
    heads, tails = [0] * count, [0] * count
    lags: list[list[tuple[int, int]]] = []
    home = _homes(problem, units)
    for task in range(count):
        row = []
        for index in graph.tasks[task].reads:
            buffer = graph.buffers[index]
            source = home[buffer.stage] if buffer.producer == NONE else units[buffer.producer]
            lag = delays.between(index, source, units[task])
            if buffer.producer == NONE:
                heads[task] = max(heads[task], lag)
            else:
                row.append((buffer.producer, lag))
        row += [(other, 0) for other in graph.tasks[task].after]
        for other, lag in row:
            heads[task] = max(heads[task], heads[other] + problem.durations[other][units[other]] + lag)
        lags.append(row)
    for task in reversed(range(count)):
        rest = tails[task] + problem.durations[task][units[task]]
        for other, lag in lags[task]:
            tails[other] = max(tails[other], lag + rest)
    return heads, tails


def _homes(problem: Problem, units: Sequence[int]) -> list[int]:
    """As :func:`alrsim.schedule.lower.homes`, from units per task."""
    placed: dict[int, int] = {}
    for task, unit in zip(problem.tasks.tasks, units, strict=True):
        if task.id.kind == "U" or task.id.stage not in placed:
            placed[task.id.stage] = unit
    last = problem.tasks.stages
    fallback = placed.get(last - 1, 0)
    return [placed.get(stage, fallback) for stage in range(last + 1)]


def head_tail_bound(problem: Problem, units: Sequence[int]) -> Ns:
    """The longest preemptive one-machine schedule with heads and tails over the units (Jackson; Carlier 1982).

    At any moment the unit works on the task that is there and has the longest tail; with preemption that is optimal
    for one machine, so no order without it is shorter. At least as large as the busiest unit and the critical path of
    the placement.
    """
    heads, tails = heads_and_tails(problem, units)
    members: list[list[int]] = [[] for _ in problem.machine.units]
    for task, unit in enumerate(units):
        members[unit].append(task)
    ticks = [row[unit] for row, unit in zip(problem.durations, units, strict=True)]
    return max((_preemptive(lane, heads, ticks, tails) for lane in members if lane), default=0)


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
