"""Tables for the terminal. They show the same numbers as the JSON, rounded."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from io import StringIO
from typing import Any

from alrsim.reports.bound import status_words
from alrsim.reports.result import BUBBLES, CompareResult, MeasuredResult, MethodResult
from alrsim.reports.step_result import StepResult
from alrsim.reports.timescale import scale_for
from alrsim.units import Bytes, format_bytes, format_ns

_STATE = random.getstate()  # rich draws a number when it is loaded, of the caller's random numbers
from rich.box import SIMPLE_HEAD  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

random.setstate(_STATE)

MOST_UNITS = 64
"""Units that a table of one step has rows for."""

PLAIN_WIDTH = 160
"""Columns when the output is no terminal: wide enough that no table is cut."""


def to_text(table: Table, width: int = PLAIN_WIDTH) -> str:
    """The table as plain text without colour."""
    stream = StringIO()
    Console(file=stream, width=width, no_color=True, highlight=False, emoji=False).print(table)
    return "".join(f"{line.rstrip()}\n" for line in stream.getvalue().splitlines())


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "", left: int = 1) -> Table:
    """A table of strings; the first ``left`` columns are aligned left, numbers to the right."""
    table = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < left else "right", overflow="fold", no_wrap=index == 0)
    for row in rows:
        table.add_row(*(cell.replace("[", r"\[") for cell in row))
    return table


def compare_table(result: CompareResult) -> Table:
    """One column per method, one row per number, named as in the JSON: it fits a terminal with every bubble in it."""
    methods = result.methods
    rows: list[list[str]] = [
        ["makespan", *(format_time(m.makespan_ns, result.cost_model) for m in methods)],
        ["speed-up", *(f"{m.speedup:.2f}x" for m in methods)],
    ]
    made = [m.terms_ns for m in methods if m.terms_ns is not None]
    if len(made) == len(methods):
        names_of_terms = [name for name in made[0] if any(named[name] for named in made)]
        rows += [[f"of it {name}", *(format_ns(named[name]) for named in made)] for name in names_of_terms]
    gaps = [m.bound for m in methods if m.bound is not None]
    if len(gaps) == len(methods):
        rows += [
            ["lower bound, this placement", *(format_time(g.this_placement, result.cost_model) for g in gaps)],
            ["gap", *(f"{100 * g.gap:.1f} %" for g in gaps)],
            ["lower bound, any placement", *(format_time(g.any_placement, result.cost_model) for g in gaps)],
            ["gap, any placement", *(f"{100 * g.gap_any_placement:.1f} %" for g in gaps)],
        ]
    if any(g.status for g in gaps):
        rows.append(["proof", *(status_words(g) for g in gaps)])
    rows += [[name, *(_bubble(name, m.bubbles[name], result) for m in methods)] for name in BUBBLES]
    rows.append(["forwards per step", *(f"{m.forwards_per_step:g}" for m in methods)])
    rows += memory_rows([m.peak_memory_bytes for m in methods])
    if any(m.measured is not None for m in methods):
        rows += _measured_memory([m.measured for m in methods])
        rows += [list(row) for row in zip(*(_measured_cells(m) for m in [None, *methods]), strict=True)]
    return plain_table(["method", *(m.method for m in methods)], rows)


def format_time(ticks: float, cost_model: str) -> str:
    """Steps where every task takes one step by definition, else nanoseconds in a readable unit."""
    return f"{ticks:g} steps" if cost_model == "unit" else format_ns(ticks)


def headline(result: CompareResult) -> str:
    """What was compared: ``resnet5 on 2 units of cpu-2core: 4 micro-batches, 1 copy``."""
    return (
        f"{result.model} on {_plural(result.units, 'unit')} of {result.hardware}: "
        f"{_plural(result.microbatches, 'micro-batch', 'es')}, {_plural(result.copies, 'cop', 'ies', 'y')}"
    )


def _plural(count: int, word: str, many: str = "s", one: str = "") -> str:
    return f"{count} {word}{one if count == 1 else many}"


def _bubble(name: str, value: float, result: CompareResult) -> str:
    return format_time(value, result.cost_model) if name.endswith("_ns") else f"{100 * value:.1f} %"


def _measured_cells(method: MethodResult | None) -> list[str]:
    """The names of the rows for ``None``."""
    if method is None:
        return [
            "measured makespan",
            "spread of repeats",
            "prediction error",
            "measured speed-up",
            "flags",
        ]
    measured = method.measured
    if measured is None:
        return ["-"] * 5
    return [
        format_ns(measured.makespan_ns),
        f"{100 * measured.spread:.0f} %",
        f"{100 * measured.makespan_error:+.1f} %",
        f"{measured.speedup:.2f}x",
        str(len(measured.flags)) if measured.flags else "none",
    ]


def _measured_memory(results: Sequence[MeasuredResult | None]) -> list[list[str]]:
    """Below the predicted peaks: measured, how far off the prediction was at worst, and what the processes had."""
    found = [MeasuredResult(0, 0, 0, 0, 0, {}) if one is None else one for one in results]
    worst = [max(one.peak_memory_error.values(), key=abs, default=0.0) for one in found]
    rows = memory_rows([one.peak_memory_bytes for one in found], what="measured peak")
    rows.append(["peak memory error, worst unit", *(f"{100 * error:+.1f} %" for error in worst)])
    if any(one.peak_rss_bytes for one in found):
        highest = [max(one.peak_rss_bytes.values(), default=0) for one in found]
        rows.append(["peak RSS of a process", *map(format_bytes, highest)])
    return rows


def memory_rows(peaks: Sequence[Mapping[str, Bytes]], full: int = 8, what: str = "peak memory") -> list[list[str]]:
    """A row per unit; beyond ``full`` units the largest and the smallest peak (all are in the JSON)."""
    units = list(dict.fromkeys(unit for of_method in peaks for unit in of_method))
    if len(units) <= full:
        return [[f"{what} {unit}", *(format_bytes(p.get(unit, 0)) for p in peaks)] for unit in units]
    return [
        [f"largest {what}", *(format_bytes(max(p.values(), default=0)) for p in peaks)],
        [f"smallest {what}", *(format_bytes(min(p.values(), default=0)) for p in peaks)],
    ]


def metrics_table(result: StepResult) -> Table:
    """Every number of one step, by name; of a measured one its memory beside what was predicted."""
    scale = scale_for(float(result.makespan), result.time_unit)
    rows = [("makespan", scale.text(float(result.makespan))), ("work", scale.text(float(result.work)))]
    rows += [(name, f"{100 * share:.1f} %") for name, share in asdict(result.metrics).items()]
    rows += _by_unit("bubble_size", result.bubble_size, lambda time: scale.text(float(time)))
    expected, resident = result.predicted_peak_memory_bytes or {}, result.peak_rss_bytes or {}
    rows += _by_unit("peak memory", result.peak_memory_bytes, format_bytes)
    rows += _by_unit("predicted peak memory", expected, format_bytes)
    rows += _by_unit("peak RSS", resident, format_bytes)
    if result.spans_left_out is not None:
        rows.append(("tasks (too many to list)", f"{result.spans_left_out:,}"))
    return plain_table(("number", "value"), rows)


def _by_unit(what: str, values: Mapping[str, Any], text: Callable[[Any], str]) -> list[tuple[str, str]]:
    """A row per unit; of more than :data:`MOST_UNITS` the largest and the smallest (all are in the JSON)."""
    if len(values) > MOST_UNITS:
        return [(f"largest {what}", text(max(values.values()))), (f"smallest {what}", text(min(values.values())))]
    return [(f"{what} {unit}", text(value)) for unit, value in values.items()]
