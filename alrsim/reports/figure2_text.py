"""Figure 2 as text: both charts cell by cell, every named count, and the paper's three numbers beside them."""

from alrsim.reports.figure2 import PAPER, Chart, Figure2, explain_24_percent
from alrsim.reports.text import draw_cells
from alrsim.timeline.metrics import named_shares, speedup, work

_COUNTS = ("idle_fraction", "layer_rows_idle", "grid_idle")


def draw_figure2(figure: Figure2) -> str:
    """The whole answer of ``alrsim figure2`` for a terminal."""
    ratio = float(figure.speedup)
    parts = [
        _title(figure.bp),
        *draw_cells(figure.bp.timeline),
        "",
        _title(figure.lr),
        *draw_cells(figure.lr.timeline),
        "",
        _table(figure),
        "",
        f"speed-up of lr over bp: {figure.bp.steps}/{figure.lr.steps} = {ratio:.3g}x (paper: {PAPER['speedup']:.2g}x)",
        free_rows(figure),
        "",
        explain_24_percent(figure),
    ]
    return "\n".join(parts)


def free_rows(figure: Figure2) -> str:
    """What is left of the speed-up where BP, too, may use any row."""
    charts = {chart.name: chart for chart in figure.baselines}
    bp, lr = charts["bp_any_row_plain"], charts["lr_any_row"]
    ratio = float(speedup(bp.timeline, lr.timeline))
    return f"speed-up where every task may run on any row: {bp.steps}/{lr.steps} = {ratio:.3g}x"


def _title(chart: Chart) -> str:
    return f"{chart.what}: {chart.steps} steps"


def _table(figure: Figure2) -> str:
    paper = {"bp": f"idle {PAPER['bp_idle']:.1%}", "lr": f"idle {PAPER['lr_idle']:.0%}, {PAPER['speedup']:.2g}x"}
    lines: list[tuple[str, ...]] = [("chart", "steps", "busy", *_COUNTS, "speed-up", "paper", "")]
    for chart in (figure.bp, figure.lr, figure.lr_free, *figure.baselines):
        cells = len(chart.timeline.units) * chart.steps
        ratio = float(speedup(figure.bp.timeline, chart.timeline))
        counts = [_count(chart, name) for name in _COUNTS]
        busy = f"{work(chart.timeline)}/{cells}"
        lines.append(
            (chart.name, str(chart.steps), busy, *counts, f"{ratio:.2f}x", paper.get(chart.name, ""), chart.what)
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _count(chart: Chart, name: str) -> str:
    if not chart.bound and name != "idle_fraction":
        return "-"
    return f"{float(named_shares(chart.timeline)[name]):.1%}"
