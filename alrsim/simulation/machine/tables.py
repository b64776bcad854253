"""What the compiled loops read, as one value."""

from typing import Any, NamedTuple


class Tables(NamedTuple):
    """The arrays of :class:`alrsim.schedule.lane_columns.Columns` that the loops read, under the same names."""

    copies: Any
    rows: Any
    duration: Any
    before_first: Any
    before: Any
    lag: Any
    gather_first: Any
    gather: Any
    send_first: Any
    initial: Any
    hold: Any
    latency: Any
    route_first: Any
    route: Any
    shared: Any
    lane_first: Any
    lane: Any


class Marks(NamedTuple):
    """Times of a run, in ticks, as columns; what is not known yet is ``-1``, or ``-2 - u`` if unit ``u`` waits for it.

    Attributes:
        ends: Per item; ``row * copies + copy`` (see :class:`alrsim.schedule.lane_columns.Columns`).
        sent: Per message, when it began to occupy its first channel.
        arrived: Per message, when the receiver had it.
    """

    ends: Any
    sent: Any
    arrived: Any
