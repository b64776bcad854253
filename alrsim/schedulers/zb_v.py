"""ZB-V (Qi et al. 2023, arXiv 2401.10241): two chunks on each unit in the shape of a V, no bubble inside a unit."""

from collections import deque
from itertools import count

from alrsim.schedule.schedule import Schedule
from alrsim.schedulers.placement import v_shape
from alrsim.schedulers.slots import Phase, Slot, fixed_order
from alrsim.tasks.problem import Problem


def zb_v(problem: Problem) -> Schedule:
    """Where f = b = w and m >= 2p every unit works 2 m t_chunk without a pause; unit r starts r steps late.

    The makespan is then 2 m t_chunk + (p - 1) f, and no unit holds more than 2p chunks. With fewer micro-batches the
    order for 2p - 1 of them is used, without those that do not exist.

    Raises:
        ScheduleError: not two stages for each unit.
    """
    placement = v_shape(problem, "zb-v")
    units, microbatches = len(problem.machine.units), problem.tasks.microbatches
    lanes = [unit_order(unit, units, max(microbatches, 2 * units - 1)) for unit in range(units)]
    slots = [[slot for slot in lane if slot.microbatch < microbatches] for lane in lanes]
    return fixed_order(problem, placement, slots, "zb-v")


def unit_order(unit: int, units: int, microbatches: int) -> list[Slot]:
    """One unit's slots for at least 2p - 1 micro-batches.

    Forwards of the first chunk until the first of the second one is back from the bottom of the V; then both in
    turn; then the second chunk's forward with its gradients; then one full pass through both chunks after the other.
    At the end input gradients go first, because others wait for them, and weight gradients fill the rest.
    """
    down, up = unit, 2 * units - 1 - unit
    lane: list[Slot] = []
    next_of = {(stage, phase): count() for stage in (down, up) for phase in ("F", "I")}
    owed: deque[Slot] = deque()

    def run(stage: int, phase: Phase) -> None:
        slot = Slot(stage, phase, next(next_of[stage, phase]))
        lane.append(slot)
        if phase == "I":
            owed.append(slot._replace(phase="W"))

    for _ in range(2 * (units - unit) - 1):
        run(down, "F")
    for _ in range(unit):
        run(up, "F")
        run(down, "F")
    for _ in range(units - unit):
        run(up, "F")
        run(up, "I")
        lane.append(owed.popleft())
    started = 2 * units - unit - 1
    for step in range(microbatches - units):
        if started + step < microbatches:
            run(down, "F")
        run(down, "I")
        lane.append(owed.popleft())
        run(up, "F")
        run(up, "I")
        lane.append(owed.popleft())
    for _ in range(unit):
        run(down, "I")
        run(up, "I")
    for _ in range(units - unit):
        run(down, "I")
        lane.append(owed.popleft())
    return [*lane, *owed]
