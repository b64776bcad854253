"""Lanes, tasks and messages as numpy columns: what the fast engine runs.

Two ways lead here: a lowered schedule, one row per item; or a step of equal micro-batches with its lanes, one row per
task of a micro-batch, whatever their number. Messages are numbered as in the lowered schedule: those of buffers that
exist from the start first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from alrsim.allocation import collector_paused
from alrsim.schedule.lower import Lowered, Message, shared_channels, slow_channels
from alrsim.tasks.problem import Semantics
from alrsim.tasks.token import NONE

Ticks = npt.NDArray[np.int64]
Index = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Columns:
    """Everything that an engine needs, as arrays. A row is repeated ``copies`` times; see the module.

    Attributes:
        copies: Micro-batches; item ``row * copies + copy``. 1 for a lowered schedule.
        rows: Rows that are repeated; those behind them are there once and wait for every copy of what they wait for.
        unit: Per row.
        duration: Ticks per row.
        before_first: ``before[before_first[r]:before_first[r + 1]]`` is what a repeated row waits for.
        before: A row, or ``-1 - m`` for message ``m``.
        lag: Ticks from the end of that row to the earliest start; 0 for messages.
        gather_first: The same for rows that are there once; every copy of rows only.
        gather: Rows.
        send_first: ``range(send_first[r], send_first[r + 1])`` are the messages of row ``r``.
        initial: Messages that are there from the start, one for each copy, as ``message * copies + copy`` in the
            order in which they leave.
        hold: Ticks for which a message occupies each channel of its route.
        latency: Ticks from leaving the last channel to arrival.
        route_first: ``route[route_first[m]:route_first[m + 1]]`` are the channels that message ``m`` occupies.
        route: Channels that may be occupied for some time.
        source: Row that makes the message, ``NONE`` if it is there from the start.
        channels: How many there are.
        shared: Per channel, whether messages from several units or channels may ask for it at the same instant.
        lane_first: ``lane[lane_first[u]:lane_first[u + 1]]`` are the items of unit ``u`` in order.
        lane: Items.
    """

    copies: int
    rows: int
    unit: Index
    duration: Ticks
    before_first: Ticks
    before: Index
    lag: Ticks
    gather_first: Ticks
    gather: Index
    send_first: Ticks
    initial: Ticks
    hold: Ticks
    latency: Ticks
    route_first: Ticks
    route: Index
    source: Index
    channels: int
    shared: npt.NDArray[np.bool_]
    lane_first: Ticks
    lane: Index

    def __len__(self) -> int:
        return len(self.lane)

    @property
    def messages(self) -> int:
        """Rows of messages; each stands for ``copies`` of them."""
        return len(self.hold)

    @property
    def contended(self) -> bool:
        """Whether some order on a channel depends on the clock, so that only an event loop is exact."""
        return bool(self.shared.any())


@collector_paused()
def columns_of(lowered: Lowered, semantics: Semantics) -> Columns:
    """A lowered schedule as columns, one row per item."""
    items = len(lowered.duration)
    needs: list[list[int]] = []
    lags: list[list[int]] = []
    unit = lowered.unit
    latent = semantics == "latency"
    delay = [message.delay if latent else 0 for message in lowered.messages]
    sources = [message.source for message in lowered.messages]
    for item, (preds, messages) in enumerate(zip(lowered.preds, lowered.needs, strict=True)):
        # Items are numbered in lane order: a smaller one of the same unit is done before this one is looked at.
        need = [other for other in preds if other > item or unit[other] != unit[item]]
        lag = [0] * len(need)
        for message in messages:
            direct = latent and sources[message] != NONE
            need.append(sources[message] if direct else -1 - message)
            lag.append(delay[message] if direct else 0)
        needs.append(need)
        lags.append(lag)
    lane_first = offsets([len(lane) for lane in lowered.lanes])
    return assemble(
        1,
        items,
        unit,
        lowered.duration,
        needs,
        lags,
        [],
        lowered.messages,
        [index for index, source in enumerate(sources) if source == NONE],
        len(lowered.channels),
        semantics,
        lane_first,
        np.fromiter(chain.from_iterable(lowered.lanes), dtype=np.int32, count=items),
    )


def assemble(
    copies: int,
    rows: int,
    unit: Sequence[int],
    duration: Sequence[int] | Ticks,
    needs: list[list[int]],
    lags: list[list[int]],
    gathers: list[list[int]],
    ways: Sequence[Message],
    initial: list[int],
    channels: int,
    semantics: Semantics,
    lane_first: Ticks,
    lane: Index,
) -> Columns:
    """Columns from lists per row; ``needs`` and ``lags`` of rows that are repeated, ``gathers`` of the others.

    Args:
        ways: The messages; their sources are rows.
    """
    latent = semantics == "latency"
    slow = slow_channels(ways, semantics)
    routes = [[channel for channel in way.route if channel in slow] for way in ways]
    latency = [way.delay if latent else way.latency for way in ways]
    sends = np.bincount([way.source for way in ways if way.source != NONE], minlength=len(unit))
    send_first = offsets(sends if not latent else sends * 0)
    if not latent:
        send_first += sum(way.source == NONE for way in ways)
    return Columns(
        copies,
        rows,
        np.array(unit, dtype=np.int32),
        np.asarray(duration, dtype=np.int64),
        offsets([len(need) for need in needs]),
        _flat(needs).astype(np.int32),
        _flat(lags),
        offsets([len(row) for row in gathers]),
        _flat(gathers).astype(np.int32),
        send_first,
        np.array(initial, dtype=np.int64),
        np.array([way.hold for way in ways], dtype=np.int64),
        np.array(latency, dtype=np.int64),
        offsets([len(route) for route in routes]),
        _flat(routes).astype(np.int32),
        np.array([way.source for way in ways], dtype=np.int32),
        channels,
        np.array(shared_channels(ways, routes, channels), dtype=np.bool_),
        lane_first,
        lane,
    )


def offsets(counts: Sequence[int] | Ticks) -> Ticks:
    """Where each of rows of so many members begins among the members of all, and where the last ends."""
    first = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(np.asarray(counts, dtype=np.int64), out=first[1:])
    return first


def _flat(rows: list[list[int]]) -> Ticks:
    return np.fromiter(chain.from_iterable(rows), dtype=np.int64)
