"""Say why a schedule deadlocks: the cycle of tasks that wait for each other, and the lanes around it."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from alrsim.errors import DeadlockError
from alrsim.schedule.lower import Lowered
from alrsim.tasks.problem import Problem
from alrsim.tasks.token import NONE

_AROUND = 4
"""Tokens printed on either side of a marked one."""


def order_items(lowered: Lowered) -> tuple[list[int], list[int]]:
    """The items in an order in which they can run, and those that can never run (empty without a deadlock)."""
    before = predecessors(lowered)
    waiting = [len(items) for items in before]
    after: list[list[int]] = [[] for _ in before]
    for item, items in enumerate(before):
        for other in items:
            after[other].append(item)
    order = [item for item, count in enumerate(waiting) if count == 0]
    for item in order:  # grows while it is walked
        for other in after[item]:
            waiting[other] -= 1
            if waiting[other] == 0:
                order.append(other)
    return order, [item for item, count in enumerate(waiting) if count]


def predecessors(lowered: Lowered) -> list[list[int]]:
    """What each item waits for: its lane neighbour, plain orders, and the sources of its messages."""
    before = [list(items) for items in lowered.preds]
    for message in lowered.messages:
        if message.source != NONE:
            for reader in message.readers:
                before[reader].append(message.source)
    for lane in lowered.lanes:
        for first, second in pairwise(lane):
            before[second].append(first)
    return before


def explain_deadlock(problem: Problem, lowered: Lowered, stuck: Iterable[int]) -> DeadlockError:
    """The error for items that can never run.

    Every lane that is stuck waits, at its first stuck item, for an item of another lane; following those heads
    ends in a cycle of at most two items for each lane.
    """
    cycle = _cycle(lowered, set(stuck))
    path = [_token(problem, lowered, item) for item, _ in cycle]
    lines = [f"the lanes wait for each other: {' -> '.join([*path, path[0]])}"]
    for position, (item, reason) in enumerate(cycle):
        other = cycle[(position + 1) % len(cycle)][0]
        units = problem.machine.units
        where, there = units[lowered.unit[item]].name, units[lowered.unit[other]].name
        waits = f"{path[position]} on {where} waits for {_token(problem, lowered, other)} on {there}"
        lines.append(f"  {waits}, {reason or _data_reason(problem, lowered, item, other)}")
    marked = {item for item, _ in cycle}
    lines += [f"  {line}" for line in _lanes(problem, lowered, marked)]
    return DeadlockError("\n".join(lines), where="schedule", fix="move one of the marked tasks in its lane")


def _cycle(lowered: Lowered, stuck: set[int]) -> list[tuple[int, str]]:
    """``(item, reason)`` in waiting order; an empty reason means data or plain order."""
    heads = {lane: next((i for i in items if i in stuck), NONE) for lane, items in enumerate(lowered.lanes)}
    sources = {lane: _stuck_source(lowered, head, stuck) for lane, head in heads.items() if head != NONE}
    lane, seen = min(sources), []
    while lane not in seen:
        seen.append(lane)
        lane = lowered.unit[sources[lane]]
    cycle: list[tuple[int, str]] = []
    for member in seen[seen.index(lane) :]:
        head, source = heads[member], sources[member]
        cycle.append((head, ""))
        if source != heads[lowered.unit[source]]:
            cycle.append((source, "which is before it in the lane"))
    return cycle


def _stuck_source(lowered: Lowered, head: int, stuck: set[int]) -> int:
    candidates = [other for other in lowered.preds[head] if other in stuck]
    candidates += [lowered.messages[m].source for m in lowered.needs[head] if lowered.messages[m].source in stuck]
    return min(candidates)


def _token(problem: Problem, lowered: Lowered, item: int) -> str:
    return "+".join(str(problem.tasks.tasks[task].id) for task in lowered.tasks[item])


def _data_reason(problem: Problem, lowered: Lowered, item: int, other: int) -> str:
    buffers, members = problem.tasks.buffers, set(lowered.tasks[other])
    for task in lowered.tasks[item]:
        for index in problem.tasks.tasks[task].reads:
            if buffers[index].producer in members:
                return f"whose {buffers[index].name} it reads"
    return "which the rule puts before it"


def _lanes(problem: Problem, lowered: Lowered, marked: set[int]) -> list[str]:
    width = max(len(unit.name) for unit in problem.machine.units)
    return [
        f"{unit.name.rjust(width)}: {' '.join(_cells(problem, lowered, lane, marked))}"
        for unit, lane in zip(problem.machine.units, lowered.lanes, strict=True)
    ]


def _cells(problem: Problem, lowered: Lowered, lane: Sequence[int], marked: set[int]) -> list[str]:
    """The tokens around the marks (or the first few), with dots for what is left out."""
    at = [position for position, item in enumerate(lane) if item in marked] or [_AROUND]
    shown = sorted({p for mark in at for p in range(mark - _AROUND, mark + _AROUND + 1) if 0 <= p < len(lane)})
    cells: list[str] = []
    before = NONE
    for position in shown:
        if position != before + 1:
            cells.append("...")
        token = _token(problem, lowered, lane[position])
        cells.append(f"{token} <-- here" if lane[position] in marked else token)
        before = position
    return [*cells, "..."] if before + 1 < len(lane) else cells
