"""Longest path over lanes, links included: exact wherever every channel has one feeder, in one sweep without a clock.

A unit runs its lane in a fixed order, so a channel that one unit (or one other channel) feeds gets its messages in a
fixed order, too: first in, first out is then a recurrence and needs no events,

    sent(m) = max(asked(m), freed(channel))        freed(channel) = sent(m) + hold(m)

Units are taken in turn; each runs until something that it waits for is not known yet.
"""

import numpy as np
import numpy.typing as npt

from alrsim.estimators.kernels.machine.compile import machine_code
from alrsim.simulate.machine.scan import scan, scan_all
from alrsim.simulate.machine.tables import Lanes, Tables, Times


@machine_code
def relax(tables: Tables, blocking: bool, times: Times) -> int:
    """Fill the times; returns how many items ran (fewer than all: a deadlock)."""
    units, limit = len(tables.lane_first) - 1, tables.rows * tables.copies
    known, waiting = np.zeros(units, np.int64), np.full(units, -1, np.int64)
    lanes = Lanes(tables.lane_first[:-1].copy(), np.zeros(units, np.int64), known, waiting)
    freed = np.zeros(len(tables.shared), np.int64)
    free = np.zeros(units, np.int64)
    for index in tables.initial:
        _carry(tables, times, freed, index // tables.copies, index, 0)
    queue = np.arange(units)
    head, count, done = 0, units, 0
    while count:
        unit = queue[head]
        head = head + 1 if head + 1 < units else 0
        count -= 1
        position, stop = lanes.cursor[unit], tables.lane_first[unit + 1]
        while position < stop:
            item = tables.lane[position]
            if item < limit:
                row = item // tables.copies
                copy = item - row * tables.copies
                ready = scan(tables, times, lanes, unit, row, copy)
            else:
                row, copy = tables.rows + item - limit, 0
                ready = scan_all(tables, times, lanes, unit, item - limit)
            if not ready:
                break
            now = max(known[unit], free[unit]) + tables.duration[row]
            known[unit], lanes.scanned[unit] = 0, 0
            position += 1
            woken = -2 - times.ends[item]
            times.ends[item] = now
            while woken >= 0:
                queue[head + count if head + count < units else head + count - units] = woken
                count += 1
                woken = waiting[woken]
            for message in range(tables.send_first[row], tables.send_first[row + 1]):
                index = message * tables.copies + copy
                woken = -2 - times.arrived[index]
                left = _carry(tables, times, freed, message, index, now)
                if blocking:
                    now = left
                while woken >= 0:
                    queue[head + count if head + count < units else head + count - units] = woken
                    count += 1
                    woken = waiting[woken]
            free[unit] = now
        done += position - lanes.cursor[unit]
        lanes.cursor[unit] = position
    return done


@machine_code
def _carry(tables: Tables, times: Times, freed: npt.NDArray[np.int64], message: int, index: int, asked: int) -> int:
    """Send a message at ``asked``; returns when it has left its first channel."""
    now, first = asked, tables.route_first[message]
    left = asked
    times.sent[index] = asked
    for hop in range(first, tables.route_first[message + 1]):
        channel = tables.route[hop]
        now = max(now, freed[channel])
        if hop == first:
            times.sent[index] = now
            left = now + tables.hold[message]
        now += tables.hold[message]
        freed[channel] = now
    times.arrived[index] = now + tables.latency[message]
    return left
