"""Task times that a profile's calibration section holds, and the costs of a task graph looked up in them.

A time is found by what the task does: the digest of its stage's operators and sizes, its kind, the micro-batch's
samples, the copies stacked in it, the options of its rule and the formats. Other samples or copies are interpolated,
and said so.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from statistics import median
from typing import Any

from alrsim.cost.calibrated import topology_of
from alrsim.cost.costs import HostLoad, LinkFit, MeasuredCosts
from alrsim.cost.curve_fit import How, interpolate, left_out_error
from alrsim.graph.stages import Stage, StageGraph
from alrsim.hardware.calibration import (
    Calibration,
    RooflineSection,
    Row,
    TableSection,
    format_rows,
    parse_rows,
)
from alrsim.hardware.precision import PrecisionPlan
from alrsim.tasks.problem import ContentionModel, CostKey, Problem, cost_key
from alrsim.tasks.taskgraph import Task, TaskGraph

WORDS = (
    "baseline",
    "scope",
    "reduction",
    "noise",
    "input_code",
    "noise_code",
    "weight_noise",
    "loss_gradient",
    "loss_update",
    "first_input_gradient",
    "optimizer",
    "segments",
    "exact_head",
)
"""Options of a rule that change what a task does. Micro-batches, copies and groups are no such options: samples and
copies of a task are in its row."""


BP_WORDS = ("loss_gradient", "loss_update", "first_input_gradient", "optimizer")
"""Those that rules without noise read."""


@dataclass(frozen=True)
class Sought:
    """What a task graph was made from.

    Attributes:
        options: Of its rule; a dataclass with the fields that :data:`WORDS` names and ``precision``.
    """

    stages: StageGraph
    rule: str
    options: Any


def stage_digest(stages: StageGraph, index: int) -> str:
    """What a stage computes, whatever the size of the micro-batch: its operators, parameters and MACs per sample.

    The loss module (index ``len(stages)``) has a digest, too.
    """
    stage: Stage = stages.loss if index == len(stages.stages) else stages.stages[index]
    batch = max(1, stages.batch)
    work = stage.forward
    what = (
        stage.ops or (stage.name,),
        stage.parameters,
        work.macs // batch,
        work.elementwise // batch,
        stage.linear,
        index == 0,
    )
    return hashlib.sha256(repr(what).encode()).hexdigest()[:12]


def option_words(rule: str, options: Any) -> str:
    """The options that change what a task does, where they are not the default: ``noise=sign reduction=accumulate``."""
    known = WORDS if rule in ("lr", "segments") else BP_WORDS
    defaults = {field.name: field.default for field in fields(options)}
    said = ((name, getattr(options, name)) for name in known)
    return " ".join(f"{name}={_word(value)}" for name, value in said if value != defaults[name])


def _word(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def format_words(plan: PrecisionPlan) -> str:
    """``fp32 fp32 fp32 regenerated``: parameters, activations, saved, noise."""
    return " ".join((plan.parameters, plan.activations, plan.saved, plan.noise))


def rows_of(sought: Sought, tasks: TaskGraph, costs: MeasuredCosts) -> tuple[Row, ...]:
    """What was measured of a task graph, one row per key."""
    rows = {}
    for task in tasks.tasks:
        key = cost_key(task)
        if key not in rows:
            rows[key] = Row(
                stage_digest(sought.stages, task.id.stage),
                task.id.kind,
                int(key[3]),
                max(1, sought.stages.batch),
                task.copies,
                costs.isolated[key],
                costs.busy[key],
                round(costs.spread.get(key, 0.0), 4),
                costs.scratch.get(key, 0),
            )
    return tuple(rows.values())


def table_of(sought: Sought, rows: Iterable[Row], repeats: int) -> TableSection:
    """A section of rows measured under the same rule, options and formats."""
    return TableSection(
        model=sought.stages.name,
        rule=sought.rule,
        options=option_words(sought.rule, sought.options),
        formats=format_words(sought.options.precision),
        repeats=repeats,
        rows=format_rows(tuple(rows)),
    )


@dataclass(frozen=True)
class Found:
    """Costs of a task graph, as far as the calibration knows them.

    Attributes:
        costs: ``None`` if a task is unknown.
        missing: In words, the first task that is.
        error: Median of |interpolated / measured - 1| over inner sizes that were left out, where sizes were
            interpolated.
    """

    costs: MeasuredCosts | None
    missing: str = ""
    error: float | None = None


def look_up(calibration: Calibration, sought: Sought, tasks: TaskGraph) -> Found:
    """The costs of every task, or the first that is not known."""
    index = _index(calibration, sought)
    samples = max(1, sought.stages.batch)
    isolated: dict[CostKey, int] = {}
    busy: dict[CostKey, int] = {}
    spread: dict[CostKey, float] = {}
    scratch: dict[CostKey, int] = {}
    guessed: set[str] = set()
    errors: list[float] = []
    for key in dict.fromkeys(cost_key(task) for task in tasks.tasks):
        stage, kind, copies, clean = key
        rows = index.get((stage_digest(sought.stages, stage), kind, clean), ())
        if not rows:
            return Found(None, f"{kind} of stage {stage}")
        isolated[key], beside, how, off = _estimate(rows, samples, copies)
        busy[key] = max(isolated[key], beside)
        spread[key] = max(row.spread for row in rows)
        scratch[key] = round(max(row.scratch / (row.samples * row.copies) for row in rows) * samples * copies)
        if how != "measured":
            guessed.add(f"{samples} samples x {copies} copies {how}")
        if off is not None:
            errors.append(off)
    error = sorted(errors)[len(errors) // 2] if errors and guessed else None
    return Found(_costs(calibration, isolated, busy, spread, scratch, tuple(sorted(guessed))), error=error)


_HOWS: tuple[How, ...] = ("measured", "interpolated", "extrapolated")


def _estimate(rows: Sequence[Row], samples: int, copies: int) -> tuple[int, int, How, float | None]:
    """At every measured number of copies between the micro-batch sizes, then between the numbers of copies: times alone
    and busy, how they were found, and the error of sizes left out."""
    found = []
    for pick in ("alone", "busy"):
        levels: dict[int, list[tuple[float, float]]] = {}
        for row in rows:
            levels.setdefault(row.copies, []).append((float(row.samples), float(max(1, getattr(row, pick)))))
        at_copies = {level: interpolate(points, float(samples)) for level, points in levels.items()}
        time, how = interpolate([(float(level), time) for level, (time, _) in at_copies.items()], float(copies))
        hows = {how, *(one for level, (_, one) in at_copies.items() if how != "measured" or level == copies)}
        found.append((time, max(hows, key=_HOWS.index), levels))
    (alone, how, levels), (busy, _, _) = found
    errors = [error for points in levels.values() if (error := left_out_error(points)) is not None]
    return round(alone), round(busy), how, max(errors, default=None)


def _index(calibration: Calibration, sought: Sought) -> dict[tuple[str, str, bool], tuple[Row, ...]]:
    words, formats = option_words(sought.rule, sought.options), format_words(sought.options.precision)
    rows: dict[tuple[str, str, bool], dict[tuple[int, int], Row]] = {}
    for table in calibration.tables:
        if (table.rule, table.options, table.formats) == (sought.rule, words, formats):
            for row in parse_rows(table.rows):
                rows.setdefault((row.stage, row.kind, bool(row.clean)), {})[row.samples, row.copies] = row
    return {key: tuple(found.values()) for key, found in rows.items()}


def _costs(
    calibration: Calibration,
    isolated: Mapping[CostKey, int],
    busy: Mapping[CostKey, int],
    spread: Mapping[CostKey, float],
    scratch: Mapping[CostKey, int],
    notes: tuple[str, ...],
) -> MeasuredCosts:
    return MeasuredCosts(
        isolated=isolated,
        busy=busy,
        dispatch_overhead_ns=calibration.overhead_ns,
        links=tuple(
            LinkFit(
                link.source,
                link.target,
                link.send_ns,
                link.latency_ns,
                None if link.bandwidth_gb_per_s is None else link.bandwidth_gb_per_s * 1e9,
                link.error,
                link.points,
            )
            for link in calibration.links
        ),
        executor=calibration.executor,
        units=calibration.units,
        cores=calibration.cores,
        repeats=calibration.repeats,
        spread=spread,
        host=HostLoad(calibration.host.cpu_share, calibration.host.drift),
        scratch={key: size for key, size in scratch.items() if size},
        notes=notes,
    )


def executor_costs(calibration: Calibration) -> MeasuredCosts:
    """What is known of the executor whatever it runs: overhead, links, the host's load; no task times."""
    return _costs(calibration, {}, {}, {}, {}, ())


def slowdown(calibration: Calibration) -> float:
    """Busy over isolated time: of all measured tasks, else the median of the generic kernels (launches and copies left
    out)."""
    rows = [row for table in calibration.tables for row in parse_rows(table.rows)]
    if rows:
        return sum(row.busy for row in rows) / max(1, sum(row.alone for row in rows))
    ratios = [
        busy / alone
        for one in calibration.kernels
        if one.kernel not in ("launch", "copy")
        for _, alone, busy, _ in one.points
    ]
    return max(1.0, median(ratios)) if ratios else 1.0


def on_line(problem: Problem, line: RooflineSection) -> Problem:
    """Modelled durations as the tasks that were measured correct them."""
    units = problem.machine.units
    rows: dict[tuple[int, int], tuple[int, ...]] = {}
    durations = []
    for task, row in zip(problem.tasks.tasks, problem.durations, strict=True):
        launches = launches_of(task)
        key = (id(row), launches)
        if key not in rows:
            bodies = (time - launches * unit.launch_overhead_ns for time, unit in zip(row, units, strict=True))
            rows[key] = tuple(
                round(line.start_ns + line.launch_ns * launches + line.slope * max(0, body)) for body in bodies
            )
        durations.append(rows[key])
    return replace(problem, durations=tuple(durations))


def launches_of(task: Task) -> int:
    """Operators that a task launches, in the model of its cost."""
    return task.work.launches + task.encoded.launches


def with_executor(problem: Problem, costs: MeasuredCosts, slower: float = 1.0) -> Problem:
    """A problem with modelled durations on an executor that was measured: its overhead, links and contention.

    Args:
        slower: Busy over isolated time, the same for all tasks.
    """
    machine = replace(problem.machine, topology=topology_of(problem.machine, costs), shared_cores=costs.shared_cores)
    rows = {id(row): tuple(round(time * slower) for time in row) for row in problem.durations}
    busy = tuple(rows[id(row)] for row in problem.durations)
    model = ContentionModel(problem.durations, busy, costs.dispatch_overhead_ns, max(1, costs.units - 1))
    return replace(problem, machine=machine, durations=model.durations(), contention=model)
