"""The event loop: one SimPy process per unit, timeouts for channels, counters for what an item still waits for.

Rules of an instant, in order (tested in tests/spec/test_engine_ties.py):

1. Everything that ends or arrives at time t has ended or arrived before anything is granted at t, tasks of zero
   duration that this sets off included.
2. Messages that ask for a channel at t join its queue in the order of their index: messages of buffers that exist
   from the start first, then by (sending unit, position in its lane, target unit, buffer).
3. Units that ask for a shared core at t join its queue in the order of their index.
4. Whatever a grant of 2 or 3 sets off at t itself (a hold of zero, a task of zero duration) starts over at 1.

So the result depends on the lowered schedule alone, never on the order in which events were queued.
"""

from collections.abc import Generator, Sequence
from typing import cast

from simpy import Environment, Event, Resource

from alrsim.errors import DeadlockError
from alrsim.schedule.event_graph import Times
from alrsim.schedule.lower import Lowered
from alrsim.simulation.contention import Neighbours
from alrsim.simulation.network import Network
from alrsim.simulation.tie_rule import Desk
from alrsim.tasks.problem import Semantics
from alrsim.tasks.token import NONE


def run(
    lowered: Lowered,
    *,
    semantics: Semantics = "link",
    cores: int | None = None,
    stretch: Sequence[tuple[int, ...]] | None = None,
) -> Times:
    """Simulate a lowered schedule.

    Args:
        semantics: What a transfer occupies; see :func:`alrsim.simulation.engine.simulate`.
        cores: How many units can compute at the same moment; ``None``: all.
        stretch: Per item, its ticks beside 0, 1, ... units at work (:mod:`alrsim.simulation.contention`), instead of
            the durations of the lowered schedule.

    Raises:
        DeadlockError: if the lanes wait for each other; names the item at which each stopped.
    """
    env = Environment()
    lanes = _Lanes(env, lowered, semantics, cores, stretch)
    for unit in range(len(lowered.lanes)):
        env.process(lanes.work(unit))
    for index, message in enumerate(lowered.messages):
        if message.source != NONE:
            break  # messages of buffers that exist from the start come first
        lanes.network.send(index)
    env.run()
    lanes.require_finished()
    return Times(lanes.starts, lanes.ends, lanes.network.started, lanes.network.arrived)


class _Lanes:
    """The units: each runs its lane in order, an item as soon as all that it waits for is there."""

    def __init__(
        self,
        env: Environment,
        lowered: Lowered,
        semantics: Semantics,
        cores: int | None,
        stretch: Sequence[tuple[int, ...]] | None,
    ) -> None:
        items = len(lowered.duration)
        self.starts, self.ends = [NONE] * items, [NONE] * items
        self._env, self._lowered, self._blocking = env, lowered, semantics == "blocking"
        self._missing, self._successors = _counters(lowered)
        self._asleep: dict[int, Event] = {}
        self._neighbours = None if stretch is None else Neighbours(env, stretch, len(lowered.lanes))
        self._cores = Resource(env, cores) if cores is not None and cores < len(lowered.lanes) else None
        self._turns: dict[int, Event] = {}
        self._desk = Desk(env, lambda unit: self._turns.pop(unit).succeed())
        self.network = Network(env, lowered.messages, len(lowered.channels), self._deliver, semantics)

    def work(self, unit: int) -> Generator[Event, None, None]:
        """The process of one unit."""
        env, missing, sends, cores = self._env, self._missing, self._lowered.sends, self._cores
        neighbours = self._neighbours
        for item in self._lowered.lanes[unit]:
            if missing[item]:
                self._asleep[item] = wake = env.event()
                yield wake
            if cores is not None:
                self._turns[unit] = turn = env.event()
                self._desk.submit(unit)
                yield turn
                core = cores.request()
                yield core
            self.starts[item] = cast(int, env.now)
            if neighbours is not None:
                yield from neighbours.hold(unit, item)
            elif duration := self._lowered.duration[item]:
                yield env.timeout(duration)
            self.ends[item] = cast(int, env.now)
            if cores is not None:
                cores.release(core)
            for successor in self._successors[item]:
                self._count_down(successor)
            if self._blocking:
                yield from self._send_in_turn(item)
            else:
                for message in sends[item]:
                    self.network.send(message)

    def _send_in_turn(self, item: int) -> Generator[Event, None, None]:
        for message in self._lowered.sends[item]:
            left = self.network.leave(message)
            self.network.send(message)
            if left is not None:
                yield left

    def _deliver(self, message: int) -> None:
        for reader in self._lowered.messages[message].readers:
            self._count_down(reader)

    def _count_down(self, item: int) -> None:
        missing = self._missing
        missing[item] -= 1
        if not missing[item] and item in self._asleep:
            self._asleep.pop(item).succeed()

    def require_finished(self) -> None:
        """Raise if any lane still waits after the last event."""
        if not self._asleep:
            return
        stuck = ", ".join(f"lane {self._lowered.unit[item]} at item {item}" for item in sorted(self._asleep))
        raise DeadlockError(f"the lanes wait for each other: {stuck}", fix="check the schedule to see the cycle")


def _counters(lowered: Lowered) -> tuple[list[int], list[list[int]]]:
    """Per item, how many things it waits for besides its place in the lane, and which items wait for it."""
    missing = [len(needs) for needs in lowered.needs]
    successors: list[list[int]] = [[] for _ in missing]
    unit = lowered.unit
    for item, preds in enumerate(lowered.preds):
        for other in preds:
            # Items are numbered in lane order, so a smaller one of the same unit is done before this one is looked at.
            if other > item or unit[other] != unit[item]:
                successors[other].append(item)
                missing[item] += 1
    return missing, successors
