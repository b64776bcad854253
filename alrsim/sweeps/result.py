"""What a sweep gave: the Pareto front, as table, JSON, CSV and picture."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from alrsim.documents import Document, Live
from alrsim.reports.parts import Parts, axes_or_new
from alrsim.reports.tables import plain_table, to_text
from alrsim.reports.timescale import scale_for
from alrsim.sweeps.pareto import pareto_front
from alrsim.sweeps.spec import Spec
from alrsim.sweeps.store import Result
from alrsim.units import format_bytes

SHOWN = 30
COLUMNS = ("makespan", "peak_memory_bytes", "cosine", "copies")


@dataclass(frozen=True)
class Front:
    """The results in one unit of time that fit into memory, and those of them that none of the others beats.

    Attributes:
        quality: ``cosine`` where every result has one, else ``copies``.
        best: Digests.
    """

    time_unit: str
    quality: str
    results: tuple[Result, ...]
    best: frozenset[str]


def fronts_of(results: Sequence[Result]) -> tuple[Front, ...]:
    """A front per unit of time: steps and nanoseconds cannot be compared."""
    fitting = [one for one in results if not one.failed and one.outcome["fits"]]
    found = []
    for unit in dict.fromkeys(one.outcome["time_unit"] for one in fitting):
        group = tuple(one for one in fitting if one.outcome["time_unit"] == unit)
        quality = "cosine" if all(one.outcome["cosine"] is not None for one in group) else "copies"
        points = [
            (one.outcome["makespan"], float(one.outcome["peak_memory_bytes"]), -quality_of(one, quality))
            for one in group
        ]
        found.append(Front(unit, quality, group, frozenset(group[index].digest for index in pareto_front(points))))
    return tuple(found)


def quality_of(result: Result, quality: str) -> float:
    """More is better: the cosine; or copies, of which exact gradients have no end."""
    value = result.outcome[quality]
    return float("inf") if value is None else float(value)


def quality_words(front: Front) -> str:
    """What stands on the axis, and why."""
    if front.quality == "cosine":
        return "predicted cosine with the true gradient"
    return "copies, for want of noise constants in the specification (quality:); exact gradients beat any number"


@dataclass(frozen=True)
class FrontSummary:
    """A Pareto front.

    Attributes:
        results: Configurations in this unit of time that fit into memory.
        best: Those of them that none of the others beats.
    """

    time_unit: str
    quality: str
    results: int
    best: int


@dataclass(frozen=True)
class SweepRow:
    """A configuration and what became of it.

    Attributes:
        configuration: Keywords of the call.
        error: One line; ``None`` if it did not fail.
        pareto: Whether it is on a front.
        outcome: Its numbers; empty if it failed.
    """

    digest: str
    configuration: Mapping[str, Any]
    error: str | None
    pareto: bool
    outcome: Mapping[str, Any]


@dataclass(frozen=True)
class SweepResult(Document):
    """All configurations of a sweep.

    Attributes:
        verb: What was called.
        file: Where the results are kept; empty: nowhere.
        axes: Keywords that tell configurations apart.
        spec: Live: the specification.
        found: Live: the results as they were recorded.
        fronts_found: Live: the fronts with their results.
    """

    kind: ClassVar[str] = "sweep"
    version: ClassVar[int] = 2

    verb: str
    file: str
    configurations: int
    failed: int
    axes: tuple[str, ...]
    fronts: tuple[FrontSummary, ...]
    results: tuple[SweepRow, ...]
    spec: Live = field(default=None, repr=False, compare=False)
    found: Live = field(default=None, repr=False, compare=False)
    fronts_found: Live = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        return f"SweepResult({self.verb}, {self.configurations} configurations, {self.failed} failed)"


def sweep_result(spec: Spec, results: Sequence[Result], target: str) -> SweepResult:
    """All configurations with their fronts; functions of somebody's own have none."""
    fronts = fronts_of(results) if spec.verb in ("compare", "plan") else ()
    best = frozenset(digest for front in fronts for digest in front.best)
    return SweepResult(
        spec.verb,
        target,
        len(results),
        sum(one.failed for one in results),
        tuple(axes_that_vary(spec)),
        tuple(FrontSummary(one.time_unit, one.quality, len(one.results), len(one.best)) for one in fronts),
        tuple(
            SweepRow(one.digest, dict(one.configuration), one.error or None, one.digest in best, dict(one.outcome))
            for one in results
        ),
        spec=spec,
        found=tuple(results),
        fronts_found=fronts,
    )


def csv_bytes(results: Sequence[Result], fronts: Sequence[Front]) -> bytes:
    """A row per configuration: its options, its numbers, its error, and whether it is on the front."""
    best = frozenset(digest for front in fronts for digest in front.best)
    options = list(dict.fromkeys(name for one in results for name in one.configuration))
    numbers = list(dict.fromkeys(name for one in results for name in one.outcome))
    labels = {name: f"result_{name}" if name in options else name for name in numbers}
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*options, *labels.values(), "pareto", "error"])
    for one in results:
        given = [_cell(one.configuration.get(name)) for name in options]
        writer.writerow([*given, *(_cell(one.outcome.get(n)) for n in numbers), int(one.digest in best), one.error])
    return stream.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    return ";".join(map(str, value)) if isinstance(value, list | tuple) else "" if value is None else value


def axes_that_vary(spec: Spec) -> list[str]:
    """The options that tell configurations apart."""
    return [name for name, values in spec.grid.items() if len(values) > 1] + list(spec.ranges)


def sweep_text(result: SweepResult) -> str:
    """How many, what failed, and the fronts."""
    failed = [one for one in result.results if one.error]
    misfits = [one for one in result.results if not one.error and not one.outcome.get("fits", True)]
    place = f" in {result.file}" if result.file else ""
    count = f"{result.configurations} configurations{place}"
    lines = [f"{count}: {len(failed)} failed, {len(misfits)} do not fit into memory"]
    reasons: dict[str, int] = {}
    for one in failed:
        reasons[str(one.error)] = reasons.get(str(one.error), 0) + 1
    worst = sorted(reasons.items(), key=lambda item: -item[1])[:5]
    lines += [f"  {count} x {error}" for error, count in worst]
    for front in result.fronts_found or ():
        lines.append(f"Pareto front of step time, peak memory and quality ({quality_words(front)}):")
        lines.append(to_text(front_table(front, result.axes)))
    return "\n".join(lines)


def front_table(front: Front, names: Sequence[str]) -> Any:
    """The front by step time."""
    rows = sorted(
        (one for one in front.results if one.digest in front.best),
        key=lambda one: (one.outcome["makespan"], one.outcome["peak_memory_bytes"]),
    )
    scale = scale_for(max((one.outcome["makespan"] for one in rows), default=1.0), front.time_unit)
    lines = [
        [
            *(str(_cell(one.configuration.get(name)) or "-") for name in names),
            scale.text(one.outcome["makespan"]),
            format_bytes(one.outcome["peak_memory_bytes"]),
            quality_text(one, front.quality),
        ]
        for one in rows[:SHOWN]
    ]
    if len(rows) > SHOWN:
        lines.append(["...", *[""] * (len(names) + 1), f"{len(rows) - SHOWN} more in the JSON"])
    return plain_table([*names, "step time", "peak memory", front.quality], lines, left=max(1, len(names)))


def quality_text(result: Result, quality: str) -> str:
    """``0.412``, ``16``, or ``exact``."""
    if result.outcome["copies"] is None:
        return "exact"
    value = result.outcome[quality]
    return f"{value:.3f}" if quality == "cosine" else str(value)


def drawn(fronts: Sequence[Front], spec: Spec) -> Mapping[str, bytes]:
    """``pareto.png``; a picture per unit of time where there are several."""
    from alrsim.reports.pareto import Axes, Point, draw_pareto

    files = {}
    for front in fronts:
        name = "pareto.png" if len(fronts) == 1 else f"pareto-{front.time_unit}.png"
        points = [
            Point(
                one.outcome["makespan"],
                one.outcome["peak_memory_bytes"],
                one.outcome[front.quality] if one.outcome["copies"] is not None else None,
                one.digest in front.best,
                str(one.configuration.get("method", one.outcome["note"])),
            )
            for one in front.results
        ]
        fixed = ", ".join(f"{key} {_cell(value)}" for key, value in spec.fixed.items())
        files[name] = draw_pareto(points, Axes(front.time_unit, front.quality), f"{spec.verb}: {fixed}")
    return files


def sweep_rows(result: SweepResult) -> list[dict[str, Any]]:
    """One row per configuration: its keywords, its numbers, its error."""
    return [{**one.configuration, **one.outcome, "pareto": one.pareto, "error": one.error} for one in result.results]


def draw_sweep(result: SweepResult, axes: Any = None) -> Any:
    """Step time against peak memory, the front marked."""
    axes = axes_or_new(axes)
    rows = [one for one in result.results if not one.error and "makespan" in one.outcome]
    for on_front, colour in ((False, "#bbbbbb"), (True, "#0072b2")):
        some = [one.outcome for one in rows if one.pareto is on_front]
        axes.scatter([one["makespan"] for one in some], [one["peak_memory_bytes"] for one in some], s=14, color=colour)
    axes.set_xlabel("step time")
    axes.set_ylabel("peak memory of a unit, bytes")
    return axes


def sweep_files(result: SweepResult) -> Mapping[str, bytes]:
    """The front as a picture, and all results as CSV."""
    if result.found is None:
        return {}
    return {**drawn(result.fronts_found, result.spec), "results.csv": csv_bytes(result.found, result.fronts_found)}


RENDERER = Parts(sweep_text, sweep_rows, draw_sweep, sweep_files)
