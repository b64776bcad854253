"""The constraint model behind :mod:`alrsim.schedulers.cpsat`. The only place that imports OR-Tools.

Each task has a start and, where it may run on several units, one literal per unit. Units are machines without
overlap; where all units are alike, nothing is capped and nothing takes time to move, they are one pool. Micro-batches
that are copies of each other keep their order (:mod:`alrsim.schedulers.cpsat_symmetry`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from alrsim.schedule.bounds import heads, heads_and_tails, tails
from alrsim.schedule.lower import Delays, at_homes
from alrsim.schedulers.caps import Caps, Timed, slots_of
from alrsim.schedulers.cpsat_memory import add_bytes, interval
from alrsim.schedulers.cpsat_symmetry import can_be_ordered, moves_are_free
from alrsim.schedulers.search import SearchOptions
from alrsim.tasks.problem import Problem
from alrsim.tasks.token import NONE

Task = tuple[int, ...]
"""Units on which a task may run."""

Shortage = tuple[str, int, int, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the solver found.

    Attributes:
        lanes: Task indices per unit; ``None``: nothing better than what was known, or nothing at all.
        bound: Lower bound that it proved, at least the one it was given.
        shortages: Where it proved that nothing fits: unit, least demand, capacity, what.
    """

    lanes: list[list[int]] | None
    bound: int
    shortages: tuple[Shortage, ...] = ()


@dataclass
class Model:
    """A model under construction.

    Attributes:
        start: Variable per task.
        end: Expression per task.
        on: ``on[task][unit]`` is a literal or a constant; units that are not allowed are missing.
        slack: Extra capacity per (unit, what), where the question is how much is missing.
    """

    cp: Any
    problem: Problem
    allowed: Sequence[Task]
    caps: Caps
    horizon: int
    start: list[Any]
    end: list[Any]
    on: list[dict[int, Any]]
    slack: dict[tuple[int, str], Any]


def solve(
    problem: Problem,
    allowed: Sequence[Task],
    together: bool,
    caps: Caps,
    best: Timed | None,
    bound: int,
    options: SearchOptions,
    *,
    ask_why: bool = True,
) -> Answer:
    """Minimise the makespan.

    Args:
        allowed: Units per task.
        together: A stage's tasks run on one unit.
        best: A schedule within freedom and caps to start from.
        bound: A lower bound that is known.
        ask_why: Where nothing fits, find out how much is missing.
    """
    from ortools.sat.python import cp_model

    model = _build(problem, allowed, together, caps, _horizon(problem, best), soft=False)
    makespan = model.cp.new_int_var(bound, model.horizon, "makespan")
    for end in model.end:
        model.cp.add(makespan >= end)
    model.cp.minimize(makespan)
    if best is not None:
        _hint(model, best, makespan)
    solver = _solver(options)
    status = solver.solve(model.cp)
    if status == cp_model.INFEASIBLE:
        if not ask_why:
            return Answer(None, bound)
        return Answer(None, bound, _least_shortages(problem, allowed, together, caps, options))
    proved = max(bound, round(solver.best_objective_bound)) if status != cp_model.UNKNOWN else bound
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return Answer(None, proved)
    return Answer(_lanes(model, solver), proved)


def _solver(options: SearchOptions) -> Any:
    from ortools.sat.python import cp_model

    solver = cp_model.CpSolver()
    solver.parameters.num_workers = options.workers
    solver.parameters.random_seed = options.seed
    solver.parameters.max_time_in_seconds = options.seconds
    solver.parameters.max_deterministic_time = options.effort
    return solver


def _horizon(problem: Problem, best: Timed | None) -> int:
    """An upper bound on every useful end: the known schedule, or everything one after the other, all ways included."""
    if best is not None:
        return best.makespan
    sorts = problem.machine.topology.sorts()
    ways = (
        max((speed.delay_ns(buffer.bytes, hops) for speed, hops in sorts), default=0)
        for buffer in problem.tasks.buffers
        if buffer.readers
    )
    return sum(map(max, problem.durations)) + sum(ways)


def _build(problem: Problem, allowed: Sequence[Task], together: bool, caps: Caps, horizon: int, *, soft: bool) -> Model:
    from ortools.sat.python import cp_model

    cp = cp_model.CpModel()
    windows = zip(*_windows(problem, allowed), strict=True)
    starts = [cp.new_int_var(head, max(head, horizon - tail), "") for head, tail in windows]
    model = Model(cp, problem, allowed, caps, horizon, starts, [], [], {})
    pool = not together and not caps.any and _is_pool(problem, allowed)
    _place(model, together, pool)
    _separate(model, pool)
    _follow(model, pool)
    if can_be_ordered(problem, allowed, together, caps):
        _keep_ascending(model)
    if soft:
        _add_slack(model)
    if caps.live is not None:
        _cap_live(model)
    if caps.bytes is not None:
        add_bytes(model)
    return model


def _windows(problem: Problem, allowed: Sequence[Task]) -> tuple[list[int], list[int]]:
    """Earliest starts, and ticks from the start of a task to the end of the step at least."""
    units = [row[0] if len(row) == 1 else NONE for row in allowed]
    if NONE not in units:
        early, late = heads_and_tails(problem, units)
    least = [min(row[unit] for unit in where) for row, where in zip(problem.durations, allowed, strict=True)]
    if NONE in units:
        before = [[(other, 0) for other, _ in problem.tasks.dependencies(task)] for task in range(len(least))]
        early, late = heads(least, before), tails(least, before)
    return early, [tail + ticks for tail, ticks in zip(late, least, strict=True)]


def _is_pool(problem: Problem, allowed: Sequence[Task]) -> bool:
    """All tasks may run on all units, which are alike, and nothing takes time to move."""
    units = len(problem.machine.units)
    every = all(len(row) == units for row in allowed)
    return every and moves_are_free(problem) and all(min(row) == max(row) for row in problem.rows)


def _place(model: Model, together: bool, pool: bool) -> None:
    cp, shared = model.cp, dict[int, dict[int, Any]]()
    for index, where in enumerate(model.allowed):
        stage = model.problem.tasks.tasks[index].id.stage
        if pool or len(where) == 1:
            literals: dict[int, Any] = {where[0]: True}
        elif together and stage in shared:
            literals = shared[stage]
        else:
            literals = {unit: cp.new_bool_var("") for unit in where}
            cp.add_exactly_one(literals.values())
            shared[stage] = literals
        row = model.problem.durations[index]
        ticks = row[where[0]] if len(literals) == 1 else sum(row[unit] * lit for unit, lit in literals.items())
        model.on.append(literals)
        end = model.start[index] + ticks
        if len(literals) > 1 and model.caps.any:  # intervals of state that it makes need a variable
            variable = cp.new_int_var(0, model.horizon, "")
            cp.add(variable == end)
            end = variable
        model.end.append(end)


def _separate(model: Model, pool: bool) -> None:
    """One task at a time on a unit."""
    cp, units = model.cp, len(model.problem.machine.units)
    lanes: list[list[Any]] = [[] for _ in range(units)]
    every = []
    for index, literals in enumerate(model.on):
        for unit, literal in literals.items():
            ticks = model.problem.durations[index][unit]
            if literal is True:
                interval = cp.new_fixed_size_interval_var(model.start[index], ticks, "")
            else:
                interval = cp.new_optional_fixed_size_interval_var(model.start[index], ticks, literal, "")
            lanes[unit].append(interval)
            every.append(interval)
    if pool:
        cp.add_cumulative(every, [1] * len(every), units)
        return
    for lane in lanes:
        if len(lane) > 1:
            cp.add_no_overlap(lane)
    if any(len(literals) > 1 for literals in model.on):  # redundant, and often stronger than all lanes together
        least = [min(model.problem.durations[i][u] for u in row) for i, row in enumerate(model.on)]
        sizes = [cp.new_fixed_size_interval_var(start, t, "") for start, t in zip(model.start, least, strict=True)]
        cp.add_cumulative(sizes, [1] * len(sizes), units)


def _follow(model: Model, pool: bool) -> None:
    """Dependencies, with the way that the units of both ends imply."""
    graph, cp = model.problem.tasks, model.cp
    homes = at_homes(graph, range(len(graph.tasks)))
    for index, task in enumerate(graph.tasks):
        for other in task.after:
            cp.add(model.start[index] >= model.end[other])
        for buffer in task.reads:
            producer = graph.buffers[buffer].producer
            if producer != NONE:
                cp.add(model.start[index] >= model.end[producer])
            source = producer if producer != NONE else homes[graph.buffers[buffer].stage]
            if not pool and source != index:
                _travel(model, buffer, source, index, 0 if producer == NONE else model.end[producer])


def _travel(model: Model, buffer: int, source: int, target: int, left: Any) -> None:
    delays = Delays(model.problem)
    if model.on[source] is model.on[target]:
        return
    for here, sends in model.on[source].items():
        for there, gets in model.on[target].items():
            if here == there:
                continue
            both = [literal for literal in (sends, gets) if literal is not True]
            if not delays.joined(here, there):
                if both:
                    model.cp.add_bool_or([literal.negated() for literal in both])
                else:
                    delays.link(buffer, here, there)  # raises with the names of the units
            elif delay := delays.between(buffer, here, there):
                rule = model.cp.add(model.start[target] >= left + delay)
                if both:
                    rule.only_enforce_if(both)


def _keep_ascending(model: Model) -> None:
    last: dict[tuple[int, str, int], int] = {}
    tasks = model.problem.tasks.tasks
    for index in sorted(range(len(tasks)), key=lambda i: tasks[i].id.microbatch):
        task = tasks[index].id
        key = task.stage, task.kind, task.group
        if key in last:
            before = last[key]
            shared = model.on[index] is model.on[before] or model.allowed[index] == model.allowed[before]
            apart = len(model.allowed[index]) > 1 and model.on[index] is not model.on[before]
            model.cp.add(model.start[index] >= (model.start if apart or not shared else model.end)[before])
        last[key] = index


def _cap_live(model: Model) -> None:
    assert model.caps.live is not None
    cp = model.cp
    rows: list[list[Any]] = [[] for _ in model.caps.live]
    for slot in slots_of(model.problem):
        first = model.start[slot.forwards[0]]
        if len(slot.forwards) > 1:
            first = cp.new_int_var(0, model.horizon, "")
            for task in slot.forwards:
                cp.add(first <= model.start[task])
        last = cp.new_int_var(0, model.horizon, "")
        for task in slot.gradients:
            cp.add(last >= model.end[task])
        size = cp.new_int_var(0, model.horizon, "")
        for unit, literal in model.on[slot.forwards[0]].items():
            rows[unit].append(interval(cp, first, size, last, literal))
    for unit, (row, cap) in enumerate(zip(rows, model.caps.live, strict=True)):
        if row:
            cp.add_cumulative(row, [1] * len(row), cap + model.slack.get((unit, "live micro-batches"), 0))


def _add_slack(model: Model) -> None:
    sizes = sum(buffer.bytes for buffer in model.problem.tasks.buffers)
    for unit in range(len(model.problem.machine.units)):
        if model.caps.live is not None:
            most = len(model.problem.tasks.tasks)
            model.slack[unit, "live micro-batches"] = model.cp.new_int_var(0, most, "")
        if model.caps.bytes is not None and model.caps.bytes[unit] is not None:
            model.slack[unit, "bytes"] = model.cp.new_int_var(0, 4 * sizes, "")


def _least_shortages(
    problem: Problem, allowed: Sequence[Task], together: bool, caps: Caps, options: SearchOptions
) -> tuple[Shortage, ...]:
    """By how much the caps are too small at least (least sum over the units): the solver's own answer."""
    from ortools.sat.python import cp_model

    model = _build(problem, allowed, together, caps, _horizon(problem, None), soft=True)
    model.cp.minimize(sum(model.slack.values()))
    solver = _solver(replace(options, effort=4 * options.effort))
    if solver.solve(model.cp) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return ()
    found = []
    for (unit, what), slack in model.slack.items():
        caps_row = caps.live if what != "bytes" else caps.bytes
        assert caps_row is not None
        cap = caps_row[unit]
        if cap is not None and (missing := solver.value(slack)):
            found.append((problem.machine.units[unit].name, cap + missing, cap, what))
    return tuple(found)


def _hint(model: Model, best: Timed, makespan: Any) -> None:
    model.cp.add_hint(makespan, best.makespan)
    seen: set[int] = set()
    for index, start in enumerate(model.start):
        model.cp.add_hint(start, best.starts[index])
        if len(model.on[index]) > 1:
            for unit, literal in model.on[index].items():
                if literal.index not in seen:
                    seen.add(literal.index)
                    model.cp.add_hint(literal, unit == best.units[index])


def _lanes(model: Model, solver: Any) -> list[list[int]]:
    """Tasks per unit by start; a pool's units are given out as tasks start."""
    units, count = len(model.problem.machine.units), len(model.start)
    times = [(solver.value(model.start[i]), solver.value(model.end[i]), i) for i in range(count)]
    lanes: list[list[int]] = [[] for _ in range(units)]
    until = [0] * units
    pool = all(len(row) == 1 for row in model.on) and any(len(row) > 1 for row in model.allowed)
    for start, end, index in sorted(times):
        if pool:
            unit = min((u for u in range(units) if until[u] <= start), key=lambda u: (-until[u], u))
        else:
            unit = next(u for u, literal in model.on[index].items() if literal is True or solver.value(literal))
        lanes[unit].append(index)
        until[unit] = end
    return lanes
