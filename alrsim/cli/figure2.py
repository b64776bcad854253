"""``alrsim figure2``: the ALR paper's Figure 2, drawn, counted, and held against the paper's three numbers."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from alrsim.cli.options import JsonTarget, OutFolder
from alrsim.cli.output import check_targets, encode, publish, say
from alrsim.errors import OptionError

if TYPE_CHECKING:
    from alrsim.steps.figure2_charts import Chart, Figure2

MOST_CELLS = 4096


def run(
    layers: Annotated[int, typer.Option("--layers", "-L", metavar="L", help="Layers, one row each.")] = 4,
    microbatches: Annotated[
        int, typer.Option("--microbatches", "-m", metavar="N", help="Micro-batches ('buckets' in the paper).")
    ] = 3,
    json: JsonTarget = None,
    out: OutFolder = None,
) -> None:
    """Draw the paper's Figure 2 and print steps, every idle share by name, and speed-up beside the paper's numbers."""
    from alrsim.steps.figure2_charts import figure2
    from alrsim.steps.figure2_text import draw_figure2

    check_targets(json, out)
    if layers < 1 or microbatches < 1:
        raise OptionError("--layers and --microbatches must be at least 1", where="figure2")
    if layers * microbatches > MOST_CELLS:
        raise OptionError(
            f"{layers} x {microbatches} cells cannot be drawn readably",
            where="figure2",
            fix="for long steps use `alrsim simulate --durations f=1,b=1 --method ...`",
        )
    figure = figure2(layers, microbatches)
    document = figure.as_dict()
    files = {}
    if out is not None:
        files = {"figure2.png": draw_figure(figure), "figure2.json": encode(document)}

    def text() -> None:
        say(draw_figure2(figure))
        for name in files:
            say(f"wrote {out}/{name}")

    publish(document, json_target=json, out=out, files=files, text=text)


def draw_figure(figure: "Figure2") -> bytes:
    """Both charts of the figure, and LR with free rows, on one axis of unit-time steps."""
    from alrsim.reports.gantt import Panel, draw_gantt

    def panel(name: str, chart: "Chart") -> Panel:
        counts = chart.as_dict()
        words = [f"{chart.steps} steps", f"idle {counts['idle_fraction']:.1%} of all cells"]
        if "layer_rows_idle" in counts:
            words.append(f"layer rows {counts['layer_rows_idle']:.1%}")
            words.append(f"paper's count (grid_idle) {counts['grid_idle']:.1%}")
        return Panel(name, replace(chart.timeline, time_unit="user", ticks_per_unit=1), " · ".join(words))

    panels = [panel("BP", figure.bp), panel("LR", figure.lr), panel("LR, gradients on free rows", figure.lr_free)]
    title = (
        f"Figure 2 of the ALR paper: {figure.layers} layers, {figure.microbatches} micro-batches, "
        f"LR is {float(figure.speedup):.2g}x faster"
    )
    note = "Paper, 4 layers and 3 micro-batches: BP 53.3 % idle, LR 24 % idle (by grid_idle), speed-up 1.5."
    return draw_gantt(panels, title, note=note)
