"""GPipe (Huang et al. 2019, arXiv 1811.06965): all forwards, then all gradients, one stage on each unit."""

from alrsim.schedule.schedule import Schedule
from alrsim.schedulers.placement import one_stage_per_unit
from alrsim.schedulers.slots import Phase, Slot, fixed_order
from alrsim.tasks.problem import Problem

_PHASES: tuple[Phase, Phase] = ("F", "B")


def gpipe(problem: Problem) -> Schedule:
    """Makespan (m + p - 1) t for p equal stages, m micro-batches and t = f + b + w; idle (p - 1) / (m + p - 1).

    Raises:
        ScheduleError: more stages than units.
    """
    placement = one_stage_per_unit(problem, "gpipe")
    slots: list[list[Slot]] = [[] for _ in problem.machine.units]
    for stage in range(problem.tasks.stages):
        slots[placement[stage]] = [
            Slot(stage, phase, microbatch) for phase in _PHASES for microbatch in range(problem.tasks.microbatches)
        ]
    return fixed_order(problem, placement, slots, "gpipe", loss_gradients_last=True)
