"""ZB-H1 (Qi et al. 2023, arXiv 2401.10241): 1F1B with the weight gradients moved into its bubbles."""

from alrsim.schedule.schedule import Schedule
from alrsim.schedulers.placement import depth, one_stage_per_unit
from alrsim.schedulers.slots import Slot, fixed_order
from alrsim.tasks.problem import Problem


def zb_h1(problem: Problem) -> Schedule:
    """Makespan m t + (p - 1)(f + b - w) for m >= p and w <= b, with p live micro-batches on every unit.

    Stage s lags its weight gradients s micro-batches behind its input gradients: 1F1B holds p - s micro-batches
    there, so s more may wait, and all stages hold p.

    Raises:
        ScheduleError: more stages than units.
    """
    placement = one_stage_per_unit(problem, "zb-h1")
    slots: list[list[Slot]] = [[] for _ in problem.machine.units]
    stages, microbatches = problem.tasks.stages, problem.tasks.microbatches
    rows = depth(problem, placement)
    for stage in range(stages):
        ahead = min(rows - stage, microbatches)
        lane = [Slot(stage, "F", microbatch) for microbatch in range(ahead)]
        for microbatch in range(microbatches):
            lane.append(Slot(stage, "I", microbatch))
            if microbatch >= stage:
                lane.append(Slot(stage, "W", microbatch - stage))
            if microbatch + ahead < microbatches:
                lane.append(Slot(stage, "F", microbatch + ahead))
        lane += [Slot(stage, "W", microbatch) for microbatch in range(max(0, microbatches - stage), microbatches)]
        slots[placement[stage]] = lane
    return fixed_order(problem, placement, slots, "zb-h1")
