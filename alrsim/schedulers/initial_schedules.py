"""Heuristic schedules to start a search from, those that respect its freedom and its caps."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from time import monotonic

from alrsim.errors import ScheduleError
from alrsim.schedule.schedule import Schedule
from alrsim.schedulers.caps import Caps, Timed, caps_of, timed
from alrsim.schedulers.heft import heft_solution
from alrsim.schedulers.list_schedule import PRIORITIES, list_with
from alrsim.schedulers.lr_free import FREE_KINDS, lr_fixed, lr_free
from alrsim.schedulers.pipelines import gpipe, interleaved, one_f_one_b, serial, zb_h1, zb_v
from alrsim.schedulers.placement import Placement, contiguous_blocks
from alrsim.schedulers.search import SearchOptions
from alrsim.tasks.problem import Problem
from alrsim.tasks.token import Kind

_SPLIT = (zb_h1, zb_v)
_ANY = (serial, gpipe, one_f_one_b, interleaved)
_LR = (lr_fixed, lr_free)


def candidates(problem: Problem, options: SearchOptions) -> list[Timed]:
    """Every heuristic that applies, evaluated, those within freedom and caps; the fastest first.

    Ties: the order of the heuristics. On problems so large that the time limit is over before all were tried, the
    rest is left out, once one fits.
    """
    deadline = monotonic() + options.seconds
    caps = caps_of(problem, options)
    found: list[Timed] = []
    for made in tried(problem, _heuristics(problem, options, caps), options):
        if not made.shortages(caps):
            found.append(made)
        if found and monotonic() > deadline:
            break
    return sorted(found, key=lambda made: made.makespan)


Maker = Callable[[], Schedule]


def tried(problem: Problem, makers: Iterable[Maker], options: SearchOptions) -> Iterator[Timed]:
    """The schedules that can be made and stay inside the freedom, evaluated, each once."""
    seen: set[str] = set()
    for make in makers:
        try:
            schedule = make()
        except ScheduleError:
            continue  # it wants another number of stages, or links, or memory
        if schedule.digest not in seen and within(problem, schedule, options):
            seen.add(schedule.digest)
            yield timed(problem, schedule)


def within(problem: Problem, schedule: Schedule, options: SearchOptions) -> bool:
    """Whether a schedule stays inside the freedom that the options give."""
    if options.placement == "free":
        return True
    blocks = contiguous_blocks(problem) if options.placement in (None, "fixed") else None
    stage_unit: dict[int, int] = {}
    for task, unit in schedule.unit_of.items():
        if task.kind in FREE_KINDS and options.gradients == "free":
            continue
        home = stage_unit.setdefault(task.stage, unit) if blocks is None else blocks[task.stage]
        pinned = problem.loss_unit if blocks is None and task.stage == problem.tasks.stages else None
        if unit != home or (pinned is not None and unit != pinned):
            return False
    return True


def _heuristics(problem: Problem, options: SearchOptions, caps: Caps) -> Iterator[Maker]:
    kinds: set[Kind] = {task.id.kind for task in problem.tasks.tasks}
    for scheduler in (*_ANY, *(_SPLIT if {"I", "W"} <= kinds else ()), *(_LR if "G" in kinds else ())):
        yield partial(scheduler, problem)
    for placement in placements(problem, options):
        for priority in PRIORITIES:
            for one in _capped(problem, caps):
                yield partial(list_with, problem, placement, priority, one)
    if options.placement in ("stages", "free"):
        yield lambda: heft_solution(problem, SearchOptions(placement=options.placement, memory=False)).schedule


def _capped(problem: Problem, caps: Caps) -> Iterator[Caps]:
    """The caps, and without any also 1F1B's: fewer live micro-batches often make a better greedy order."""
    yield caps
    units = len(problem.machine.units)
    chunks = max(1, -(-problem.tasks.stages // units))
    if caps.live is None and caps.bytes is None and problem.tasks.microbatches > units:
        yield Caps((units * chunks,) * units)


def placements(problem: Problem, options: SearchOptions) -> list[Placement]:
    """Blocks; where stages may move also round robin, a V, and everything on the fastest unit."""
    blocks = contiguous_blocks(problem)
    if options.placement in (None, "fixed"):
        return [blocks]
    units, stages = len(problem.machine.units), problem.tasks.stages
    if stages <= units:
        return [blocks]
    turns = problem.with_loss([stage % units for stage in range(stages)])
    period = 2 * units
    vee = problem.with_loss([min(stage % period, period - 1 - stage % period) for stage in range(stages)])
    return list(dict.fromkeys([blocks, turns, vee]))
