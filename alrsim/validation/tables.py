"""A scored run in words and tables: for the terminal, and as markdown."""

from collections.abc import Sequence

from alrsim.units import format_ns
from alrsim.validation.result import CellRow, Ratio, ValidateResult
from alrsim.validation.shares import reason
from alrsim.validation.statistics import Spread

WORST = 5
"""Cells that are explained."""


def worst_rows(rows: Sequence[CellRow]) -> list[CellRow]:
    """The cells that were predicted worst, worst first."""
    return sorted(rows, key=lambda row: -abs(row.error))[:WORST]


def percent(value: float | None, digits: int = 1, *, sign: bool = False) -> str:
    """``−3.2 %``; a dash for nothing."""
    if value is None:
        return "–"
    return f"{100 * value:{'+' if sign else ''}.{digits}f} %".replace("-", "−")


Cells = tuple[tuple[str, ...], list[list[str]]]
"""Columns and rows of a table."""

ERRORS = ("n", "median", "p95", "bias", "least", "most")


def tables_of(result: ValidateResult) -> dict[str, Cells]:
    """Every table by name: ``errors`` of makespan, speed-up and memory, ``classes`` of cells, ``goals``, the ``worst``
    cells with the reason, and all ``cells``; a cell's speed-up is over the first method of its group."""
    errors = {
        "makespan": result.makespan_error,
        "speed-up over the group's first": result.speedup_error,
        "peak memory of the fullest unit": result.fullest_unit_memory_error,
        "peak memory of every unit": result.peak_memory_error,
    }
    words = {True: "met", False: "missed", None: "nothing to judge by"}
    goals = [[one.goal, percent(one.limit, 0), percent(one.value), words[one.met]] for one in result.goals]
    ratios = {name: ratio for group in reversed(result.groups) for name, ratio in group.speedups.items()}
    return {
        "errors": (("error of", *ERRORS), [_errors(*one) for one in errors.items()]),
        "classes": (("class", *ERRORS), [_errors(*one) for one in result.classes.items()]),
        "goals": (("goal", "limit", "here", ""), goals),
        "worst": (
            ("cell", "error", "which terms", "tasks by kind", "the prediction is made of"),
            [_worst(row) for row in worst_rows(result.cells)],
        ),
        "cells": (
            ("cell", "predicted", "measured", "quartiles", "error", "memory", "speed-up", "ratio error"),
            [_cell(row, ratios.get(row.name)) for row in result.cells],
        ),
    }


def _errors(name: str, found: Spread | None) -> list[str]:
    if found is None:
        return [name, "0", *["–"] * 5]
    signed = [percent(error, sign=True) for error in (found.bias, found.least, found.most)]
    return [name, str(found.count), percent(found.median), percent(found.p95), *signed]


def _cell(row: CellRow, ratio: Ratio | None) -> list[str]:
    return [
        row.name,
        format_ns(row.predicted_ns),
        format_ns(row.measured_ns),
        f"{format_ns(row.measured_quartiles_ns[0])} – {format_ns(row.measured_quartiles_ns[1])}",
        percent(row.error, sign=True),
        percent(row.fullest_error, sign=True),
        "–" if ratio is None else f"{ratio.measured:.2f}x",
        "–" if ratio is None else percent(ratio.error, sign=True),
    ]


def _worst(row: CellRow) -> list[str]:
    kinds = ", ".join(f"{kind} {percent(error, sign=True)}" for kind, error in row.kinds.items())
    return [row.name, percent(row.error, sign=True), reason(row.terms), kinds, made_of(row)]


def made_of(row: CellRow) -> str:
    """``compute 371.0, transfer 12.1 ms``: the predicted makespan along its critical path."""
    named = [(name, int(ticks) / 1e6) for name, _, ticks in (part.partition("=") for part in row.prediction_parts)]
    return ", ".join(f"{name} {time:.1f}" for name, time in named) + " ms" if named else "–"


def order_line(result: ValidateResult) -> str:
    """In words."""
    order = result.order
    tau = "undefined" if order.kendall_tau is None else f"{order.kendall_tau:.2f}"
    words = (
        f"Order of methods: Kendall tau {tau} (mean over {len(result.groups)} groups); "
        f"pairs that differ by more than {order.margin:.0%} measured: ordered right {order.right} of "
        f"{order.clear_pairs}."
    )
    wrong = [f"{p.faster} is {p.ratio:.2f}x faster than {p.slower}" for p in order.wrong]
    return words + (f" Wrong: {'; '.join(wrong)}." if wrong else "")


def headline(result: ValidateResult) -> str:
    """Where and how."""
    host, cells = result.host, len(result.cells)
    clock = f"; clock: {host['clock']}" if host["clock"] else ""
    return (
        f"{result.grid} grid, {cells} cell{'s' * (cells != 1)} of {result.repeats} repeats; executor "
        f"{host['executor']}, {host['threads']} thread{'s' * (host['threads'] != 1)} per unit; {host['device']}, "
        f"{host['cores']} cores; torch {host['torch']}; seed {host['seed']}{clock}"
    )


def markdown(result: ValidateResult) -> str:
    """The report."""
    words, tables = result.host_verdict, tables_of(result)
    verdict = f"**Warning: {words}.**" if result.host_busy else f"{words[0].upper()}{words[1:]}."
    parts = [
        "# Predicted against measured",
        "",
        headline(result) + ".",
        "",
        verdict,
        "",
        "Every prediction was on disk before anything of its cell was run; costs come from steps of another number of "
        "micro-batches. Errors are (predicted − measured) / measured.",
        "",
        "![predicted against measured](scatter.png)",
        "",
        "## Errors",
        "",
        *_table(*tables["errors"]),
        "",
        order_line(result),
        "",
        *_table(*tables["goals"]),
        "",
        "## By method and by model",
        "",
        *_table(*tables["classes"]),
        "",
        "## Worst cells, and why",
        "",
        "Terms add up to the error of the makespan: kinds of tasks, overhead (gaps between tasks), transfer, and wait "
        "(what is needed is not finished yet).",
        "",
        *_table(*tables["worst"], left=(0, 2, 3, 4)),
        "",
        "## Cells",
        "",
        *_table(*tables["cells"]),
    ]
    return "\n".join(parts) + "\n"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = "|" + "|".join("---" if index in left else "---:" for index in range(len(columns))) + "|"
    return [line(columns), rule, *map(line, rows)]
