"""Local search: change the critical path of a good schedule a little, keep what is not much worse, remember the best.

Moves: a task of the critical path goes before the one that it waits for in its lane, or a few places further ahead or
back; where placement is open, a task of the critical path goes to another unit. Every candidate is evaluated by
:mod:`alrsim.schedule.evaluate`. A candidate that is longer is accepted with a probability that falls to nothing
(simulated annealing, Kirkpatrick et al. 1983). All choices follow from the seed and the number of steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp
from random import Random
from time import monotonic

from alrsim.errors import ScheduleError
from alrsim.schedule.bounds import makespan_bound, placed_bound
from alrsim.schedule.evaluate import Arrays, compile_arrays, follow, run
from alrsim.schedule.lower import Lowered, lower
from alrsim.schedule.schedule import Schedule
from alrsim.schedulers.caps import Timed, caps_of, timed
from alrsim.schedulers.dispatch import schedule_of
from alrsim.schedulers.initial_schedules import candidates
from alrsim.schedulers.lr_free import FREE_KINDS
from alrsim.schedulers.search import SearchOptions, Solution
from alrsim.tasks.problem import Problem

TASKS_PER_EFFORT = 150_000
"""Tasks of all candidates together that an idle core evaluates in a second."""

_WARM, _MOVES_OF_UNITS = 0.02, 0.25
_FURTHEST = 8
_SMALL = 40  # below, the overhead of a candidate counts, not its tasks


@dataclass
class _Order:
    """Lanes of items on fixed units, ready to be evaluated.

    Attributes:
        lanes: Items per unit.
        task: Task per item.
        before: ``(item, delay)`` that each item waits for.
    """

    lanes: list[list[int]]
    task: list[int]
    arrays: Arrays
    before: list[list[tuple[int, int]]]


def local_search(problem: Problem) -> Schedule:
    """From the best of ``list``'s priorities, with the default effort."""
    return local_search_solution(problem, SearchOptions()).schedule


def local_search_solution(problem: Problem, options: SearchOptions) -> Solution:
    """Never slower than the schedule that it starts from (``options.base``).

    Raises:
        ScheduleError: no heuristic, or not the one asked for, fits freedom and caps.
    """
    start = start_of(candidates(problem, options), options)
    if start is None:
        raise ScheduleError(
            f"there is no {options.base or 'heuristic'} schedule within the placement and the caps that were asked for",
            where="scheduler local-search",
            fix="give it more freedom (placement), larger caps, or another base",
        )
    found = improve(problem, start, options, steps=steps_for(problem, options), deadline=monotonic() + options.seconds)
    return Solution(Schedule(found.schedule.lanes, "local-search"))


def start_of(known: Sequence[Timed], options: SearchOptions) -> Timed | None:
    """The schedule to start from: the fastest of the base's, else, where no base is asked for, the fastest of all."""
    wanted = next((made for made in known if made.schedule.name == (options.base or "list")), None)
    return next(iter(known), None) if wanted is None and options.base is None else wanted


def steps_for(problem: Problem, options: SearchOptions) -> int:
    """Candidates that the effort pays for."""
    return max(1, round(options.effort * TASKS_PER_EFFORT / max(_SMALL, len(problem.durations))))


def improve(problem: Problem, start: Timed, options: SearchOptions, *, steps: int, deadline: float) -> Timed:
    """Anneal from a schedule that is within the caps.

    Args:
        steps: Candidates to evaluate.
        deadline: By :func:`time.monotonic`.
    """
    caps, random = caps_of(problem, options), Random(options.seed)
    movable = _movable(problem, options)
    best = start
    bound = makespan_bound(problem) if movable else placed_bound(problem, start.units)
    state = _order_of(start.lowered)
    begun, ended, _ = run(state.arrays, follow(state.lanes, len(state.task)))
    now = start.makespan
    for step in range(steps):
        if best.makespan <= bound or monotonic() > deadline:
            break
        heat = max(1e-9, _WARM * best.makespan * (1 - step / steps) ** 2)
        candidate = _neighbour(problem, state, begun.tolist(), ended.tolist(), movable, random)
        if candidate is None:
            continue
        starts, ends, done = run(candidate.arrays, follow(candidate.lanes, len(candidate.task)))
        if done < len(candidate.task):
            continue
        longest = int(ends.max())
        if longest > now and random.random() >= exp((now - longest) / heat):
            continue
        if caps.any or longest < best.makespan:
            made = timed(problem, _schedule(problem, candidate.lanes, candidate.task))
            if made.shortages(caps):
                continue
            best = min(best, made, key=lambda found: found.makespan)
        state, begun, ended, now = candidate, starts, ends, longest
    return best


def _movable(problem: Problem, options: SearchOptions) -> frozenset[int]:
    """Tasks that may change their unit one by one."""
    if len(problem.machine.units) == 1:
        return frozenset()
    every = options.placement == "free"
    gradients = options.gradients == "free" and options.placement in (None, "fixed")
    return frozenset(
        index for index, task in enumerate(problem.tasks.tasks) if every or (gradients and task.id.kind in FREE_KINDS)
    )


def _schedule(problem: Problem, lanes: Sequence[Sequence[int]], task: Sequence[int]) -> Schedule:
    return schedule_of(problem, [[task[item] for item in lane] for lane in lanes], "search")


def _order_of(lowered: Lowered) -> _Order:
    arrays = compile_arrays(lowered)
    before: list[list[tuple[int, int]]] = [[] for _ in lowered.tasks]
    first, after, delay = arrays.first.tolist(), arrays.after.tolist(), arrays.delay.tolist()
    for item in range(len(before)):
        for edge in range(first[item], first[item + 1]):
            before[after[edge]].append((item, delay[edge]))
    return _Order([list(lane) for lane in lowered.lanes], [members[0] for members in lowered.tasks], arrays, before)


def _neighbour(
    problem: Problem,
    state: _Order,
    begun: Sequence[int],
    ended: Sequence[int],
    movable: frozenset[int],
    random: Random,
) -> _Order | None:
    """A changed copy; ``None`` if the move drawn is none.

    Args:
        begun: Start of every item. ``ended`` likewise.
        movable: Tasks that may change their unit.
    """
    path = _critical(state, begun, ended)
    if not path:
        return None
    item, waits_for_lane = random.choice(path)
    if state.task[item] in movable and random.random() < _MOVES_OF_UNITS:
        return _to_other_unit(problem, state, item, begun, random)
    if not waits_for_lane and random.random() < 0.7:
        stops = [entry for entry in path if entry[1]]
        if not stops:
            return None
        item = random.choice(stops)[0]
    unit = next(index for index, lane in enumerate(state.lanes) if item in lane)
    lane = list(state.lanes[unit])
    place = lane.index(item)
    target = place - 1 if random.random() < 0.6 else place + random.randint(-_FURTHEST, _FURTHEST)
    target = min(max(target, 0), len(lane) - 1)
    if target == place:
        return None
    lane.insert(target, lane.pop(place))
    return _Order([*state.lanes[:unit], lane, *state.lanes[unit + 1 :]], state.task, state.arrays, state.before)


def _critical(state: _Order, starts: Sequence[int], ends: Sequence[int]) -> list[tuple[int, bool]]:
    """A critical path from its end: ``(item, whether it waits only for the item before it in its lane)``."""
    previous = {item: other for lane in state.lanes for other, item in pairwise(lane)}
    item = max(range(len(ends)), key=lambda index: ends[index])
    path: list[tuple[int, bool]] = []
    while True:
        start = starts[item]
        data = next((other for other, delay in state.before[item] if ends[other] + delay == start), None)
        lane = previous.get(item)
        lane = lane if lane is not None and ends[lane] == start else None
        path.append((item, lane is not None and data is None))
        step = data if data is not None else lane
        if step is None or len(path) > len(ends):
            return path
        item = step


def _to_other_unit(problem: Problem, state: _Order, item: int, starts: Sequence[int], random: Random) -> _Order | None:
    """An item goes where it would start by its old time, on a unit drawn at random."""
    home = next(index for index, lane in enumerate(state.lanes) if item in lane)
    target = random.choice([unit for unit in range(len(state.lanes)) if unit != home])
    lanes = [[other for other in lane if other != item] for lane in state.lanes]
    place = sum(starts[other] < starts[item] for other in lanes[target])
    lanes[target].insert(place, item)
    try:
        return _order_of(lower(problem, _schedule(problem, lanes, state.task)))
    except ScheduleError:  # no link leads there
        return None
