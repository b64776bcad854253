"""Gantt charts as text, for terminals, logs and error messages."""

from collections.abc import Iterator
from fractions import Fraction
from math import gcd

from alrsim.reports.timescale import scale_for
from alrsim.timeline.timeline import MANY_SPANS, Span, Timeline

IDLE_CELL = "."
MOST_ROWS = 32
"""Units that are drawn from either end."""
_GAP = "..."


def draw_text(timeline: Timeline, width: int = 100) -> str:
    """One line per unit. Where every span is a whole number of steps and the steps fit, each step is a cell.

    Args:
        width: Characters available; longer timelines are scaled and show kinds only. Of many units the first and the
            last are drawn, of millions of tasks none.
    """
    if timeline.span_count > MANY_SPANS:
        return f"{timeline.span_count:,} tasks on {len(timeline.units):,} units are not drawn\n{_footer(timeline)}"
    step = _step_of(timeline)
    cell, margin = _widths(timeline)
    if step and timeline.makespan // step * cell <= width - margin:
        lines = draw_cells(timeline, step)
    else:
        lines = _scaled(timeline, max(20, width - margin), margin)
    return "\n".join((*lines, _footer(timeline)))


def _step_of(timeline: Timeline) -> int:
    step = 0
    for span in timeline.spans:
        step = gcd(step, gcd(span.start, span.end))
    return step


def _widths(timeline: Timeline) -> tuple[int, int]:
    """Characters of a cell, and in front of the first."""
    cell = max((len(str(span.task)) for span in timeline.spans), default=1) + 1
    return cell, max(map(len, timeline.units), default=0) + 2


def draw_cells(timeline: Timeline, step: int = 1) -> list[str]:
    """A line of numbers and one per unit, with an aligned cell per step of so many ticks; a dot is an idle cell."""
    (cell, margin), columns = _widths(timeline), timeline.makespan // step
    lines = [" " * margin + "".join(f"{column + 1:<{cell}}" for column in range(columns)).rstrip()]
    for unit, spans in _drawn(timeline):
        if not unit:
            lines.append(_GAP)
            continue
        row = [IDLE_CELL.ljust(cell)] * columns
        for span in spans:
            for column in range(span.start // step, span.end // step):
                first = column == span.start // step
                row[column] = (str(span.task) if first else "-" * (cell - 1)).ljust(cell)
        lines.append(unit.ljust(margin) + "".join(row).rstrip())
    return lines


def _scaled(timeline: Timeline, columns: int, margin: int) -> list[str]:
    """Each character is the kind of the task that covers most of its slice of time."""
    end = timeline.makespan or 1
    lines = []
    for unit, spans in _drawn(timeline):
        if not unit:
            lines.append(_GAP)
            continue
        shares: list[dict[str, int]] = [{} for _ in range(columns)]
        for span in spans:
            for column in range(span.start * columns // end, min(columns, -(-span.end * columns // end))):
                low, high = (
                    max(span.start * columns, column * end),
                    min(span.end * columns, (column + 1) * end),
                )
                kinds = shares[column]
                kinds[span.task.kind] = kinds.get(span.task.kind, 0) + max(0, high - low)
        lines.append(unit.ljust(margin) + "".join(_winner(kinds, end) for kinds in shares))
    return lines


def _winner(kinds: dict[str, int], slice_size: int) -> str:
    if sum(kinds.values()) * 2 < slice_size:
        return IDLE_CELL
    return max(kinds, key=lambda kind: kinds[kind])


def _footer(timeline: Timeline) -> str:
    makespan = Fraction(timeline.makespan, timeline.ticks_per_unit)
    text = scale_for(float(makespan), timeline.time_unit).text(float(makespan))
    word = "predicted" if timeline.source == "simulated" else "measured"
    return f"makespan {text}, {word}" + (f" ({timeline.cost_model})" if timeline.cost_model else "")


def _drawn(timeline: Timeline) -> Iterator[tuple[str, list[Span]]]:
    """Units with their spans; of many the first and the last, and between them one without a name."""
    of_unit: dict[str, list[Span]] = {unit: [] for unit in timeline.units}
    for span in timeline.spans:
        of_unit[span.unit].append(span)
    for position, (unit, spans) in enumerate(of_unit.items()):
        if len(of_unit) <= 2 * MOST_ROWS or not MOST_ROWS <= position < len(of_unit) - MOST_ROWS:
            yield unit, spans
        elif position == MOST_ROWS:
            yield "", []
