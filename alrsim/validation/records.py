"""What a validation run writes down: host, predictions with time stamps, measured steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from statistics import median_low

from alrsim.errors import FileError
from alrsim.graph.stages import StageGraph
from alrsim.rules.options import RuleOptions
from alrsim.schedule.schedule import Schedule
from alrsim.simulation.engine import simulate
from alrsim.steps.chain import build_tasks
from alrsim.steps.method import parse_method
from alrsim.tasks.problem import Problem, Semantics
from alrsim.tasks.taskgraph import TaskGraph
from alrsim.timeline.memory import peak_memory
from alrsim.timeline.timeline import Span, Timeline
from alrsim.units import Bytes, Ns
from alrsim.validation.cells import Cell
from alrsim.validation.costs import Costs, costs_of, problem_of
from alrsim.validation.shares import time_shares


@dataclass(frozen=True)
class Host:
    """Where and with what a run was made.

    Attributes:
        kind: ``cpu`` or ``cuda``.
        device: Its name.
        cores: CPU cores that the process may use.
        threads: Per unit, inside a task.
        version: Of alrsim.
        commit: Of the source tree, if it is one.
        clock: How the units' clocks were aligned, and what is left of their difference, in words.
    """

    kind: str
    device: str
    cores: int
    torch: str
    version: str
    commit: str
    executor: str
    threads: int
    seed: int
    clock: str = ""


@dataclass(frozen=True)
class Prediction:
    """One cell, predicted; everything that it takes to predict it again.

    Attributes:
        at: When it was made, UTC.
        rule: Key of :data:`alrsim.rules.RULES`.
        model_options: Of the zoo.
        calibration: Digest of the schedule that was run to time its tasks: another than its own.
        peaks: Predicted peak bytes by unit.
        shares: Predicted time of all units by what they do (:func:`alrsim.validation.shares.time_shares`).
        terms: What the makespan is made of along the critical path, as the simulator says.
    """

    cell: Cell
    at: str
    rule: str
    options: RuleOptions
    model_options: tuple[tuple[str, str], ...]
    stages: StageGraph
    schedule: Schedule
    costs: Costs
    calibration: str
    makespan_ns: Ns
    peaks: Mapping[str, Bytes]
    shares: Mapping[str, Ns]
    terms: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """One measured step.

    Attributes:
        turn: Which repeat it is, from 0.
        at: When it ended, UTC.
        lanes: Per unit, start and end of its tasks in lane order: ``(start, end, start, end, ...)`` in ns.
        peaks: Peak bytes by unit.
        cpu_share: Share of their cores that the tasks had while they ran.
    """

    turn: int
    at: str
    makespan_ns: Ns
    lanes: tuple[tuple[Ns, ...], ...]
    peaks: Mapping[str, Bytes]
    shares: Mapping[str, Ns]
    cpu_share: float = 1.0
    flags: tuple[str, ...] = ()


def now() -> str:
    """The time of day, UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def problem_again(one: Prediction) -> Problem:
    """The problem on the recorded costs, its tasks built by the rule again."""
    return problem_of(one.costs, build_tasks(one.stages, one.rule, one.options), where=one.cell.name)


def predicted(draft: Prediction, problem: Problem) -> Prediction:
    """Fill in what the simulator says of a prediction's problem."""
    timeline = simulate(problem, draft.schedule, semantics=draft.costs.semantics)
    terms = timeline.facts.to_json().get("terms_ns", ())
    return replace(
        draft,
        makespan_ns=timeline.makespan,
        peaks=peak_memory(timeline),
        shares=time_shares(problem.tasks, timeline),
        terms=tuple(terms),
    )


def blank_prediction(
    cell: Cell,
    at: str,
    options: RuleOptions,
    model_options: tuple[tuple[str, str], ...],
    stages: StageGraph,
    schedule: Schedule,
    problem: Problem,
    semantics: Semantics,
    calibration: str,
) -> Prediction:
    """A prediction whose times have not been asked for yet."""
    costs, rule = costs_of(problem, semantics), parse_method(cell.method).rule
    return Prediction(cell, at, rule, options, model_options, stages, schedule, costs, calibration, 0, {}, {})


def step_of(turn: int, schedule: Schedule, tasks: TaskGraph, timeline: Timeline) -> Step:
    """What is kept of a measured timeline."""
    spans = {span.task: span for span in timeline.spans}
    lanes = tuple(
        tuple(time for task in lane.tasks for time in (spans[task].start, spans[task].end)) for lane in schedule.lanes
    )
    flags, share = timeline.facts.flags or (), timeline.facts.cpu_share
    return Step(
        turn,
        now(),
        timeline.makespan,
        lanes,
        peak_memory(timeline),
        time_shares(tasks, timeline),
        1.0 if share is None else share,
        flags,
    )


def median_step(steps: Sequence[Step]) -> Step:
    """The step with the median makespan (of an even number: the faster of the two in the middle)."""
    ranked = sorted(steps, key=lambda one: (one.makespan_ns, one.turn))
    return ranked[(len(ranked) - 1) // 2]


def median_peaks(steps: Sequence[Step]) -> dict[str, Bytes]:
    """Median over the steps of every unit's peak (of an even number: the smaller of the two in the middle): when
    tasks of units overlap by chance, one step's peak is not the next one's."""
    return {unit: median_low(step.peaks.get(unit, 0) for step in steps) for unit in steps[0].peaks}


def timeline_of(one: Prediction, step: Step) -> Timeline:
    """The measured spans of a step as a timeline, without transfers and memory.

    Raises:
        FileError: not two times for every task of the schedule.
    """
    lanes = one.schedule.lanes
    if len(step.lanes) != len(lanes) or any(
        len(times) != 2 * len(lane.tasks) for times, lane in zip(step.lanes, lanes, strict=False)
    ):
        raise FileError("the measured times are not those of its schedule", where=one.cell.name)
    spans = [
        Span(task, lane.unit, times[2 * at], times[2 * at + 1])
        for lane, times in zip(lanes, step.lanes, strict=True)
        for at, task in enumerate(lane.tasks)
    ]
    units = tuple(lane.unit for lane in lanes)
    order = sorted(spans, key=lambda span: (span.start, units.index(span.unit), span.end))
    return Timeline("measured", one.schedule.digest, units, tuple(order))
