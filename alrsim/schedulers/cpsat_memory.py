"""Byte capacities for the exact scheduler: the lifetimes of :mod:`alrsim.timeline.memory` as cumulative constraints.

Every end below is only bounded from below, because a shorter life never hurts: the solver finds the true one.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from alrsim.schedule.lower import Delays, at_homes
from alrsim.tasks.taskgraph import Category
from alrsim.tasks.token import NONE

if TYPE_CHECKING:
    from alrsim.schedulers.cpsat_model import Model


def add_bytes(model: "Model") -> None:
    """No unit holds more bytes than its capacity."""
    assert model.caps.bytes is not None
    book = _Book(model)
    sums: dict[str, list[int]] = defaultdict(list)
    for index, buffer in enumerate(model.problem.tasks.buffers):
        term = bool(buffer.accumulator) and not buffer.resident
        if term:
            sums[buffer.accumulator].append(index)
        if buffer.bytes and not (term and buffer.category is Category.TEMP):
            book.plain(index)
    for terms in sums.values():
        book.terms(sorted(terms, key=lambda index: model.problem.tasks.buffers[index].rank))
    for index, task in enumerate(model.problem.tasks.tasks):
        if task.scratch > 0:  # a task that frees on its way is taken as if it did not: a cumulative holds no less
            for unit, here in model.on[index].items():
                book.hold(unit, task.scratch, model.start[index], model.end[index], here)
    for unit, cap in enumerate(model.caps.bytes):
        if cap is not None and book.rows[unit]:
            lives, demands = zip(*book.rows[unit], strict=True)
            model.cp.add_cumulative(lives, demands, cap + model.slack.get((unit, "bytes"), 0))


class _Book:
    """Intervals and demands per unit."""

    def __init__(self, model: "Model") -> None:
        self.model, self.delays = model, Delays(model.problem)
        self.rows: list[list[tuple[Any, int]]] = [[] for _ in model.problem.machine.units]
        graph = model.problem.tasks
        self.homes = at_homes(graph, range(len(graph.tasks)))

    def plain(self, index: int) -> None:
        """A buffer that is no waiting term of a sum: the original, and a copy on every unit that reads it."""
        buffer = self.model.problem.tasks.buffers[index]
        start, made = self._made(index)
        for unit, here in self._source(index).items():
            if buffer.resident:
                self.hold(unit, buffer.bytes, 0, self.model.horizon, here)
                continue
            end = self._end(made)
            for reader in buffer.readers:
                self._at_least(end, self.model.end[reader], here, self._is_on(reader, unit))
            self._sent(index, unit, here, made, end)
            self.hold(unit, buffer.bytes, start, end, here)
        for unit in range(len(self.rows)):
            copy = self._copy(index, unit, made)
            if copy is not None:
                there, end = copy
                for reader in buffer.readers:
                    self._at_least(end, self.model.end[reader], there, self._is_on(reader, unit))
                self.hold(unit, buffer.bytes, made, end, there)

    def terms(self, ranked: Sequence[int]) -> None:
        """The terms of one sum: a `temp` term waits where the sum is taken until all smaller ranks are in."""
        buffers = self.model.problem.tasks.buffers
        readers = sorted({reader for index in ranked for reader in buffers[index].readers})
        if not readers:
            so_far: Any = 0
            for index in ranked:
                start, made = self._made(index)
                so_far = self._end(so_far)
                self._at_least(so_far, made)
                if buffers[index].category is Category.TEMP and buffers[index].bytes:
                    for unit, here in self._source(index).items():
                        self.hold(unit, buffers[index].bytes, start, so_far, here)
            return
        places = sorted({unit for reader in readers for unit in self.model.on[reader]})
        reduced: dict[int, Any] = dict.fromkeys(places, 0)
        for index in ranked:
            self._term(index, readers, reduced)

    def _term(self, index: int, readers: Sequence[int], reduced: dict[int, Any]) -> None:
        buffer = self.model.problem.tasks.buffers[index]
        start, made = self._made(index)
        waits = buffer.category is Category.TEMP and bool(buffer.bytes)
        for place in reduced:
            reduced[place] = self._end(reduced[place])
            self._at_least(reduced[place], made)
            for unit, here in self._source(index).items():
                if unit != place and self.delays.joined(unit, place):
                    for reader in readers:
                        way = self.delays.between(index, unit, place)
                        self._at_least(reduced[place], made + way, here, self._is_on(reader, place))
        if not waits:
            return
        for unit, here in self._source(index).items():
            end = self._end(made)
            for reader in readers:
                if unit in reduced:
                    self._at_least(end, reduced[unit], here, self._is_on(reader, unit))
            self._sent(index, unit, here, made, end)
            self.hold(unit, buffer.bytes, start, end, here)
        for place in reduced:
            copy = self._copy(index, place, made)
            if copy is not None:
                there, end = copy
                self._at_least(end, reduced[place], there)
                self.hold(place, buffer.bytes, made, end, there)

    def _made(self, index: int) -> tuple[Any, Any]:
        producer = self.model.problem.tasks.buffers[index].producer
        return (0, 0) if producer == NONE else (self.model.start[producer], self.model.end[producer])

    def _source(self, index: int) -> dict[int, Any]:
        buffer = self.model.problem.tasks.buffers[index]
        return self.model.on[self.homes[buffer.stage] if buffer.producer == NONE else buffer.producer]

    def _is_on(self, task: int, unit: int) -> Any:
        return self.model.on[task].get(unit, False)

    def _end(self, least: Any) -> Any:
        end = self.model.cp.new_int_var(0, self.model.horizon, "")
        self.model.cp.add(end >= least)
        return end

    def _at_least(self, end: Any, least: Any, *literals: Any) -> None:
        if any(literal is False for literal in literals):
            return
        rule = self.model.cp.add(end >= least)
        rest = [literal for literal in literals if literal is not True]
        if rest:
            rule.only_enforce_if(rest)

    def _sent(self, index: int, unit: int, here: Any, made: Any, end: Any) -> None:
        """The original stays until the last transfer has taken it away."""
        for reader in self.model.problem.tasks.buffers[index].readers:
            for other, there in self.model.on[reader].items():
                if other != unit and self.delays.joined(unit, other):
                    self._at_least(end, made + self.delays.between(index, unit, other), here, there)

    def _copy(self, index: int, unit: int, made: Any) -> tuple[Any, Any] | None:
        """``(whether there is a copy on a unit, its end)``; it lives from the start of its transfer."""
        source = self._source(index)
        wanted = [
            self._is_on(reader, unit)
            for reader in self.model.problem.tasks.buffers[index].readers
            if self._is_on(reader, unit) is not False
        ]
        local = source.get(unit, False)
        if not wanted or local is True:
            return None
        there: Any = True
        if local is not False or not any(literal is True for literal in wanted):
            there = self.model.cp.new_bool_var("")
            for literal in wanted:
                self._imply(literal, local, there)
        end = self._end(made)
        for other, here in source.items():
            if other != unit and self.delays.joined(other, unit):
                self._at_least(end, made + self.delays.between(index, other, unit), here, there)
        return there, end

    def _imply(self, wanted: Any, local: Any, there: Any) -> None:
        clause = [there]
        if wanted is not True:
            clause.append(wanted.negated())
        if local is not False:
            clause.append(local)
        self.model.cp.add_bool_or(clause)

    def hold(self, unit: int, size: int, start: Any, end: Any, here: Any) -> None:
        """Bytes on a unit from ``start`` to ``end``, if ``here``."""
        cp, horizon = self.model.cp, self.model.horizon
        if here is False:
            return
        self.rows[unit].append((interval(cp, start, cp.new_int_var(0, horizon, ""), end, here), size))


def interval(cp: Any, start: Any, length: Any, end: Any, here: Any) -> Any:
    """From ``start`` to ``end``, if a literal or constant is true."""
    if here is True:
        return cp.new_interval_var(start, length, end, "")
    return cp.new_optional_interval_var(start, length, end, here, "")
