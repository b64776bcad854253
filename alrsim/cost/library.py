"""Task times that a profile's calibration section holds, and the costs of a task graph looked up in them.

A time is found by what the task does: the digest of its stage's operators and sizes, its kind, the micro-batch's
samples, the copies stacked in it, the options of its rule and the formats. Other samples or copies are interpolated,
and said so.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from alrsim.cost.costs import HostLoad, LinkFit, MeasuredCosts
from alrsim.cost.fitting import interpolate, left_out_error
from alrsim.graph.stages import Stage, StageGraph
from alrsim.hardware.calibration import Calibration, LinkSection, Row, TableSection, format_rows, parse_rows
from alrsim.hardware.precision import PrecisionPlan
from alrsim.tasks.problem import CostKey, cost_key
from alrsim.tasks.taskgraph import TaskGraph

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
        found = _estimate(rows, samples, copies)
        isolated[key], busy[key], how = found.alone, max(found.alone, found.busy), found.how
        spread[key] = max(row.spread for row in rows)
        scratch[key] = round(max(row.scratch / (row.samples * row.copies) for row in rows) * samples * copies)
        if how != "measured":
            guessed.add(f"{samples} samples x {copies} copies {how}")
        if found.error is not None:
            errors.append(found.error)
    error = sorted(errors)[len(errors) // 2] if errors and guessed else None
    return Found(_costs(calibration, isolated, busy, spread, scratch, tuple(sorted(guessed))), error=error)


@dataclass(frozen=True, slots=True)
class _Estimate:
    alone: int
    busy: int
    how: str
    error: float | None


def _estimate(rows: Sequence[Row], samples: int, copies: int) -> _Estimate:
    """A row as measured, else between rows of as many copies, else of as many samples, else of their product."""
    for row in rows:
        if (row.samples, row.copies) == (samples, copies):
            return _Estimate(row.alone, row.busy, "measured", None)
    same = {row.samples: row for row in rows if row.copies == copies}
    if len(same) < 2:
        across = {row.copies: row for row in rows if row.samples == samples}
        if len(across) >= 2 or not same:
            size, table = copies, across
            if not across:
                size, table = samples * copies, {row.samples * row.copies: row for row in rows}
            return _between(table, size)
    return _between(same, samples)


def _between(table: Mapping[int, Row], size: int) -> _Estimate:
    alone = [(float(at), float(max(1, row.alone))) for at, row in table.items()]
    busy = [(float(at), float(max(1, row.busy))) for at, row in table.items()]
    first, how = interpolate(alone, float(size))
    second, _ = interpolate(busy, float(size))
    # A size that is the product of others may hit a measured product of other factors: that is not the same task.
    return _Estimate(round(first), round(second), "interpolated" if how == "measured" else how, left_out_error(alone))


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
        links=tuple(_fit(link) for link in calibration.links),
        executor=calibration.executor,
        units=calibration.units,
        cores=calibration.cores,
        repeats=calibration.repeats,
        spread=spread,
        host=HostLoad(calibration.host.cpu_share, calibration.host.drift),
        scratch={key: size for key, size in scratch.items() if size},
        notes=notes,
    )


def _fit(link: LinkSection) -> LinkFit:
    bandwidth = None if link.bandwidth_gb_per_s is None else link.bandwidth_gb_per_s * 1e9
    return LinkFit(link.source, link.target, link.send_ns, link.latency_ns, bandwidth, link.error, link.points)
