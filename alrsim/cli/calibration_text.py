"""A calibration section for people: links, kernels, tables, and how far it can be trusted."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from alrsim.cost.costs import HostLoad
from alrsim.hardware.calibration import Calibration, KernelSection, TableSection, parse_rows
from alrsim.reports.tables import plain_table
from alrsim.units import format_bytes, format_ns

if TYPE_CHECKING:
    from rich.table import Table


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


def calibration_document(found: Calibration) -> dict[str, Any]:
    """For JSON; of the tables only what they hold, their rows are in the profile."""
    return {
        "date": found.date,
        "device": found.device,
        "torch": found.torch,
        "executor": found.executor,
        "units": found.units,
        "cores": found.cores,
        "repeats": found.repeats,
        "overhead_ns": found.overhead_ns,
        "cpu_share": found.host.cpu_share,
        "drift": found.host.drift,
        "busy": HostLoad(found.host.cpu_share, found.host.drift).busy,
        "roofline": None if found.roofline is None else found.roofline.model_dump(mode="json"),
        "links": [link.model_dump(mode="json") for link in found.links],
        "kernels": [kernel.model_dump(mode="json") for kernel in found.kernels],
        "tables": [
            {
                "model": table.model,
                "rule": table.rule,
                "options": table.options,
                "formats": table.formats,
                "rows": len(parse_rows(table.rows)),
            }
            for table in found.tables
        ],
    }


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
