"""What all pictures share: PNG bytes and quiet axes, by matplotlib's object interface: no global state, no display."""

from io import BytesIO

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter

from alrsim.errors import printable
from alrsim.reports.palette import FAINT

WIDTH_INCHES = 13.0
DPI = 150


def render(figure: Figure, dpi: int = DPI) -> bytes:
    """The figure as PNG bytes; the same figure gives the same bytes."""
    plain_words(figure)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": "alrsim"})
    return buffer.getvalue()


def plain_words(figure: Figure) -> None:
    """Names are words: no formulas between dollar signs, which a name can spoil, and no character that steers."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            formatter = axis.get_major_formatter()
            if isinstance(formatter, FixedFormatter):
                formatter.seq = [printable(str(name)).replace("$", r"\$") for name in formatter.seq]
    ticks = {id(tick) for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for tick in _ticks(axis)}
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if id(text) not in ticks:  # those of a logarithmic axis are formulas of matplotlib's own
            text.set_text(printable(text.get_text()))
            text.set_parse_math(False)


def _ticks(axis: Axis) -> list[Artist]:
    return [artist for artist in axis.findobj(Text) if artist is not axis.label]


def quiet(axis: Axes, *sides: str) -> None:
    """Small grey ticks, and no line at the top, at the right and at the given sides."""
    axis.tick_params(labelsize=8, color=FAINT)
    axis.spines[["top", "right", *sides]].set_visible(False)
