"""How schedules are run for real: executor and limits, checked before anything slow; what a stopped run leaves."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from alrsim.cli.parse import choose
from alrsim.errors import OptionError

if TYPE_CHECKING:
    from alrsim.execute.session import Limits


@dataclass(frozen=True)
class Running:
    """What was typed about running.

    Attributes:
        executor: One of :data:`alrsim.execute.executors.EXECUTORS`.
        limit: Longest time without any task beginning or ending, in seconds; ``None``: the default.
    """

    executor: str = "threads"
    limit: float | None = None

    @property
    def limits(self) -> "Limits":
        from alrsim.execute.session import Limits

        return Limits() if self.limit is None else replace(Limits(), task_seconds=self.limit)


def check_running(executor: str, limit: float | None) -> Running:
    """The options ``--executor`` and ``--limit``, if this host can do what they say.

    Raises:
        OptionError: an unknown executor, one that this host cannot run (says why), or a limit that is no time.
    """
    from alrsim.execute.executors import EXECUTORS, unavailable

    choose(executor, EXECUTORS, where="--executor", what="executor")
    if reason := unavailable(executor):
        others = [name for name in EXECUTORS if not unavailable(name)]
        raise OptionError(f"{executor} cannot run here: {reason}", where="--executor", fix=f"use {' or '.join(others)}")
    running = Running(executor, limit)
    _ = running.limits
    return running
