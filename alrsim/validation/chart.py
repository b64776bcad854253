"""A run in pictures: every cell on the diagonal or off it, the errors method by method, and the worst cells."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from alrsim.reports.canvas import render
from alrsim.reports.gantt import Panel, draw_gantt
from alrsim.reports.palette import FAINT, IDLE_EDGE, INK
from alrsim.reports.trace import trace_bytes, trace_document
from alrsim.simulation.engine import simulate
from alrsim.tasks.taskgraph import TaskGraph
from alrsim.timeline.timeline import Timeline
from alrsim.units import format_ns
from alrsim.validation.journal import Journal
from alrsim.validation.records import median_step, problem_again, timeline_of
from alrsim.validation.result import CellRow, ValidateResult
from alrsim.validation.shares import reason
from alrsim.validation.tables import percent, worst_rows

METHOD_COLOURS: Mapping[str, str] = {
    "bp:gpipe": "#0072B2",
    "bp:1f1b": "#56B4E9",
    "bp:zb-h1": "#009E73",
    "lr:lr-fixed": "#E69F00",
    "lr:lr-free": "#D55E00",
    "alr:lr-free": "#CC79A7",
}
"""Okabe and Ito's, which colour-blind readers can tell: cold for BP, warm for LR."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
BANDS = ((0.12, "#F3F3F3"), (0.05, "#DCE6EE"))
"""Relative errors with their shade, the wide one first."""

DRAWN = 3
"""Cells in the chart of the worst; the trace has all that are explained."""

_MS = 1e6
_NICE = ((1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0), tuple(1 + step / 10 for step in range(90)))


def draw_scatter(result: ValidateResult) -> bytes:
    """PNG bytes of a run; the same result gives the same bytes."""
    figure = Figure(figsize=(13.0, 6.9))
    cells = result.cells
    models = list(dict.fromkeys(cell.model for cell in cells))
    methods = list(dict.fromkeys(cell.method for cell in cells))
    _title(figure, result)
    main = figure.add_axes((0.06, 0.1, 0.41, 0.7725))
    side = figure.add_axes((0.625, 0.1, 0.355, 0.7725))
    _scatter(main, cells, models)
    _strips(side, cells, models, methods)
    _legend(figure, main, models, methods)
    return render(figure)


def _title(figure: Figure, result: ValidateResult) -> None:
    host, error = result.host, result.makespan_error
    figure.text(0.06, 0.955, "Predicted before it was measured", fontsize=17, fontweight="bold", color=INK, va="center")
    words = "" if error is None else f"median error {percent(error.median)}, 95 % of cells within {percent(error.p95)}"
    figure.text(0.06, 0.912, f"{len(result.cells)} training steps · {words}", fontsize=11, color=INK, va="center")
    about = f"{host['device']} · {host['cores']} cores · executor {host['executor']} · torch {host['torch']}"
    figure.text(0.98, 0.955, about, fontsize=8.5, color=FAINT, va="center", ha="right")
    if result.host_busy:
        figure.text(
            0.98, 0.925, "the host was busy: see the report", fontsize=9, color="#B00020", va="center", ha="right"
        )


def _scatter(axis: Axes, cells: Sequence[CellRow], models: Sequence[str]) -> None:
    times = [time / _MS for cell in cells for time in (cell.predicted_ns, cell.measured_ns)] or [1.0, 10.0]
    low, high = min(times) / 1.25, max(times) * 1.25
    for share, colour in BANDS:
        axis.fill_between(
            (low, high),
            (low * (1 - share), high * (1 - share)),
            (low * (1 + share), high * (1 + share)),
            color=colour,
            linewidth=0,
            zorder=0,
        )
    axis.plot((low, high), (low, high), color=FAINT, linewidth=0.9, zorder=1)
    for cell in cells:
        quartiles = [time / _MS for time in cell.measured_quartiles_ns]
        axis.plot(quartiles, [cell.predicted_ns / _MS] * 2, color=_colour(cell), linewidth=1.1, alpha=0.6, zorder=2)
        _dot(axis, cell.measured_ns / _MS, cell.predicted_ns / _MS, cell, models, 46)
    axis.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
    ticks = _ticks(low, high)
    for line in (axis.xaxis, axis.yaxis):
        line.set_major_locator(FixedLocator(ticks))
        line.set_minor_locator(NullLocator())
        line.set_major_formatter(FuncFormatter(lambda value, _at: f"{value:g}"))
    axis.set_xlabel("measured makespan, ms (line: quartiles over repeats)", fontsize=10, color=INK)
    axis.set_ylabel("predicted makespan, ms", fontsize=10, color=INK)
    _plain(axis)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers, as many as it takes to have four of them."""
    found: list[float] = []
    for digits in _NICE:
        found = [round(digit * 10.0**power, 9) for power in range(-3, 7) for digit in digits]
        found = [value for value in found if low <= value <= high]
        if len(found) >= 4:
            break
    return found


def _strips(axis: Axes, cells: Sequence[CellRow], models: Sequence[str], methods: Sequence[str]) -> None:
    """One row per method: every cell's signed error, the median as a bar."""
    largest = max([0.14, *(abs(cell.error) for cell in cells)]) * 1.08
    for share, colour in BANDS:
        axis.axvspan(-100 * share, 100 * share, color=colour, linewidth=0, zorder=0)
        axis.text(100 * share, -0.6, f"±{100 * share:.0f} %", fontsize=8, color=FAINT, ha="center", va="bottom")
    axis.axvline(0, color=FAINT, linewidth=0.9, zorder=1)
    for row, method in enumerate(methods):
        here = [cell for cell in cells if cell.method == method]
        for index, cell in enumerate(here):
            # Spread over the row, model by model, so that equal errors stay apart.
            offset = 0.3 * (2 * (index + 0.5) / len(here) - 1)
            _dot(axis, 100 * cell.error, row + offset, cell, models, 36)
        errors = sorted(100 * cell.error for cell in here)
        middle = (errors[(len(errors) - 1) // 2] + errors[len(errors) // 2]) / 2
        axis.plot((middle, middle), (row - 0.38, row + 0.38), color=INK, linewidth=2.2, zorder=2, solid_capstyle="butt")
        axis.text(
            100 * largest * 0.985,
            row - 0.36,
            f"{middle:+.1f} %".replace("-", "−"),
            fontsize=8.5,
            color=INK,
            ha="right",
            va="center",
        )
    axis.set_yticks(range(len(methods)), methods, fontsize=10)
    axis.set(ylim=(len(methods) - 0.45, -0.55), xlim=(-100 * largest, 100 * largest))
    axis.set_xlabel("error of the predicted makespan, % (bar and number: median)", fontsize=10, color=INK)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _at: f"{value:+g}".replace("-", "−") if value else "0"))
    _plain(axis)


def _dot(axis: Axes, x: float, y: float, cell: CellRow, models: Sequence[str], size: float) -> None:
    marker = MARKERS[models.index(cell.model) % len(MARKERS)]
    axis.scatter([x], [y], s=size, marker=marker, color=_colour(cell), edgecolors="white", linewidths=0.7, zorder=3)


def _colour(cell: CellRow) -> str:
    return METHOD_COLOURS.get(cell.method, INK)


def _legend(figure: Figure, axis: Axes, models: Sequence[str], methods: Sequence[str]) -> None:
    marks = [
        Line2D([], [], linestyle="", marker=MARKERS[index % len(MARKERS)], color=FAINT, markersize=7, label=model)
        for index, model in enumerate(models)
    ]
    colours = [
        Line2D([], [], linestyle="", marker="o", color=METHOD_COLOURS.get(method, INK), markersize=7, label=method)
        for method in methods
    ]
    first = axis.legend(handles=colours, loc="upper left", frameon=False, fontsize=9, handletextpad=0.2)
    axis.add_artist(first)
    axis.legend(handles=marks, loc="lower right", frameon=False, fontsize=9, handletextpad=0.2)


def _plain(axis: Axes) -> None:
    axis.tick_params(labelsize=9, colors=INK, length=3)
    for name, spine in axis.spines.items():
        spine.set_color(IDLE_EDGE)
        spine.set_visible(name in ("left", "bottom"))


def worst_files(result: ValidateResult) -> dict[str, bytes]:
    """The worst cells, predicted above measured: ``worst.png``, and ``trace.json.gz`` for Perfetto."""
    journal: Journal = result.journal
    panels: list[Panel] = []
    lines: list[tuple[str, Timeline]] = []
    tasks: dict[str, TaskGraph] = {}
    for row in worst_rows(result.cells):
        name = row.name
        prediction = journal.predictions[name]
        problem = problem_again(prediction)
        tasks[name] = problem.tasks
        predicted = simulate(problem, prediction.schedule, semantics=prediction.costs.semantics)
        measured = timeline_of(prediction, median_step(journal.steps[name]))
        lines += [(name, predicted), (name, measured)]
        panels.append(Panel(name, predicted, f"predicted {format_ns(predicted.makespan)}"))
        words = f"measured {format_ns(measured.makespan)} · off by {percent(row.error, sign=True)}: {reason(row.terms)}"
        panels.append(Panel(name, measured, words))
    chart = draw_gantt(panels[: 2 * DRAWN], "The cells that were predicted worst")
    about = {"device": journal.host.device, "executor": journal.host.executor}
    return {"worst.png": chart, "trace.json.gz": trace_bytes(trace_document(lines, tasks=tasks, about=about))}
