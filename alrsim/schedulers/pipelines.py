"""Pipelines whose order is known before time starts, each by the paper that it is from; and the judge of all."""

from collections import deque
from collections.abc import Callable
from itertools import count

from alrsim.schedule.schedule import Schedule
from alrsim.schedulers.dispatch import schedule_of
from alrsim.schedulers.placement import depth, one_stage_per_unit, round_robin, v_shape
from alrsim.schedulers.slots import Phase, Slot, fixed_order
from alrsim.tasks.problem import Problem


def serial(problem: Problem) -> Schedule:
    """One lane with all tasks (the loss module's too, wherever the problem would put it); other lanes stay empty."""
    others: list[list[int]] = [[] for _ in problem.machine.units[1:]]
    return schedule_of(problem, [range(len(problem.tasks.tasks)), *others], "serial")


def gpipe(problem: Problem) -> Schedule:
    """All forwards, then all gradients, one stage on each unit (Huang et al. 2019, arXiv 1811.06965).

    Makespan (m + p - 1) t for p equal stages, m micro-batches and t = f + b + w; idle (p - 1) / (m + p - 1).

    Raises:
        ScheduleError: more stages than units.
    """
    phases: tuple[Phase, Phase] = ("F", "B")

    def lane(stage: int, _rows: int, microbatches: int) -> list[Slot]:
        return [Slot(stage, phase, microbatch) for phase in phases for microbatch in range(microbatches)]

    return _by_stage(problem, "gpipe", lane, loss_gradients_last=True)


def one_f_one_b(problem: Problem) -> Schedule:
    """1F1B: a gradient as early as it can be (PipeDream-Flush, Narayanan et al. 2021, arXiv 2006.09503).

    GPipe's makespan, but stage s of S holds at most min(S - s, m) micro-batches: it runs S - s forwards ahead, then
    alternates one gradient and one forward, then drains. A loss module on a unit of its own counts as one more stage.

    Raises:
        ScheduleError: more stages than units.
    """
    return _by_stage(problem, "1f1b", lambda stage, rows, count: _alternating(stage, rows, count, "B", count))


def zb_h1(problem: Problem) -> Schedule:
    """1F1B with the weight gradients moved into its bubbles (Qi et al. 2023, arXiv 2401.10241).

    Makespan m t + (p - 1)(f + b - w) for m >= p and w <= b, with p live micro-batches on every unit. Stage s lags its
    weight gradients s micro-batches behind its input gradients: 1F1B holds p - s micro-batches there, so s more may
    wait, and all stages hold p.

    Raises:
        ScheduleError: more stages than units.
    """

    def lane(stage: int, rows: int, microbatches: int) -> list[Slot]:
        late = [Slot(stage, "W", microbatch) for microbatch in range(max(0, microbatches - stage), microbatches)]
        return [*_alternating(stage, rows, microbatches, "I", stage), *late]

    return _by_stage(problem, "zb-h1", lane)


def _by_stage(
    problem: Problem, name: str, lane: Callable[[int, int, int], list[Slot]], *, loss_gradients_last: bool = False
) -> Schedule:
    """One stage on each unit; ``lane(stage, rows of the pipeline, micro-batches)`` is its order."""
    placement = one_stage_per_unit(problem, name)
    slots: list[list[Slot]] = [[] for _ in problem.machine.units]
    rows = depth(problem, placement)
    for stage in range(problem.tasks.stages):
        slots[placement[stage]] = lane(stage, rows, problem.tasks.microbatches)
    return fixed_order(problem, placement, slots, name, loss_gradients_last=loss_gradients_last)


def _alternating(stage: int, rows: int, microbatches: int, gradient: Phase, lag: int) -> list[Slot]:
    """Forwards ahead, then a gradient and a forward in turn; weight gradients ``lag`` micro-batches behind."""
    ahead = min(rows - stage, microbatches)
    lane = [Slot(stage, "F", microbatch) for microbatch in range(ahead)]
    for microbatch in range(microbatches):
        lane.append(Slot(stage, gradient, microbatch))
        if microbatch >= lag:
            lane.append(Slot(stage, "W", microbatch - lag))
        if microbatch + ahead < microbatches:
            lane.append(Slot(stage, "F", microbatch + ahead))
    return lane


def interleaved(problem: Problem) -> Schedule:
    """Interleaved 1F1B: v chunks on each unit, stage s on unit s mod p (Narayanan et al. 2021, arXiv 2104.04473).

    Makespan (m v + p - 1) t_chunk where p divides m; unit r holds at most 2(p - r - 1) + (v - 1)p + 1 chunks.

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
    groups = max(1, microbatches // units)
    ends = [microbatches * (index + 1) // groups for index in range(groups)]
    rounds = [range(first, last) for first, last in zip([0, *ends], ends, strict=False)]
    return max(len(group) for group in rounds), rounds


def zb_v(problem: Problem) -> Schedule:
    """Two chunks on each unit in the shape of a V, no bubble inside a unit (Qi et al. 2023, arXiv 2401.10241).

    Where f = b = w and m >= 2p every unit works 2 m t_chunk without a pause; unit r starts r steps late.

    The makespan is then 2 m t_chunk + (p - 1) f, and no unit holds more than 2p chunks. With fewer micro-batches the
    order for 2p - 1 of them is used, without those that do not exist.

    Raises:
        ScheduleError: not two stages for each unit.
    """
    placement = v_shape(problem, "zb-v")
    units, microbatches = len(problem.machine.units), problem.tasks.microbatches
    lanes = [_v_order(unit, units, max(microbatches, 2 * units - 1)) for unit in range(units)]
    slots = [[slot for slot in lane if slot.microbatch < microbatches] for lane in lanes]
    return fixed_order(problem, placement, slots, "zb-v")


def _v_order(unit: int, units: int, microbatches: int) -> list[Slot]:
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
