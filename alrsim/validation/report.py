"""A validation in text, rows, pictures and files."""

from typing import Any

from alrsim.reports.parts import Parts, axes_or_new
from alrsim.reports.tables import plain_table, to_text
from alrsim.validation import tables
from alrsim.validation.chart import draw_scatter, worst_files
from alrsim.validation.result import ValidateResult


def validate_text(result: ValidateResult) -> str:
    """Tables and sentences; where nothing is measured, what would be."""
    if not result.cells:
        count = f"{len(result.planned)} cells, {result.repeats} measured steps each after {result.warmup} to warm up"
        return "\n".join([*result.planned, count])
    found = tables.tables_of(result)
    return "\n".join(
        [
            tables.headline(result),
            to_text(plain_table(*found["cells"])),
            to_text(plain_table(*found["classes"])),
            to_text(plain_table(*found["errors"])),
            tables.order_line(result),
            "\nWorst cells, and which terms of the makespan were off:",
            to_text(plain_table(*found["worst"], left=5)),
            to_text(plain_table(*found["goals"])),
            result.host_verdict,
        ]
    )


def validate_rows(result: ValidateResult) -> list[dict[str, Any]]:
    """One row per cell."""
    keys = ("name", "model", "method", "units", "microbatches", "copies", "predicted_ns", "measured_ns", "error")
    return [{key: getattr(row, key) for key in keys} for row in result.cells]


def draw_validation(result: ValidateResult, axes: Any = None) -> Any:
    """Predicted against measured makespans."""
    axes = axes_or_new(axes)
    measured = [row.measured_ns / 1e6 for row in result.cells]
    axes.scatter(measured, [row.predicted_ns / 1e6 for row in result.cells], s=16)
    axes.plot(measured, measured, color="#999999", linewidth=0.8)
    axes.set(xlabel="measured, ms", ylabel="predicted, ms")
    return axes


def validate_files(result: ValidateResult) -> dict[str, bytes]:
    """Tables as markdown, the errors as a picture, the worst cells as chart and trace."""
    if result.journal is None or not result.cells:
        return {}
    return {
        "validate.md": tables.markdown(result).encode(),
        "scatter.png": draw_scatter(result),
        **worst_files(result),
    }


RENDERER = Parts(validate_text, validate_rows, draw_validation, validate_files)
