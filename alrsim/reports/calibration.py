"""A calibration section for people: links, kernels, tables, and how far it can be trusted."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from alrsim.cost.costs import HostLoad, MeasuredCosts, costs_from_json, costs_to_json
from alrsim.documents import Document, Live
from alrsim.errors import OptionError
from alrsim.hardware.calibration import (
    Calibration,
    KernelSection,
    LinkSection,
    RooflineSection,
    TableSection,
    parse_rows,
)
from alrsim.reports.tables import plain_table, to_text
from alrsim.units import Ns, format_bytes, format_ns
from alrsim.writing import write_atomically

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class TableSummary:
    """What a table of task times is of."""

    model: str
    rule: str
    options: str
    formats: str
    rows: int


@dataclass(frozen=True)
class CalibrationSummary:
    """A calibration section. Kernel points are (size, alone ns, busy ns, spread), link points (bytes, sender busy ns,
    usable at the receiver ns); shares and errors are fractions of 1.

    Attributes:
        cpu_share: Part of their spans for which tasks had their cores.
        drift: Spread of a reference kernel between turns.
        busy: Other programs ran meanwhile.
    """

    date: str
    device: str
    torch: str
    executor: str
    units: int
    cores: int
    repeats: int
    overhead_ns: Ns
    cpu_share: float
    drift: float
    busy: bool
    roofline: RooflineSection | None
    links: tuple[LinkSection, ...]
    kernels: tuple[KernelSection, ...]
    tables: tuple[TableSummary, ...]


@dataclass(frozen=True)
class CalibrateResult(Document):
    """A measured host as a hardware profile.

    Attributes:
        name: Of the profile.
        skipped: Methods that the model does not allow, with the reason.
        profile: Live: the profile.
        text: Live: its text, as the file holds it.
        costs: Live: of the first task graph that was measured.
    """

    kind: ClassVar[str] = "calibrate"
    version: ClassVar[int] = 2

    name: str
    calibration: CalibrationSummary
    skipped: tuple[str, ...] = ()
    profile: Live = field(default=None, repr=False, compare=False)
    text: Live = field(default=None, repr=False, compare=False)
    costs: Live = field(default=None, repr=False, compare=False)

    def write(self, path: str | Path) -> None:
        """Write the profile, to be used as a machine.

        Raises:
            OptionError: the name does not end in .yaml, or the result was read from a file.
            FileError: the file cannot be written.
        """
        target = Path(path)
        if target.suffix not in (".yaml", ".yml"):
            raise OptionError(f"{target.name!r} does not end in .yaml", field="output")
        if self.text is None:
            raise OptionError("was read from a file, which does not hold the profile", where=self.name)
        write_atomically(target, self.text.encode())


@dataclass(frozen=True)
class CostRow:
    """What one kind of task takes, in ns.

    Attributes:
        task: Stage and kind, with what else tells it from others.
        alone: With idle neighbours, the executor's overhead left out.
        busy: With all other units at work.
        spread: (upper - lower quartile) / median over the repeats.
    """

    task: str
    alone: Ns
    busy: Ns
    spread: float


@dataclass(frozen=True)
class CostsResult(Document):
    """What the tasks of one step take on this host.

    Attributes:
        name: Of the step.
        measured: Everything that was measured, as :func:`alrsim.cost.costs.costs_to_json` writes it.
    """

    kind: ClassVar[str] = "costs"

    name: str
    model: str
    executor: str
    overhead_ns: Ns
    rows: tuple[CostRow, ...]
    measured: Mapping[str, Any] = field(repr=False)

    @property
    def costs(self) -> MeasuredCosts:
        """The costs as predictions take them."""
        return costs_from_json(dict(self.measured))


def costs_result(name: str, model: str, costs: MeasuredCosts) -> CostsResult:
    """Measured costs as a result."""
    rows = tuple(
        CostRow(" ".join(map(str, key)), alone, costs.busy[key], costs.spread.get(key, 0.0))
        for key, alone in costs.isolated.items()
    )
    return CostsResult(name, model, costs.executor, costs.dispatch_overhead_ns, rows, costs_to_json(costs))


def costs_text(result: CostsResult) -> str:
    """One line per kind of task."""
    rows = [(one.task, format_ns(one.alone), format_ns(one.busy), f"{100 * one.spread:.0f} %") for one in result.rows]
    head = f"{result.name} of {result.model}, executor {result.executor}: {format_ns(result.overhead_ns)} per task more"
    return f"{head}\n{to_text(plain_table(('task', 'alone', 'busy', 'spread'), rows))}"


def costs_rows(result: CostsResult) -> list[dict[str, Any]]:
    """One row per kind of task."""
    return [asdict(row) for row in result.rows]


def calibrate_text(result: CalibrateResult) -> str:
    """Tables and sentences."""
    section = result.profile.spec.calibration
    return "".join(map(to_text, calibration_tables(section))) + "\n".join(calibration_lines(section))


def calibrate_rows(result: CalibrateResult) -> list[dict[str, Any]]:
    """One row per link."""
    return [link.model_dump(mode="json") for link in result.calibration.links]


def calibration_tables(found: Calibration) -> "Iterator[Table]":
    """Links, kernels and task tables."""
    if found.links:
        links = [
            (
                f"u{link.source} -> u{link.target}",
                format_ns(link.send_ns),
                format_ns(link.latency_ns),
                "by reference" if link.bandwidth_gb_per_s is None else f"{link.bandwidth_gb_per_s:.3g} GB/s",
                f"{100 * link.error:.0f} %",
            )
            for link in found.links
        ]
        yield plain_table(("link", "to send", "latency", "bandwidth", "error of fit"), links)
    if found.kernels:
        kernels = ("kernel", "format", "sizes", "best rate", "busy/alone", "spread", "error of roofline")
        yield plain_table(kernels, [_kernel(one) for one in found.kernels], left=2)
    if found.tables:
        tables = ("model", "rule", "options", "micro-batch sizes", "copies", "rows", "busy/alone", "spread")
        yield plain_table(tables, [_table(one) for one in found.tables], left=3)


def summary_of(found: Calibration) -> CalibrationSummary:
    """A section without the rows of its tables, which are in the profile."""
    return CalibrationSummary(
        date=found.date,
        device=found.device,
        torch=found.torch,
        executor=found.executor,
        units=found.units,
        cores=found.cores,
        repeats=found.repeats,
        overhead_ns=found.overhead_ns,
        cpu_share=found.host.cpu_share,
        drift=found.host.drift,
        busy=HostLoad(found.host.cpu_share, found.host.drift).busy,
        roofline=found.roofline,
        links=tuple(found.links),
        kernels=tuple(found.kernels),
        tables=tuple(
            TableSummary(one.model, one.rule, one.options, one.formats, len(parse_rows(one.rows)))
            for one in found.tables
        ),
    )


def calibration_lines(found: Calibration) -> Iterator[str]:
    """Where, when and by what; what else ran; errors."""
    yield (
        f"calibrated {found.date} by {found.program}, torch {found.torch}, on {found.device}: executor "
        f"{found.executor}, {found.units} of {found.cores} cores at work, {found.repeats} repeats"
    )
    yield f"executor: {format_ns(found.overhead_ns)} per task besides its kernel"
    yield HostLoad(found.host.cpu_share, found.host.drift).words
    if (line := found.roofline) is not None:
        yield (
            f"for models that are not in the tables: {format_ns(line.start_ns)} + {format_ns(line.launch_ns)} per "
            f"operator + {line.slope:.3g} x roofline, median error over the tasks measured {100 * line.error:.0f} % "
            f"(bare roofline {100 * line.plain_error:.0f} %)"
        )


def _kernel(one: KernelSection) -> tuple[str, ...]:
    sizes, alone, busy, spread = zip(*one.points, strict=True)
    scale = 2 if one.kernel in ("matmul", "conv") else 1
    rate = max(scale * size / time for size, time in zip(sizes, alone, strict=True))
    word = {"copy": "GB/s", "launch": "per ns"}.get(one.kernel, "GFLOP/s")
    best = format_ns(round(min(t / s for s, t in zip(sizes, alone, strict=True)))) if one.kernel == "launch" else ""
    return (
        one.kernel,
        one.precision.value,
        f"{min(sizes):.3g} .. {max(sizes):.3g}",
        best or f"{rate:.3g} {word}",
        f"{sum(busy) / sum(alone):.2f}",
        f"{100 * max(spread):.0f} %",
        f"{100 * one.error:.0f} %",
    )


def _table(one: TableSection) -> tuple[str, ...]:
    rows = parse_rows(one.rows)
    alone, busy = sum(row.alone for row in rows), sum(row.busy for row in rows)
    middle = sorted(row.spread for row in rows)[len(rows) // 2]
    temporaries = max(row.scratch for row in rows)
    words = one.options or "defaults"
    return (
        one.model,
        one.rule,
        words + (f", temporaries up to {format_bytes(temporaries)}" if temporaries else ""),
        " ".join(map(str, sorted({row.samples for row in rows}))),
        " ".join(map(str, sorted({row.copies for row in rows}))),
        str(len(rows)),
        f"{busy / max(1, alone):.2f}",
        f"{100 * middle:.0f} %",
    )
