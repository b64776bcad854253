"""Simulate a step of equal micro-batches that is kept as columns."""

import hashlib
from functools import cache

import numpy as np

from alrsim.schedule.lowered_columns import ColumnProblem, LaneColumns, lower_columns
from alrsim.schedule.schedule import Lane, Schedule
from alrsim.simulation.engine import simulate
from alrsim.simulation.fast import run_columns
from alrsim.tasks.expand import expand
from alrsim.tasks.problem import Problem, Semantics
from alrsim.timeline.facts import Facts
from alrsim.timeline.timeline import SpanColumns, Timeline, deferred


def simulate_columns(problem: ColumnProblem, lanes: LaneColumns, *, semantics: Semantics = "link") -> Timeline:
    """Carry out lanes in simulated time, as :func:`alrsim.simulation.engine.simulate` does.

    Spans, transfers and memory points are written out when somebody looks at them; metrics need none of them.

    Raises:
        ScheduleError: lanes that do not fit the problem, or data that must move where no link is.
        DeadlockError: the lanes wait for each other.
        OptionError: where objects are asked for, and there are too many of them.
    """
    columns = lower_columns(problem, lanes, semantics)
    ends = run_columns(columns, semantics).ends[lanes.items]
    copies, rows = np.int32(columns.copies), columns.rows
    split = np.int32(rows * columns.copies)
    row = np.where(lanes.items < split, lanes.items // copies, lanes.items - split + np.int32(rows))
    starts = ends - problem.durations[row]
    names = tuple(unit.name for unit in problem.machine.units)

    @cache
    def whole() -> Timeline:
        return simulate(*written_out(problem, lanes), semantics=semantics, engine="fast")

    return deferred(
        SpanColumns(lanes.first, starts, ends),
        lambda _: whole().spans,
        lambda _: whole().transfers,
        lambda _: whole().memory,
        source="simulated",
        schedule_digest=digest(problem, lanes),
        units=names,
        cost_model=problem.cost_model,
        layer_units=tuple(names[unit] for unit in sorted(set(problem.units[:-1]))),
        time_unit=problem.time_unit,
        ticks_per_unit=problem.ticks_per_unit,
        facts=Facts(transfer_semantics=semantics, engine="fast"),
    )


def digest(problem: ColumnProblem, lanes: LaneColumns) -> str:
    """Hash of the lanes: equal digests are the same lanes of the same tasks, both kept as columns."""
    found = hashlib.sha256(" ".join(str(task.id) for task in problem.tasks.template.tasks).encode())
    found.update(str(problem.tasks.microbatches).encode())
    found.update(np.ascontiguousarray(lanes.first).data)
    found.update(np.ascontiguousarray(lanes.items).data)
    return f"columns-{found.hexdigest()[:16]}"


def written_out(problem: ColumnProblem, lanes: LaneColumns) -> tuple[Problem, Schedule]:
    """The same problem and schedule as objects.

    Raises:
        OptionError: too many of them.
    """
    graph, tasks, machine = expand(problem.tasks), problem.tasks, problem.machine
    each = [(int(ticks),) * len(machine.units) for ticks in problem.durations]
    durations = (*each[: tasks.rows] * tasks.microbatches, *each[tasks.rows :])
    ids = [tuple(map(tasks.task_id, lane.tolist())) for lane in np.split(lanes.items, lanes.first[1:-1])]
    order = Schedule(tuple(Lane(unit.name, lane) for unit, lane in zip(machine.units, ids, strict=True)), lanes.name)
    loss_unit = problem.units[-1]
    whole = Problem(graph, machine, durations, problem.cost_model, loss_unit, problem.time_unit, problem.ticks_per_unit)
    return whole, order
