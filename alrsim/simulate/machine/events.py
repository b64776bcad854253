"""The event loop of :mod:`alrsim.simulate.run` and :mod:`alrsim.simulate.network` on arrays.

The same rules of an instant: everything that ends or arrives at time t has ended or arrived before anything is granted
at t; then messages that ask for a shared channel at t join its queue in the order of (position of the sender's item in
the lanes, message), those that are there from the start first; whatever that sets off at t itself starts over.
"""

from typing import Any, NamedTuple

import numpy as np

from alrsim.estimators.kernels.machine.compile import machine_code
from alrsim.simulate.machine.scan import scan, scan_all
from alrsim.simulate.machine.tables import Lanes, Tables, Times

_EVENTS, _ASKED, _AWAKE = range(3)


class State(NamedTuple):
    """What changes while time runs.

    Attributes:
        count: How many events, requests and units that may go on there are.
        when: Heap of events: times.
        what: A unit that ends its item; ``units + c``: channel ``c`` is left; ``units + channels + m``: message ``m``
            is there.
        asked: Messages that ask for a shared channel at this instant.
        awake: Units that may go on at this instant.
        rank: Per message, its place among those that ask at one instant.
        hops: Per message, channels that it has left.
        holder: Message on each channel, -1 for none.
        first: First of each channel's queue, -1 for none.
        final: Last of it.
        behind: Per message, the next of its queue.
        sending: Per unit, the next message that a blocked sender sends, -1 for none.
    """

    count: Any
    when: Any
    what: Any
    asked: Any
    awake: Any
    rank: Any
    hops: Any
    holder: Any
    first: Any
    final: Any
    behind: Any
    sending: Any


@machine_code
def loop(tables: Tables, blocking: bool, times: Times) -> int:
    """Fill the times; returns how many items ran (fewer than all: a deadlock)."""
    units, channels, messages = len(tables.lane_first) - 1, len(tables.shared), len(times.arrived)
    lanes = Lanes(
        tables.lane_first[:-1].copy(),
        np.zeros(units, np.int64),
        np.zeros(units, np.int64),
        np.full(units, -1, np.int64),
    )
    events = units + channels + messages
    state = State(
        np.zeros(3, np.int64),
        np.empty(events, np.int64),
        np.empty(events, np.int64),
        np.empty(messages, np.int64),
        np.empty(units, np.int64),
        np.empty(messages, np.int64),
        np.zeros(messages, np.int8),
        np.full(channels, -1, np.int64),
        np.full(channels, -1, np.int64),
        np.full(channels, -1, np.int64),
        np.full(messages, -1, np.int64),
        np.full(units, -1, np.int64),
    )
    now, done = 0, 0
    for order in range(len(tables.initial)):
        index = tables.initial[order]
        state.rank[index] = order
        _move(tables, times, lanes, state, index, now)
    for unit in range(units):
        state.awake[unit] = units - 1 - unit
    state.count[_AWAKE] = units
    while True:
        if state.count[_AWAKE]:
            state.count[_AWAKE] -= 1
            _go_on(tables, times, lanes, state, state.awake[state.count[_AWAKE]], now, blocking)
        elif state.count[_EVENTS] and state.when[0] == now:
            what = _pop(state)
            if what < units:
                done += 1
                _finish(tables, times, lanes, state, what, now, blocking)
            elif what < units + channels:
                _leave(tables, times, lanes, state, what - units, now, blocking)
            else:
                times.arrived[what - units - channels] = _wake(
                    lanes, state, times.arrived[what - units - channels], now
                )
        elif state.count[_ASKED]:
            _serve(tables, times, state, now)
        elif state.count[_EVENTS]:
            now = state.when[0]
        else:
            return done


@machine_code
def _go_on(tables: Tables, times: Times, lanes: Lanes, state: State, unit: int, now: int, blocking: bool) -> None:
    """Send what is left to send, then begin the next item if it has all that it waits for."""
    limit = tables.rows * tables.copies
    position = lanes.cursor[unit]
    if state.sending[unit] >= 0:
        _send(tables, times, lanes, state, unit, now, blocking)
        return
    if position == tables.lane_first[unit + 1]:
        return
    item = tables.lane[position]
    if item < limit:
        row = item // tables.copies
        ready = scan(tables, times, lanes, unit, row, item - row * tables.copies)
    else:
        row = tables.rows + item - limit
        ready = scan_all(tables, times, lanes, unit, item - limit)
    if ready:
        lanes.scanned[unit] = 0
        _push(state, now + tables.duration[row], unit)


@machine_code
def _finish(tables: Tables, times: Times, lanes: Lanes, state: State, unit: int, now: int, blocking: bool) -> None:
    """A unit's item has ended: tell who waits for it, and send what it made."""
    limit = tables.rows * tables.copies
    item = tables.lane[lanes.cursor[unit]]
    row = item // tables.copies if item < limit else tables.rows + item - limit
    times.ends[item] = _wake(lanes, state, times.ends[item], now)
    state.sending[unit] = tables.send_first[row]
    _send(tables, times, lanes, state, unit, now, blocking)


@machine_code
def _send(tables: Tables, times: Times, lanes: Lanes, state: State, unit: int, now: int, blocking: bool) -> None:
    """Hand over the messages of the item at the cursor, all at once or, blocking, as far as the first that waits."""
    limit = tables.rows * tables.copies
    position = lanes.cursor[unit]
    item = tables.lane[position]
    row = item // tables.copies if item < limit else tables.rows + item - limit
    copy = item - row * tables.copies if item < limit else 0
    while state.sending[unit] < tables.send_first[row + 1]:
        message = state.sending[unit]
        state.sending[unit] += 1
        index = message * tables.copies + copy
        state.rank[index] = ((position + 1) << 32) + message
        _move(tables, times, lanes, state, index, now)
        if blocking and tables.route_first[message] < tables.route_first[message + 1]:
            return
    state.sending[unit] = -1
    lanes.cursor[unit] = position + 1
    state.awake[state.count[_AWAKE]] = unit
    state.count[_AWAKE] += 1


@machine_code
def _move(tables: Tables, times: Times, lanes: Lanes, state: State, index: int, now: int) -> None:
    """A message's next step: ask for the next channel, or travel to its target."""
    message = index // tables.copies
    hop = tables.route_first[message] + state.hops[index]
    if hop < tables.route_first[message + 1]:
        channel = tables.route[hop]
        if tables.shared[channel]:
            state.asked[state.count[_ASKED]] = index
            state.count[_ASKED] += 1
        else:
            _enqueue(tables, times, state, channel, index, now)
        return
    if state.hops[index] == 0:
        times.sent[index] = now
    if tables.latency[message]:
        units, channels = len(tables.lane_first) - 1, len(tables.shared)
        _push(state, now + tables.latency[message], units + channels + index)
    else:
        times.arrived[index] = _wake(lanes, state, times.arrived[index], now)


@machine_code
def _enqueue(tables: Tables, times: Times, state: State, channel: int, index: int, now: int) -> None:
    if state.first[channel] < 0:
        state.first[channel] = index
    else:
        state.behind[state.final[channel]] = index
    state.final[channel] = index
    if state.holder[channel] < 0:
        _occupy(tables, times, state, channel, now)


@machine_code
def _occupy(tables: Tables, times: Times, state: State, channel: int, now: int) -> None:
    index = state.first[channel]
    state.first[channel], state.behind[index] = state.behind[index], -1
    state.holder[channel] = index
    if state.hops[index] == 0:
        times.sent[index] = now
    _push(state, now + tables.hold[index // tables.copies], len(tables.lane_first) - 1 + channel)


@machine_code
def _leave(tables: Tables, times: Times, lanes: Lanes, state: State, channel: int, now: int, blocking: bool) -> None:
    """A message has left a channel: the next one takes it; a blocked sender goes on."""
    index = state.holder[channel]
    state.holder[channel] = -1
    if state.first[channel] >= 0:
        _occupy(tables, times, state, channel, now)
    state.hops[index] += 1
    if blocking and state.hops[index] == 1 and state.rank[index] >= 1 << 32:
        position = (state.rank[index] >> 32) - 1
        unit = np.searchsorted(tables.lane_first, position, side="right") - 1
        state.awake[state.count[_AWAKE]] = unit
        state.count[_AWAKE] += 1
    _move(tables, times, lanes, state, index, now)


@machine_code
def _serve(tables: Tables, times: Times, state: State, now: int) -> None:
    """Let the messages that have asked join their queues in the order of their rank."""
    batch = state.asked[: state.count[_ASKED]].copy()
    state.count[_ASKED] = 0
    for order in np.argsort(state.rank[batch]):
        index = batch[order]
        channel = tables.route[tables.route_first[index // tables.copies] + state.hops[index]]
        _enqueue(tables, times, state, channel, index, now)


@machine_code
def _wake(lanes: Lanes, state: State, value: int, now: int) -> int:
    """Wake every unit in the list behind a value that is known now; returns the value."""
    woken = -2 - value
    while woken >= 0:
        state.awake[state.count[_AWAKE]] = woken
        state.count[_AWAKE] += 1
        woken = lanes.waiting[woken]
    return now


@machine_code
def _push(state: State, time: int, what: int) -> None:
    hole = state.count[_EVENTS]
    state.count[_EVENTS] += 1
    while hole and state.when[(hole - 1) // 2] > time:
        state.when[hole], state.what[hole] = state.when[(hole - 1) // 2], state.what[(hole - 1) // 2]
        hole = (hole - 1) // 2
    state.when[hole], state.what[hole] = time, what


@machine_code
def _pop(state: State) -> int:
    top = state.what[0]
    state.count[_EVENTS] -= 1
    size = state.count[_EVENTS]
    time, what = state.when[size], state.what[size]
    hole, child = 0, 1
    while child < size:
        if child + 1 < size and state.when[child + 1] < state.when[child]:
            child += 1
        if state.when[child] >= time:
            break
        state.when[hole], state.what[hole] = state.when[child], state.what[child]
        hole, child = child, 2 * child + 1
    state.when[hole], state.what[hole] = time, what
    return int(top)
