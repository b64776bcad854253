"""Interleaved 1F1B (Narayanan et al. 2021, arXiv 2104.04473): v chunks on each unit, stage s on unit s mod p."""

from alrsim.schedule.schedule import Schedule
from alrsim.schedulers.placement import round_robin
from alrsim.schedulers.slots import Slot, fixed_order
from alrsim.tasks.problem import Problem


def interleaved(problem: Problem) -> Schedule:
    """Makespan (m v + p - 1) t_chunk where p divides m; unit r holds at most 2(p - r - 1) + (v - 1)p + 1 chunks.

    Micro-batches go in rounds of about p: a round passes through all chunks before the next round starts. Unit r
    runs 2(p - r - 1) + (v - 1) * round chunks ahead, then alternates.

    Raises:
        ScheduleError: the stages are not the same number, at least 2, for each unit.
    """
    placement = round_robin(problem, "interleaved-1f1b")
    units, microbatches = len(problem.machine.units), problem.tasks.microbatches
    chunks = problem.tasks.stages // units
    size, rounds = _rounds(microbatches, units)
    slots = []
    for unit in range(units):
        stages = [chunk * units + unit for chunk in range(chunks)]
        forwards = [Slot(s, "F", m) for group in rounds for s in stages for m in group]
        gradients = [Slot(s, "B", m) for group in rounds for s in reversed(stages) for m in group]
        ahead = min(2 * (units - unit - 1) + (chunks - 1) * size, len(forwards))
        lane = forwards[:ahead]
        for forward, gradient in zip(forwards[ahead:], gradients, strict=False):
            lane += [forward, gradient]
        slots.append(lane + gradients[len(forwards) - ahead :])
    return fixed_order(problem, placement, slots, "interleaved-1f1b")


def _rounds(microbatches: int, units: int) -> tuple[int, list[range]]:
    """The largest round, and the micro-batches of each: rounds of p or, where p does not divide m, a little more."""
    count = max(1, microbatches // units)
    ends = [microbatches * (index + 1) // count for index in range(count)]
    rounds = [range(first, last) for first, last in zip([0, *ends], ends, strict=False)]
    return max(len(group) for group in rounds), rounds
