"""The tie rule: requests of one instant are collected and then granted in a fixed order."""

from collections.abc import Callable

from simpy import Environment, Event
from simpy.events import EventPriority

_LATE = EventPriority(2)
"""After every NORMAL (1) event of the instant, those that are scheduled meanwhile included."""


class Desk:
    """Collects the requests of one instant; serves them in ascending order once the instant has settled.

    States: *empty* --submit--> *open* (one late event is scheduled) --late event--> *empty*, every request served.
    A request that arises from serving at the same instant opens the desk again.

    Args:
        serve: Called once per request with its number, which is also its rank among requests of the instant.
    """

    def __init__(self, env: Environment, serve: Callable[[int], object]) -> None:
        self._env = env
        self._serve = serve
        self._open: list[int] = []

    def submit(self, request: int) -> None:
        """Ask to be served at the end of the current instant."""
        if not self._open:
            late = Event(self._env)
            late._ok, late._value = True, None  # triggered at once, as simpy's own Timeout and Initialize are
            late.callbacks.append(self._settle)
            self._env.schedule(late, _LATE)
        self._open.append(request)

    def _settle(self, _late: Event) -> None:
        batch, self._open = sorted(self._open), []
        for request in batch:
            self._serve(request)
