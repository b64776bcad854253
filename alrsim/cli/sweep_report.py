"""What a sweep gave: the Pareto front, as table, JSON, CSV and picture."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alrsim.cli.output import say, show
from alrsim.reports.pareto import Axes, Point, draw_pareto
from alrsim.reports.tables import plain_table
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


def document_of(spec: Spec, results: Sequence[Result], fronts: Sequence[Front], target: Path) -> dict[str, Any]:
    """The JSON of ``alrsim sweep`` (schema ``sweep.schema.json``)."""
    best = frozenset(digest for front in fronts for digest in front.best)
    return {
        "verb": spec.verb,
        "file": str(target),
        "configurations": len(results),
        "failed": sum(one.failed for one in results),
        "fronts": [
            {"time_unit": one.time_unit, "quality": one.quality, "results": len(one.results), "best": len(one.best)}
            for one in fronts
        ],
        "results": [
            {
                "digest": one.digest,
                "configuration": dict(one.configuration),
                "error": one.error or None,
                "pareto": one.digest in best,
                **one.outcome,
            }
            for one in results
        ],
    }


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


def tell(spec: Spec, results: Sequence[Result], fronts: Sequence[Front], target: Path) -> None:
    """For people: how many, what failed, and the front."""
    failed = [one for one in results if one.failed]
    misfits = [one for one in results if not one.failed and not one.outcome["fits"]]
    say(f"{len(results)} configurations in {target}: {len(failed)} failed, {len(misfits)} do not fit into memory")
    reasons: dict[str, int] = {}
    for one in failed:
        reasons[one.error] = reasons.get(one.error, 0) + 1
    for error, count in sorted(reasons.items(), key=lambda item: -item[1])[:5]:
        say(f"  {count} x {error}")
    for front in fronts:
        say(f"Pareto front of step time, peak memory and quality ({quality_words(front)}):")
        show(front_table(front, axes_that_vary(spec)))


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
        lines.append(["...", *[""] * (len(names) + 1), f"{len(rows) - SHOWN} more in --json"])
    return plain_table([*names, "step time", "peak memory", front.quality], lines, left=max(1, len(names)))


def quality_text(result: Result, quality: str) -> str:
    """``0.412``, ``16``, or ``exact``."""
    if result.outcome["copies"] is None:
        return "exact"
    value = result.outcome[quality]
    return f"{value:.3f}" if quality == "cosine" else str(value)


def drawn(fronts: Sequence[Front], spec: Spec) -> Mapping[str, bytes]:
    """``pareto.png``; a picture per unit of time where there are several."""
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
