"""Neighbours that slow each other down: a task's speed follows how many other units are at work, moment by moment.

An item that takes ``stretch[k]`` ticks beside ``k`` units at work proceeds by ``dt / stretch[k]`` of itself in every
``dt`` ticks that they are ``k``. Whenever an item begins or ends, what is left of all running ones is settled and their
ends are set anew. So an item with idle neighbours takes exactly ``stretch[0]``, one beside busy neighbours exactly
``stretch[-1]``, and there is nothing to converge.

What is left is kept as an integer of 2^-64 parts: the result is deterministic, and its error is below one tick.
"""

from collections.abc import Generator, Sequence
from fractions import Fraction
from typing import cast

from simpy import Environment, Event

from alrsim.schedule.lower import Lowered, item_ticks
from alrsim.tasks.problem import ContentionModel

_WHOLE = 1 << 64


def stretches(model: ContentionModel, lowered: Lowered, overlap: Fraction = Fraction(1)) -> list[tuple[int, ...]]:
    """Ticks per item beside 0, 1, ... ``model.neighbours`` units at work, the executor's overhead included.

    Args:
        overlap: A fused pair takes ``overlap`` times the sum of both.
    """
    found = []
    for item, members in enumerate(lowered.tasks):
        alone, busy = (item_ticks(rows, members, lowered.unit[item], overlap) for rows in (model.alone, model.busy))
        fixed, steps = model.overhead * len(members), model.neighbours
        found.append(tuple(fixed + alone + ((busy - alone) * k + steps // 2) // steps for k in range(steps + 1)))
    return found


class Neighbours:
    """Runs items at the speed that their neighbours leave them.

    A unit is *idle* --hold--> *at work* (its item's end is set, and set anew whenever a neighbour begins or ends)
    --end--> *idle*.

    Args:
        stretch: Per item, ticks beside 0, 1, ... units at work; beyond the last entry nothing gets slower.
    """

    def __init__(self, env: Environment, stretch: Sequence[tuple[int, ...]], units: int) -> None:
        self._env, self._stretch = env, stretch
        self._left: dict[int, int] = {}
        self._pace: dict[int, int] = {}
        self._item: dict[int, int] = {}
        self._since: dict[int, int] = {}
        self._done: dict[int, Event] = {}
        self._turn = [0] * units

    def hold(self, unit: int, item: int) -> Generator[Event, None, None]:
        """The time that the item takes on its unit."""
        if not self._stretch[item][-1]:
            return
        self._settle()
        self._item[unit], self._left[unit], self._since[unit] = item, _WHOLE, int(self._env.now)
        self._done[unit] = done = self._env.event()
        self._set_ends()
        yield done

    def _settle(self) -> None:
        """Take off what has been done since the speeds last changed."""
        now = int(self._env.now)
        for unit, since in self._since.items():
            if now > since:
                self._left[unit] -= (now - since) * _WHOLE // self._pace[unit]
                self._since[unit] = now

    def _set_ends(self) -> None:
        beside = len(self._item) - 1
        for unit, item in self._item.items():
            table = self._stretch[item]
            pace = table[min(beside, len(table) - 1)]
            if self._pace.get(unit) == pace:
                continue
            self._pace[unit] = pace
            self._turn[unit] += 1
            wait = max(0, (self._left[unit] * pace + _WHOLE // 2) // _WHOLE)
            self._env.timeout(wait, (unit, self._turn[unit])).callbacks.append(self._end)

    def _end(self, event: Event) -> None:
        unit, turn = cast(tuple[int, int], event.value)
        if self._turn[unit] != turn:
            return  # the speed has changed since
        self._settle()
        del self._item[unit], self._left[unit], self._since[unit], self._pace[unit]
        self._turn[unit] += 1
        self._set_ends()
        self._done.pop(unit).succeed()
