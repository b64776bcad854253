"""1F1B (PipeDream-Flush, Narayanan et al. 2021, arXiv 2006.09503): a gradient as early as it can be."""

from alrsim.schedule.schedule import Schedule
from alrsim.schedulers.placement import depth, one_stage_per_unit
from alrsim.schedulers.slots import Slot, fixed_order
from alrsim.tasks.problem import Problem


def one_f_one_b(problem: Problem) -> Schedule:
    """GPipe's makespan, but stage s of S holds at most min(S - s, m) micro-batches.

    Stage s runs S - s forwards ahead, then alternates one gradient and one forward, then drains. A loss module on
    a unit of its own counts as one more stage of the pipeline.

    Raises:
        ScheduleError: more stages than units.
    """
    placement = one_stage_per_unit(problem, "1f1b")
    slots: list[list[Slot]] = [[] for _ in problem.machine.units]
    stages, microbatches = problem.tasks.stages, problem.tasks.microbatches
    rows = depth(problem, placement)
    for stage in range(stages):
        ahead = min(rows - stage, microbatches)
        lane = [Slot(stage, "F", microbatch) for microbatch in range(ahead)]
        for microbatch in range(microbatches):
            lane.append(Slot(stage, "B", microbatch))
            if microbatch + ahead < microbatches:
                lane.append(Slot(stage, "F", microbatch + ahead))
        slots[placement[stage]] = lane
    return fixed_order(problem, placement, slots, "1f1b")
