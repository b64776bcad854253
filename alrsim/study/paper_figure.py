"""``figure2``: the ALR paper's Figure 2, drawn, counted, and held against the paper's three numbers."""

from dataclasses import dataclass

from alrsim.errors import OptionError
from alrsim.options import Options, keyword
from alrsim.steps.figure2_charts import Figure2Result, draw_charts
from alrsim.verbs import verb

MOST_CELLS = 4096
"""Cells of a chart that can still be read."""


@dataclass(frozen=True, kw_only=True)
class Figure2Options(Options):
    """Options of :func:`figure2`."""

    layers: int = keyword("Layers of the model, a row each.", default=4, metavar="N", short="L", least=1)
    microbatches: int = keyword("Micro-batches of the step.", default=3, metavar="M", short="m", least=1)


@verb(Figure2Options)
def figure2(*, asked: Figure2Options) -> Figure2Result:
    """Draw the paper's Figure 2: steps, every idle share by name, and speed-up beside the paper's numbers.

    >>> figure = figure2()
    >>> figure.bp.steps, figure.lr.steps, figure.speedup
    (15, 10, 1.5)
    """
    if asked.layers * asked.microbatches > MOST_CELLS:
        raise OptionError(
            f"{asked.layers} x {asked.microbatches} cells cannot be drawn readably",
            field="layers",
            fix="simulate a long step with durations f=1,b=1 instead",
        )
    return draw_charts(asked.layers, asked.microbatches)
