"""Links: every channel serves one message at a time, first in first out."""

from collections import deque
from collections.abc import Callable
from typing import cast

from simpy import Environment, Event

from alrsim.schedule.lower import Message, shared_channels, slow_channels
from alrsim.simulation.tie_rule import Desk
from alrsim.tasks.problem import Semantics


class Network:
    """Carries messages from unit to unit (store and forward) and tells the receiver when they are there.

    A message waits for the first channel of its route, holds it for ``message.hold``, then does the same with the
    next; ``message.latency`` after it has left the last one, it is there. Messages that ask for a channel at the
    same instant get it in the order of their index. Under ``latency`` semantics channels are never contended.

    A channel's states: *vacant* --enqueue--> *busy* (one timeout of ``hold``) --vacate--> *busy* with the next of
    its queue, or *vacant*.

    Args:
        deliver: Called with the index of a message that has arrived.

    Attributes:
        started: Per message, when it began to occupy the first channel (or left, where no time is spent on any).
        arrived: Per message, when the receiver had it.
    """

    def __init__(
        self,
        env: Environment,
        messages: list[Message],
        channels: int,
        deliver: Callable[[int], None],
        semantics: Semantics,
    ) -> None:
        self.started = [0] * len(messages)
        self.arrived = [0] * len(messages)
        self._env, self._messages, self._deliver = env, messages, deliver
        self._desk = Desk(env, self._enqueue)
        self._hop = [0] * len(messages)
        self._left: dict[int, Event] = {}
        self._queues: list[deque[int]] = [deque() for _ in range(channels)]
        self._busy = [False] * channels
        self._latency = [m.delay if semantics == "latency" else m.latency for m in messages]
        slow = slow_channels(messages, semantics)
        self._routes = [tuple(channel for channel in m.route if channel in slow) for m in messages]
        self._shared = shared_channels(messages, self._routes, channels)

    def send(self, message: int) -> None:
        """Hand a message over; returns at once."""
        if self._routes[message]:
            self._request(message)
        else:
            self.started[message] = cast(int, self._env.now)
            self._travel(message)

    def leave(self, message: int) -> Event | None:
        """An event for when the message has left its first channel; ``None`` if it does not occupy any."""
        if not self._routes[message]:
            return None
        self._left[message] = event = self._env.event()
        return event

    def _request(self, message: int) -> None:
        if self._shared[self._routes[message][self._hop[message]]]:
            self._desk.submit(message)
        else:
            self._enqueue(message)

    def _enqueue(self, message: int) -> None:
        channel = self._routes[message][self._hop[message]]
        self._queues[channel].append(message)
        if not self._busy[channel]:
            self._occupy(channel)

    def _occupy(self, channel: int) -> None:
        self._busy[channel] = True
        message = self._queues[channel].popleft()
        if not self._hop[message]:
            self.started[message] = cast(int, self._env.now)
        # The message rides as the timeout's value: no closure and no process per message.
        self._env.timeout(self._messages[message].hold, message).callbacks.append(self._vacate)

    def _vacate(self, event: Event) -> None:
        message = cast(int, event.value)
        channel = self._routes[message][self._hop[message]]
        if self._queues[channel]:
            self._occupy(channel)
        else:
            self._busy[channel] = False
        self._forward(message)

    def _forward(self, message: int) -> None:
        self._hop[message] += 1
        if self._hop[message] == 1 and message in self._left:
            self._left.pop(message).succeed()
        if self._hop[message] < len(self._routes[message]):
            self._request(message)
        else:
            self._travel(message)

    def _travel(self, message: int) -> None:
        latency = self._latency[message]
        if latency:
            self._env.timeout(latency, message).callbacks.append(self._land)
        else:
            self._arrive(message)

    def _land(self, event: Event) -> None:
        self._arrive(cast(int, event.value))

    def _arrive(self, message: int) -> None:
        self.arrived[message] = cast(int, self._env.now)
        self._deliver(message)
