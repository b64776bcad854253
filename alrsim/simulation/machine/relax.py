"""Longest path over lanes, links included: exact wherever every channel has one feeder, in one sweep without a clock.

A unit runs its lane in a fixed order, so a channel that one unit (or one other channel) feeds gets its messages in a
fixed order, too: first in, first out is then a recurrence and needs no events,

    sent(m) = max(asked(m), freed(channel))        freed(channel) = sent(m) + hold(m)

Units are taken in turn; each runs until something that it waits for is not known yet.
"""

import numpy as np

from alrsim.compiled import machine_code
from alrsim.simulation.machine.tables import Marks, Tables


@machine_code
def relax(tables: Tables, blocking: bool, times: Marks) -> int:  # noqa: C901 - one function: calls would cost more
    """Fill the times; returns how many items ran (fewer than all: a deadlock)."""
    ends, sent, arrived = times.ends, times.sent, times.arrived
    keep = len(sent) > 0
    duration, before_first, before, lag = tables.duration, tables.before_first, tables.before, tables.lag
    gather_first, gather, send_first = tables.gather_first, tables.gather, tables.send_first
    hold, latency, route_first, route = tables.hold, tables.latency, tables.route_first, tables.route
    lane_first, lane = tables.lane_first, tables.lane
    copies, rows, units = np.uint64(tables.copies), np.uint64(tables.rows), len(lane_first) - 1
    limit = rows * copies
    cursor = lane_first[:-1].copy()
    scanned = np.zeros(units, np.uint64)  # predecessors of the item at the cursor that are known already,
    known = np.zeros(units, np.int64)  # and the latest of them
    free = np.zeros(units, np.int64)
    waiting = np.full(units, -1, np.int64)
    freed = np.zeros(len(tables.shared), np.int64)
    for at in tables.initial:
        message = at // tables.copies
        now = 0
        for hop in range(route_first[message], route_first[message + 1]):
            now = max(now, freed[route[hop]])
            if keep and hop == route_first[message]:
                sent[at] = now
            now += hold[message]
            freed[route[hop]] = now
        if keep and route_first[message] == route_first[message + 1]:
            sent[at] = 0
        arrived[at] = now + latency[message]
    queue = np.arange(units)
    head, count, done = 0, units, 0
    one = np.uint64(1)
    while count:
        unit = queue[head]
        head = head + 1 if head + 1 < units else 0
        count -= 1
        position, stop = np.uint64(cursor[unit]), np.uint64(lane_first[unit + 1])
        start, step, now = known[unit], scanned[unit], free[unit]
        begun = position
        while position < stop:
            item = np.uint64(lane[position])
            value = np.int64(0)
            if item < limit:
                row = item // copies
                copy = item - row * copies
                base = np.uint64(before_first[row])
                last = np.uint64(before_first[row + one])
                step += base
                while step < last:
                    other = np.int64(before[step])
                    if other >= 0:
                        index = np.uint64(other) * copies + copy
                        value = ends[index]
                        if value < 0:
                            waiting[unit] = -2 - value if value < -1 else -1
                            ends[index] = -2 - unit
                            break
                        value += lag[step]
                    else:
                        index = np.uint64(-1 - other) * copies + copy
                        value = arrived[index]
                        if value < 0:
                            waiting[unit] = -2 - value if value < -1 else -1
                            arrived[index] = -2 - unit
                            break
                    start = max(start, value)
                    step += one
                step -= base
            else:
                row = rows + item - limit
                copy = np.uint64(0)
                base = np.uint64(gather_first[item - limit])
                last = (np.uint64(gather_first[item - limit + one]) - base) * copies
                while step < last:
                    index = np.uint64(gather[base + step // copies]) * copies + step % copies
                    value = ends[index]
                    if value < 0:
                        waiting[unit] = -2 - value if value < -1 else -1
                        ends[index] = -2 - unit
                        break
                    start = max(start, value)
                    step += one
            if value < 0:
                break
            now = max(start, now) + duration[row]
            start, step = np.int64(0), np.uint64(0)
            position += one
            woken = -2 - ends[item]
            ends[item] = now
            while woken >= 0:
                place = head + count
                queue[place if place < units else place - units] = woken
                count += 1
                woken = waiting[woken]
            message = np.uint64(send_first[row])
            final = np.uint64(send_first[row + one])
            while message < final:
                index = message * copies + copy
                first, after = np.uint64(route_first[message]), np.uint64(route_first[message + one])
                time = now
                if first < after:
                    held = hold[message]
                    channel = route[first]
                    time = max(time, freed[channel])
                    if keep:
                        sent[index] = time
                    time += held
                    freed[channel] = time
                    if blocking:
                        now = time
                    first += one
                    while first < after:
                        channel = route[first]
                        time = max(time, freed[channel]) + held
                        freed[channel] = time
                        first += one
                elif keep:
                    sent[index] = time
                woken = -2 - arrived[index]
                arrived[index] = time + latency[message]
                while woken >= 0:
                    place = head + count
                    queue[place if place < units else place - units] = woken
                    count += 1
                    woken = waiting[woken]
                message += one
        known[unit], scanned[unit], free[unit] = start, step, now
        done += int(position - begun)
        cursor[unit] = position
    return done
