"""The event loop of :mod:`alrsim.simulation.run` and :mod:`alrsim.simulation.network` on arrays.

The same rules of an instant: everything that ends or arrives at time t has ended or arrived before anything is granted
at t; then messages that ask for a shared channel at t join its queue in the order of (position of the sender's item in
the lanes, message), those that are there from the start first; whatever that sets off at t itself starts over.

Every turn of the loop does the first of these that there is to do:

1. give a vacant channel to the first of its queue;
2. move a message on: into the queue of a channel with one feeder, among those that ask for a shared one, or on its way;
3. let the next of those that have asked join its queue;
4. let a unit go on: send, or begin its next item if all is there that it waits for, else wait behind what is not;
5. take an event of this instant; 6. sort those that have asked; 7. go to the next instant.
"""

import numpy as np

from alrsim.compiled import machine_code
from alrsim.simulation.machine.tables import Marks, Tables


@machine_code
def loop(tables: Tables, blocking: bool, times: Marks) -> int:  # noqa: C901 - one function: calls take long to compile
    """Fill the times; returns how many items ran (fewer than all: a deadlock).

    An event is a unit that ends its item; ``units + c``: channel ``c`` is left; ``units + channels + m``: message ``m``
    is there.
    """
    ends, sent, arrived = times.ends, times.sent, times.arrived
    copies, send_first, route_first, route = tables.copies, tables.send_first, tables.route_first, tables.route
    lane_first, lane, shared = tables.lane_first, tables.lane, tables.shared
    keep = len(sent) > 0
    units, channels, messages = len(lane_first) - 1, len(shared), len(arrived)
    limit = tables.rows * copies
    cursor = lane_first[:-1].copy()
    scanned = np.zeros(units, np.int64)  # predecessors of the item at the cursor that are known already
    waiting = np.full(units, -1, np.int64)  # the next unit behind the same value
    sending = np.full(units, -1, np.int64)  # the next message of the item that has just ended
    awake, ready = np.arange(units)[::-1].copy(), units
    holder = np.full(channels, -1, np.int64)
    first = np.full(channels, -1, np.int64)
    final = np.full(channels, -1, np.int64)
    behind = np.full(messages, -1, np.int64)  # the next message of a channel's queue
    hops = np.zeros(messages, np.int8)
    rank = np.zeros(messages, np.int64)
    moving, movers = np.empty(messages, np.int64), 0
    asked, askers = np.empty(messages, np.int64), 0
    batch, served = asked[:0].copy(), 0
    when = np.empty(units + channels + messages, np.int64)
    what = np.empty(units + channels + messages, np.int64)
    events, now, done, vacant = 0, 0, 0, -1
    for order in range(len(tables.initial)):
        rank[tables.initial[order]] = order
        moving[len(tables.initial) - 1 - order] = tables.initial[order]
    movers = len(tables.initial)
    while True:
        time, new = -1, -1  # an event that follows
        woken = -1  # the first of a list of units
        joins = -1  # a message that joins a queue
        if vacant >= 0:
            index = first[vacant]
            if holder[vacant] < 0 and index >= 0:
                first[vacant], behind[index] = behind[index], -1
                holder[vacant] = index
                if keep and hops[index] == 0:
                    sent[index] = now
                time, new = now + tables.hold[index // copies], units + vacant
            vacant = -1
        elif movers:
            movers -= 1
            index = moving[movers]
            message = index // copies
            hop = route_first[message] + hops[index]
            if hop == route_first[message + 1]:
                if keep and hops[index] == 0:
                    sent[index] = now
                if tables.latency[message]:
                    time, new = now + tables.latency[message], units + channels + index
                else:
                    woken = -2 - arrived[index]
                    arrived[index] = now
            elif shared[route[hop]]:
                asked[askers] = index
                askers += 1
            else:
                joins = index
        elif served < len(batch):
            joins = batch[served]
            served += 1
        elif ready:
            ready -= 1
            unit = awake[ready]
            position = cursor[unit]
            if position == lane_first[unit + 1]:
                continue
            item = np.int64(lane[position])
            row = item // copies if item < limit else tables.rows + item - limit
            copy = item - row * copies if item < limit else 0
            if sending[unit] >= 0:
                message, last = sending[unit], send_first[row + 1]
                if blocking and message < last:
                    moving[0] = message * copies + copy
                    rank[moving[0]] = ((position + 1) << 32) + message
                    movers = 1
                    sending[unit] += 1
                    if route_first[message] < route_first[message + 1]:
                        continue  # the unit goes on when the message has left its first channel
                else:
                    movers = last - message
                    for place in range(movers):
                        moving[place] = (last - 1 - place) * copies + copy
                        rank[moving[place]] = ((position + 1) << 32) + last - 1 - place
                    sending[unit] = -1
                    cursor[unit] = position + 1
                awake[ready] = unit
                ready += 1
                continue
            step = scanned[unit]
            missing = False
            if item < limit:
                base = tables.before_first[row]
                last = tables.before_first[row + 1] - base
            else:
                base = tables.gather_first[item - limit]
                last = (tables.gather_first[item - limit + 1] - base) * copies
            while step < last and not missing:
                if item < limit:
                    other = np.int64(tables.before[base + step])
                else:
                    other = np.int64(tables.gather[base + step // copies])
                    copy = step % copies
                if other >= 0:
                    value = ends[other * copies + copy]
                    if value < 0:
                        ends[other * copies + copy] = -2 - unit
                else:
                    value = arrived[(-1 - other) * copies + copy]
                    if value < 0:
                        arrived[(-1 - other) * copies + copy] = -2 - unit
                if value < 0:
                    waiting[unit] = -2 - value if value < -1 else -1
                    missing = True
                else:
                    step += 1
            scanned[unit] = step if missing else 0
            if not missing:
                time, new = now + tables.duration[row], unit
        elif events and when[0] == now:
            event = what[0]
            events -= 1
            hole, child = 0, 1
            while child < events:
                if child + 1 < events and when[child + 1] < when[child]:
                    child += 1
                if when[child] >= when[events]:
                    break
                when[hole], what[hole] = when[child], what[child]
                hole, child = child, 2 * child + 1
            when[hole], what[hole] = when[events], what[events]
            if event < units:
                item = np.int64(lane[cursor[event]])
                row = item // copies if item < limit else tables.rows + item - limit
                woken = -2 - ends[item]
                ends[item] = now
                sending[event] = send_first[row]
                awake[ready] = event
                ready += 1
                done += 1
            elif event < units + channels:
                vacant = event - units
                index = holder[vacant]
                holder[vacant] = -1
                hops[index] += 1
                moving[0] = index
                movers = 1
                if blocking and hops[index] == 1 and rank[index] >= 1 << 32:
                    sender = np.searchsorted(lane_first, (rank[index] >> 32) - 1, side="right") - 1
                    awake[ready] = sender
                    ready += 1
            else:
                woken = -2 - arrived[event - units - channels]
                arrived[event - units - channels] = now
        elif askers:
            batch = asked[:askers].copy()
            batch = batch[np.argsort(rank[batch])]
            askers, served = 0, 0
        elif events:
            now = when[0]
        else:
            return done
        while woken >= 0:
            awake[ready] = woken
            ready += 1
            woken = waiting[woken]
        if joins >= 0:
            vacant = route[route_first[joins // copies] + hops[joins]]
            if first[vacant] < 0:
                first[vacant] = joins
            else:
                behind[final[vacant]] = joins
            final[vacant] = joins
        if time >= 0:
            hole = events
            events += 1
            while hole and when[(hole - 1) // 2] > time:
                when[hole], what[hole] = when[(hole - 1) // 2], what[(hole - 1) // 2]
                hole = (hole - 1) // 2
            when[hole], what[hole] = time, new
