"""What all pictures share: PNG bytes and quiet axes, by matplotlib's object interface: no global state, no display."""

from io import BytesIO

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alrsim.reports.palette import FAINT

WIDTH_INCHES = 13.0
DPI = 150


def render(figure: Figure, dpi: int = DPI) -> bytes:
    """The figure as PNG bytes; the same figure gives the same bytes."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": "alrsim"})
    return buffer.getvalue()


def quiet(axis: Axes, *sides: str) -> None:
    """Small grey ticks, and no line at the top, at the right and at the given sides."""
    axis.tick_params(labelsize=8, color=FAINT)
    axis.spines[["top", "right", *sides]].set_visible(False)
