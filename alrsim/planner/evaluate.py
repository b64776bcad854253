"""From a candidate to its problem, a schedule, and what the step costs: time, energy, memory."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, get_args

from alrsim.graph.stages import StageGraph
from alrsim.hardware.machine import Machine
from alrsim.planner.bounds import energy_bound, memory_bound, outline, time_bound, unit_powers
from alrsim.planner.candidate import Candidate, options_of
from alrsim.planner.sized_model import Source
from alrsim.rules.options import RuleOptions
from alrsim.schedule.proof import Proof
from alrsim.schedule.schedule import Schedule
from alrsim.schedulers import SCHEDULERS, SearchOptions
from alrsim.schedulers.caps import Caps, Timed, caps_of
from alrsim.schedulers.heft import heft_solution
from alrsim.schedulers.initial_schedules import Maker, tried
from alrsim.schedulers.list_schedule import list_with
from alrsim.schedulers.placement import Placement, contiguous_blocks
from alrsim.steps.chain import build_tasks, predict
from alrsim.steps.options import PredictionOptions
from alrsim.tasks.problem import CostModel, Problem, price
from alrsim.timeline.memory import peak_memory
from alrsim.timeline.metrics import busy
from alrsim.timeline.timeline import Timeline
from alrsim.units import Bytes, Ns

Target = Literal["step-time", "memory", "energy", "time-to-cosine"]
TARGETS: tuple[str, ...] = get_args(Target)

JUDGED = 2
"""Of a candidate's schedules so many are carried out with contended links, where only time counts."""

MOVABLE = ("stages", "free")
"""Placements by which stages may go to units as they please."""

DEFAULT_SEARCH = SearchOptions(placement="stages", gradients="free", effort=0.25)
"""Whole stages on any unit, LR gradients on any unit too."""


@dataclass(frozen=True)
class Setting:
    """What a plan is made for.

    Attributes:
        cost: Gives every task its duration on every unit.
        base: Options that all candidates share: optimizer, update, loss, formats.
        search: Freedom and caps, as the schedulers take them; effort is for the best few candidates.
        idle: Share of its power that an idle unit draws, for energy.
    """

    source: Source
    machine: Machine
    cost: CostModel
    cost_name: str
    target: Target = "step-time"
    base: RuleOptions = field(default_factory=RuleOptions)
    search: SearchOptions = DEFAULT_SEARCH
    prediction: PredictionOptions = field(default_factory=PredictionOptions)
    idle: float = 0.0

    def price(self, stages: StageGraph, rule: str, options: RuleOptions) -> Problem:
        """The tasks of a step under a rule, priced on the machine.

        Raises:
            OptionError: the rule refuses the stages or the options.
            ProfileError: a unit cannot compute in the format asked for.
        """
        tasks = build_tasks(stages, rule, options)
        return price(tasks, self.machine, options.precision, self.cost, name=self.cost_name)


@dataclass(frozen=True)
class Score:
    """What a step costs.

    Attributes:
        time: Ticks.
        energy: Joules; ``None`` where a unit's power is not known.
        memory: Most bytes live on a unit.
    """

    time: Ns
    energy: float | None
    memory: Bytes

    def of(self, target: Target) -> float:
        """The number that a target minimises."""
        if target == "energy":
            assert self.energy is not None, "refused before"
            return self.energy
        return self.memory if target == "memory" else self.time


@dataclass(frozen=True)
class Bounded:
    """A candidate with what it cannot beat.

    Attributes:
        bound: In the unit of the target: ticks, joules or bytes; no placement or order can beat it.
    """

    candidate: Candidate
    options: RuleOptions
    bound: float


@dataclass(frozen=True)
class Evaluated(Bounded):
    """A candidate with a schedule.

    Attributes:
        proof: What an exact solver proved of this schedule.
    """

    problem: Problem
    schedule: Schedule
    timeline: Timeline
    score: Score
    proof: Proof | None = None


@dataclass(frozen=True)
class Misfit(Bounded):
    """A candidate that no schedule tried fits into memory.

    Attributes:
        shortages: ``(unit, demand, capacity, what)`` of the schedule that came nearest.
        proved: An exact solver proved that none does.
    """

    shortages: tuple[tuple[str, int, int, str], ...]
    proved: bool = False

    @property
    def excess(self) -> float:
        """By how much the worst unit is too small, as demand over capacity."""
        return max((demand / max(1, capacity) for _, demand, capacity, _ in self.shortages), default=1.0)


def build_problem(setting: Setting, candidate: Candidate, options: RuleOptions, microbatches: int) -> Problem:
    """The tasks of so many micro-batches of a candidate."""
    stages = setting.source.stages(candidate.cut, candidate.microbatches)
    return setting.price(stages, candidate.rule, replace(options, microbatches=microbatches))


def bounded(setting: Setting, candidate: Candidate) -> Bounded:
    """The candidate's lower bound, without a schedule.

    Raises:
        OptionError: a combination that does not exist (discrete noise in front of a step function, say).
    """
    options = options_of(candidate, setting.base)
    problem = build_problem(setting, candidate, options, 1)
    found = outline(problem, candidate.microbatches, free=setting.search.placement == "free")
    if setting.target == "memory":
        return Bounded(candidate, options, memory_bound(found))
    time = time_bound(found)
    return Bounded(candidate, options, energy_bound(found, setting.idle, time) if setting.target == "energy" else time)


def score_of(setting: Setting, timeline: Timeline) -> Score:
    """Time, energy and memory of a timeline."""
    memory = max(peak_memory(timeline).values(), default=0)
    if any(unit.power_watts is None for unit in setting.machine.units):
        return Score(timeline.makespan, None, memory)
    powers, spent = unit_powers(setting.machine), busy(timeline)
    joules = sum(
        power * ((1 - setting.idle) * ticks + setting.idle * timeline.makespan)
        for power, ticks in zip(powers, spent.values(), strict=True)
    )
    return Score(timeline.makespan, joules * 1e-9, memory)


def evaluate(setting: Setting, found: Bounded) -> Evaluated | Misfit:
    """The best of a few heuristic schedules, within the units' memory."""
    problem = build_problem(setting, found.candidate, found.options, found.candidate.microbatches)
    caps = caps_of(problem, setting.search)
    if surely_fits(problem, caps):
        caps = replace(caps, bytes=None)
    fitting: list[Timed] = []
    misfits: list[Misfit] = []
    for makers in (_makers(problem, setting, caps, found.candidate.units), _lean_makers(problem, setting.search, caps)):
        for made in tried(problem, makers, setting.search):
            shortages = tuple(made.shortages(caps)) if caps.any else ()
            if shortages:
                misfits.append(Misfit(found.candidate, found.options, found.bound, shortages))
            else:
                fitting.append(made)
        if fitting:
            break
    else:
        none = Misfit(found.candidate, found.options, found.bound, ())
        return min(misfits, key=lambda one: one.excess, default=none)
    fitting.sort(key=lambda made: made.makespan)
    if setting.target in ("step-time", "time-to-cosine"):
        fitting = fitting[:JUDGED]
    judged = [judge(setting, found, problem, made.schedule) for made in fitting]
    if caps.bytes is not None:  # links that are contended let values live longer than the scheduler thought
        full = [(overfull(setting, one), one) for one in judged]
        judged = [one for shortages, one in full if not shortages]
        if not judged:
            short = (Misfit(found.candidate, found.options, found.bound, shortages) for shortages, _ in full)
            return min(short, key=lambda one: one.excess)
    return min(judged, key=lambda one: rank_key(setting, one))


def judge(
    setting: Setting, found: Bounded, problem: Problem, schedule: Schedule, proof: Proof | None = None
) -> Evaluated:
    """Carry a schedule out in simulated time."""
    timeline = predict(problem, schedule, setting.prediction)
    score = score_of(setting, timeline)
    return Evaluated(found.candidate, found.options, found.bound, problem, schedule, timeline, score, proof)


def overfull(setting: Setting, one: Evaluated) -> tuple[tuple[str, int, int, str], ...]:
    """``(unit, demand, capacity, "bytes")`` of every unit that holds more than it has."""
    if not setting.search.memory:
        return ()
    held = peak_memory(one.timeline)
    return tuple(
        (unit.name, held[unit.name], unit.memory_bytes, "bytes")
        for unit in setting.machine.units
        if unit.memory_bytes is not None and held[unit.name] > unit.memory_bytes
    )


def rank_key(setting: Setting, one: Evaluated) -> tuple[float, ...]:
    """Smaller is better: the target, then time, memory, energy, and the number of tasks."""
    score = one.score
    return (score.of(setting.target), score.time, score.memory, score.energy or 0.0, len(one.problem.durations))


def surely_fits(problem: Problem, caps: Caps) -> bool:
    """All buffers of the step together, and a copy of each, fit on the smallest unit."""
    least = min((cap for cap in caps.bytes or () if cap is not None), default=None)
    return least is None or 2 * sum(buffer.bytes for buffer in problem.tasks.buffers) <= least


def _lean_makers(problem: Problem, search: SearchOptions, caps: Caps) -> Iterator[Maker]:
    """Little memory, and where even that is too much, how much is missing."""
    units = len(problem.machine.units)
    one = Caps((1,) * units if caps.live is None else tuple(min(1, most) for most in caps.live))
    for placement in _spread(problem, search):
        for priority in ("depth-first", "backward-first"):
            yield partial(list_with, problem, placement, priority, one)
    yield partial(list_with, problem, contiguous_blocks(problem), "depth-first", Caps(caps.live))


def _makers(problem: Problem, setting: Setting, caps: Caps, given: tuple[int, ...] | None) -> Iterator[Maker]:
    units, stages = len(problem.machine.units), problem.tasks.stages
    kinds = {task.id.kind for task in problem.tasks.tasks}
    placements = [*([] if given is None else [problem.with_loss(given)]), contiguous_blocks(problem)]
    deep = Caps((units * max(1, -(-stages // units)),) * units, caps.bytes) if caps.live is None else caps

    if setting.target == "memory":
        yield from _lean_makers(problem, setting.search, caps)
    for placement in placements:
        yield partial(list_with, problem, placement, "critical-path", caps)
        yield partial(list_with, problem, placement, "backward-first", deep)
    usual = ("zb-h1", "zb-v") if "W" in kinds else ("lr-fixed", "lr-free") if "G" in kinds else ("1f1b", "gpipe")
    for name in usual:
        yield partial(SCHEDULERS[name].function, problem)
    if setting.search.placement in MOVABLE:
        unlike = any(min(row) != max(row) for row in problem.rows)
        if unlike or setting.search.placement == "free":
            options = SearchOptions(placement=setting.search.placement, memory=False)
            yield lambda: heft_solution(problem, options).schedule
        if unlike or setting.target == "energy":
            for unit in _unlike_units(problem):
                yield partial(list_with, problem, problem.with_loss([unit] * stages), "depth-first", caps)
        if setting.search.placement == "free":
            yield partial(SCHEDULERS["serial"].function, problem)


def _spread(problem: Problem, search: SearchOptions) -> Sequence[Placement]:
    """Contiguous blocks of equal work; with stages that may move, also those of equal resident bytes."""
    found = [contiguous_blocks(problem)]
    if search.placement in MOVABLE:
        units, stages = len(problem.machine.units), problem.tasks.stages
        sizes: Counter[int] = Counter()
        for buffer in problem.tasks.buffers:
            if buffer.resident:
                sizes[buffer.stage] += buffer.bytes
        load = [0] * units
        placed = [0] * stages
        for stage in sorted(range(stages), key=lambda index: -sizes[index]):  # largest first, to the emptiest unit
            unit = min(range(units), key=lambda index: (load[index], index))
            placed[stage] = unit
            load[unit] += sizes[stage]
        found.append(problem.with_loss(placed))
    return found


def _unlike_units(problem: Problem) -> list[int]:
    """One unit of every kind, the first one: units with the same durations are alike."""
    columns = list(zip(*problem.durations, strict=True))
    return [unit for unit, column in enumerate(columns) if columns.index(column) == unit]
