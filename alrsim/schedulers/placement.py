"""Where stages live: one unit for each stage, the loss module last. Parameters, updates and forwards stay there."""

from itertools import pairwise

from alrsim.cost.runs import even_runs
from alrsim.errors import ScheduleError
from alrsim.tasks.problem import Problem

Placement = tuple[int, ...]
"""Unit index per stage; the loss module is the entry after the last stage."""


def one_stage_per_unit(problem: Problem, name: str) -> Placement:
    """Stage s on unit s; a loss unit of its own is skipped while there are units enough.

    Raises:
        ScheduleError: more stages than units.
    """
    stages, units = problem.tasks.stages, len(problem.machine.units)
    if stages > units:
        raise ScheduleError(
            f"{name} places one stage on each unit: {stages} stages, {units} units",
            where=f"scheduler {name}",
            fix=f"cut the model into {units} stages (balanced:{units}), or use serial, list, lr-fixed or lr-free, "
            "which take any number of stages",
        )
    return problem.one_stage_each


def round_robin(problem: Problem, name: str) -> Placement:
    """Stage s on unit s modulo units.

    Raises:
        ScheduleError: the number of stages is not a multiple of the number of units, or only once as many.
    """
    stages, units = problem.tasks.stages, len(problem.machine.units)
    if stages % units or stages < 2 * units:
        raise ScheduleError(
            f"{name} places the same number of chunks, at least 2, on each unit: {stages} stages, {units} units",
            where=f"scheduler {name}",
            fix=f"cut the model into {2 * units} or {3 * units} stages (balanced:{2 * units}), or use 1f1b",
        )
    return problem.with_loss([stage % units for stage in range(stages)])


def v_shape(problem: Problem, name: str) -> Placement:
    """Two chunks for each unit, down and up again: stages r and 2p - 1 - r on unit r.

    Raises:
        ScheduleError: the number of stages is not twice the number of units.
    """
    stages, units = problem.tasks.stages, len(problem.machine.units)
    if stages != 2 * units:
        raise ScheduleError(
            f"{name} places two chunks on each unit in the shape of a V: {stages} stages, {units} units",
            where=f"scheduler {name}",
            fix=f"cut the model into {2 * units} stages (balanced:{2 * units})",
        )
    return problem.with_loss([min(stage, 2 * units - 1 - stage) for stage in range(stages)])


def contiguous_blocks(problem: Problem) -> Placement:
    """Runs of neighbouring stages, one run for each unit in machine order; with units enough, one stage each.

    The slowest unit is as fast as possible (exact dynamic programme over the durations of all tasks of a stage on
    each unit, the loss module's on its unit); among those the sum of squared loads is smallest.
    """
    stages = problem.tasks.stages
    if stages <= len(problem.machine.units):
        return problem.one_stage_each
    loads = stage_loads(problem)
    extra = [0] * len(loads)
    for unit, row in enumerate(loads):
        if problem.loss_unit is None:
            row[stages - 1] += row[stages]
        elif problem.loss_unit == unit:
            extra[unit] = row[stages]
    starts = even_runs([row[:stages] for row in loads], extra, empty=True)
    placed = [unit for unit, (first, last) in enumerate(pairwise([*starts, stages])) for _ in range(first, last)]
    return problem.with_loss(placed)


def stage_loads(problem: Problem) -> list[list[int]]:
    """``loads[unit][stage]``: ticks of all tasks of a stage (the loss module last) if they ran on that unit."""
    units = len(problem.machine.units)
    loads = [[0] * (problem.tasks.stages + 1) for _ in range(units)]
    for task, row in zip(problem.tasks.tasks, problem.durations, strict=True):
        for unit in range(units):
            loads[unit][task.id.stage] += row[unit]
    return loads


def depth(problem: Problem, placement: Placement) -> int:
    """Rows of the pipeline: the stages, and the loss module where it has a unit of its own."""
    return problem.tasks.stages + (placement[-1] not in placement[:-1])
