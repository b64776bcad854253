"""One picture of all verdicts: a row per claim, in the columns of a wide page."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from alrsim.experiments.result import ClaimRow, ReproduceResult
from alrsim.experiments.rules import Verdict
from alrsim.experiments.wording import AREAS, headline, here_text, paper_text, summary
from alrsim.reports.canvas import render
from alrsim.reports.palette import FAINT, INK

COLOURS: Mapping[Verdict, str] = {
    "exceeded": "#0072B2",
    "reproduced": "#009E73",
    "not reproduced": "#D55E00",
    "not testable here": "#BDBDBD",
    "failed": "#1A1A1A",
}
"""Okabe and Ito's, which colour-blind readers can tell."""

_COLUMN, _DPI, _ROW, _TOP, _COLUMNS = 6.3, 120, 0.205, 1.4, 3
_LEAST_WIDTH = 10.5
_MOST_LETTERS = 66

Line = tuple[str, ClaimRow | None]


def draw_overview(result: ReproduceResult) -> bytes:
    """PNG bytes; the same result gives the same bytes."""
    columns = _columns(result.claims)
    figure = Figure(figsize=_size(columns))
    _draw(figure.add_axes((0, 0, 1, 1)), result, columns)
    return render(figure, _DPI)


def draw_claims(result: ReproduceResult, axes: Any = None) -> Any:
    """The same picture in axes.

    Args:
        axes: ``None``: new ones, as large as the picture is.
    """
    columns = _columns(result.claims)
    if axes is None:
        from matplotlib import pyplot

        axes = pyplot.figure(figsize=_size(columns)).add_axes((0, 0, 1, 1))
    _draw(axes, result, columns)
    return axes


def _size(columns: Sequence[Sequence[Line]]) -> tuple[float, float]:
    """Width and height in inches, which are the axes' units, too."""
    return max(_LEAST_WIDTH, len(columns) * _COLUMN + 0.2), _TOP + _ROW * (max(map(len, columns)) + 0.5)


def _draw(axis: Axes, result: ReproduceResult, columns: Sequence[Sequence[Line]]) -> None:
    width, height = _size(columns)
    axis.set_xlim(0, width)
    axis.set_ylim(height, 0)
    axis.set_axis_off()
    title = "What the papers claim, measured here"
    axis.text(0.25, 0.36, title, fontsize=17, fontweight="bold", color=INK, va="center")
    axis.text(0.25, 0.66, summary(result), fontsize=10, color=INK, va="center")
    axis.text(0.25, 0.9, headline(result), fontsize=8.5, color=FAINT, va="center")
    _legend(axis)
    for index, lines in enumerate(columns):
        for at, (text, row) in enumerate(lines):
            _draw_line(axis, 0.25 + index * _COLUMN, _TOP + _ROW * (at + 0.5), _COLUMN - 0.35, text, row)


def _columns(rows: Sequence[ClaimRow]) -> list[list[Line]]:
    """Headings and rows in columns of about the same length; a heading is repeated where its rows go on."""
    lines: list[tuple[str, Line]] = []
    for area, title in AREAS.items():
        lines += [(title, (row.text, row)) for row in rows if row.area == area]
    share = -(-(len(lines) + len(AREAS) + _COLUMNS) // _COLUMNS) if len(lines) > 12 else len(lines) + len(AREAS)
    columns: list[list[Line]] = [[]]
    last = ""
    for title, line in lines:
        if len(columns[-1]) + (title != last) >= share:
            columns.append([])
            last = ""
        if title != last:
            columns[-1].append((title, None))
            last = title
        columns[-1].append(line)
    return columns


def _draw_line(axis: Axes, left: float, y: float, width: float, text: str, row: ClaimRow | None) -> None:
    if row is None:
        axis.text(left, y, text, fontsize=10, fontweight="bold", color=INK, va="center")
        axis.text(left + width - 0.62, y, "paper", fontsize=7.5, color=FAINT, va="center", ha="right")
        axis.text(left + width, y, "here", fontsize=7.5, color=FAINT, va="center", ha="right")
        return
    colour = FAINT if row.verdict is None else COLOURS[row.verdict]
    _mark(axis, left + 0.08, y, colour, filled=bool(row.decided))
    place = f"{row.paper} {row.where.split(',')[0]}"
    axis.text(left + 0.22, y, place, fontsize=7, color=FAINT, va="center")
    axis.text(left + 1.1, y, _short(text), fontsize=7.5, color=INK, va="center")
    axis.text(left + width - 0.62, y, paper_text(row), fontsize=7.5, color=FAINT, va="center", ha="right")
    axis.text(left + width, y, here_text(row), fontsize=7.5, color=INK, va="center", ha="right", fontweight="bold")


def _mark(axis: Axes, x: float, y: float, colour: str, *, filled: bool) -> None:
    face = colour if filled else "white"
    axis.add_patch(
        FancyBboxPatch(
            (x - 0.05, y - 0.05), 0.1, 0.1, boxstyle="round,pad=0.01", facecolor=face, edgecolor=colour, linewidth=1.3
        )
    )


def _legend(axis: Axes) -> None:
    x = 0.25
    for verdict in ("exceeded", "reproduced", "not reproduced", "undecided", "not testable here", "failed"):
        colour = FAINT if verdict == "undecided" else COLOURS[verdict]  # type: ignore[index]
        _mark(axis, x + 0.08, 1.12, colour, filled=verdict != "undecided")
        axis.text(
            x + 0.22, 1.12, f"{verdict}{' (hollow)' * (verdict == 'undecided')}", fontsize=8.5, color=INK, va="center"
        )
        x += 0.068 * (len(verdict) + 9 * (verdict == "undecided")) + 0.5


def _short(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 1].rstrip()}…"
