"""Tables for the terminal. They show the same numbers as the JSON, rounded."""

from collections.abc import Mapping, Sequence
from io import StringIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from alrsim.report.result import CompareResult, MethodResult
from alrsim.report.timescale import scale_for
from alrsim.timeline.memory import peak_memory
from alrsim.timeline.metrics import bubble_size, named_shares, typed, work
from alrsim.timeline.timeline import Timeline
from alrsim.units import Bytes, format_bytes, format_ns

PLAIN_WIDTH = 170
"""Columns when the output is no terminal: wide enough that no table is cut."""

BUBBLE_TITLES = {
    "idle_fraction": "idle\nfraction",
    "overhead_ratio": "overhead\nratio",
    "rank_span_bubble": "rank-span\nbubble",
    "internal_idle": "internal\nidle",
    "grid_idle": "grid\nidle",
    "layer_rows_idle": "layer-rows\nidle",
    "bubble_size_ns": "bubble\nsize",
}


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
    """One row per method: makespan, speed-up over the first, every named bubble, memory, measurements."""
    names = [name for name in BUBBLE_TITLES if any(name in method.bubbles for method in result.methods)]
    columns = ["method", "makespan", "speed-up"]
    columns += [BUBBLE_TITLES[name] for name in names]
    columns += ["forwards\nper step", "peak memory\nper unit"]
    measured = any(method.measured is not None for method in result.methods)
    if measured:
        columns += ["measured", "spread", "error", "measured\nspeed-up", "flags"]
    rows = []
    for method in result.methods:
        row = [method.method, format_ns(method.makespan_ns), f"{method.speedup:.2f}x"]
        row += [_bubble(name, method.bubbles.get(name)) for name in names]
        row += [f"{method.forwards_per_step:g}", memory_cell(method.peak_memory_bytes)]
        rows.append(row + (_measured_cells(method) if measured else []))
    title = f"{headline(result)}; predicted by cost model {result.cost_model}"
    return plain_table(columns, rows, title)


def headline(result: CompareResult) -> str:
    """What was compared: ``resnet5 on 2 units of cpu-2core: 4 micro-batches, 1 copy``."""
    return (
        f"{result.model} on {_plural(result.units, 'unit')} of {result.hardware}: "
        f"{_plural(result.microbatches, 'micro-batch', 'es')}, {_plural(result.copies, 'cop', 'ies', 'y')}"
    )


def _plural(count: int, word: str, many: str = "s", one: str = "") -> str:
    return f"{count} {word}{one if count == 1 else many}"


def _bubble(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return format_ns(value) if name.endswith("_ns") else f"{100 * value:.1f} %"


def _measured_cells(method: MethodResult) -> list[str]:
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


def memory_cell(peaks: Mapping[str, Bytes], full: int = 4) -> str:
    """``u0 1.20 MB`` per line; beyond ``full`` units the largest and the smallest (all are in the JSON)."""
    if len(peaks) <= full:
        return "\n".join(f"{unit} {format_bytes(count)}" for unit, count in peaks.items())
    high, low = max(peaks, key=lambda u: peaks[u]), min(peaks, key=lambda u: peaks[u])
    return f"max {high} {format_bytes(peaks[high])}\nmin {low} {format_bytes(peaks[low])}"


def metrics_table(timeline: Timeline) -> Table:
    """Every number of one timeline, by name."""
    scale = scale_for(float(typed(timeline, timeline.makespan)), timeline.time_unit)
    peaks = peak_memory(timeline)

    def time(ticks: int) -> str:
        return scale.text(float(typed(timeline, ticks)))

    rows = [("makespan", time(timeline.makespan)), ("work", time(work(timeline)))]
    rows += [(name, f"{100 * float(share):.1f} %") for name, share in named_shares(timeline).items()]
    rows += [(f"bubble_size {unit}", time(ticks)) for unit, ticks in bubble_size(timeline).items()]
    if timeline.time_unit == "ns":
        rows += [(f"peak memory {unit}", format_bytes(count)) for unit, count in peaks.items()]
    return plain_table(("number", "value"), rows)
