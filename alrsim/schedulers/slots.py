"""Static orders: the scheduler writes slots, the dispatcher fits losses and updates around them.

A slot is everything that a unit does for one stage, one phase and one micro-batch. Phase ``F`` is its forwards,
``B`` all its gradient tasks (B, or I and W, or C and G), ``I`` and ``W`` its split gradients alone.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from alrsim.schedule.schedule import Schedule
from alrsim.schedulers.dispatch import Key, Plan, dispatch
from alrsim.schedulers.placement import Placement
from alrsim.tasks.problem import Problem
from alrsim.tasks.token import Kind

Phase = Literal["F", "B", "I", "W"]

_KINDS: dict[Phase, tuple[Kind, ...]] = {"F": ("F",), "B": ("B", "I", "W", "C", "G"), "I": ("I",), "W": ("W",)}
_URGENT, _SLOTS, _GAPS = range(3)


class Slot(NamedTuple):
    """One stage, phase and micro-batch."""

    stage: int
    phase: Phase
    microbatch: int


def fixed_order(
    problem: Problem,
    placement: Placement,
    slots: Sequence[Sequence[Slot]],
    name: str,
    *,
    loss_gradients_last: bool = False,
) -> Schedule:
    """The slots of each unit in the given order; the loss module's tasks as soon as they are ready.

    Updates, and loss gradients where they come last, fill gaps and the end of a lane.

    Raises:
        ScheduleError: the orders of two units wait for each other.
    """
    position = {slot: rank for lane in slots for rank, slot in enumerate(lane)}
    phases = {(stage, phase) for stage, phase, _ in position}
    queue: list[int] = []
    key: list[Key] = []
    last = problem.tasks.stages
    for task in problem.tasks.tasks:
        stage, kind, microbatch, _ = task.id
        rank = None
        if stage < last:
            phase = next((p for p, kinds in _KINDS.items() if kind in kinds and (stage, p) in phases), None)
            rank = None if phase is None else position.get(Slot(stage, phase, microbatch))
        if rank is not None:
            queue.append(_SLOTS)
            key.append((rank,))
        elif stage == last and kind != "U" and not (kind == "B" and loss_gradients_last):
            queue.append(_URGENT)
            key.append((0 if kind == "B" else 1, microbatch))
        else:
            queue.append(_GAPS)
            key.append((microbatch,))
    return dispatch(problem, Plan(placement, queue, key, frozenset({_SLOTS})), name)
