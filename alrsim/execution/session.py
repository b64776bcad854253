"""What every executor is: it takes jobs, and gives a session in which they are run, as often as asked.

An executor is opened once for all jobs of a comparison, so that they can be run in turn on the same workers.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from alrsim.errors import ExecutionError, OptionError
from alrsim.execution.prepared import Scheduled
from alrsim.execution.workers.thread_workers import Times
from alrsim.timeline.facts import Facts
from alrsim.timeline.timeline import Timeline, TransferSpan
from alrsim.units import Bytes, Ns

MOST_SECONDS = 1e6
"""Longest time that may be waited for; clocks of the host overflow far above."""


@dataclass(frozen=True)
class Limits:
    """How long to wait before a run is given up.

    Attributes:
        task_seconds: Longest time without any task beginning or ending.
        join_seconds: Longest time for all units to join at the start.
    """

    task_seconds: float = 300.0
    join_seconds: float = 60.0

    def __post_init__(self) -> None:
        for seconds in (self.task_seconds, self.join_seconds):
            if not 0 < seconds <= MOST_SECONDS:
                words = "must be positive" if not seconds > 0 else f"must be at most {MOST_SECONDS:g}"
                raise OptionError(f"is {seconds:g} s, {words}", field="limit")


@dataclass(frozen=True)
class Record:
    """When everything of one run happened.

    Attributes:
        times: Of every task, in ns after the common start; a task that did not run has -1.
        transfers: What crossed units; ``None``: everything was handed over by reference.
    """

    times: Times
    transfers: tuple[TransferSpan, ...] | None = None


@dataclass(frozen=True)
class Results:
    """What a run computed.

    Attributes:
        gradients: Of the step's mean loss, by parameter.
        buffers: Running statistics after the step, by name.
        parameters: After the step's update (equal to the program's own where updates are no tasks).
        losses: Per-sample losses by loss token, ``(copies, samples)``.
        sigma_gradients: With respect to log sigma, by stage, where it was asked for.
    """

    gradients: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    parameters: Mapping[str, Tensor]
    losses: Mapping[str, Tensor]
    sigma_gradients: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One message between two units, in ns after the sender began.

    Attributes:
        send_ns: When the sender was free again.
        arrive_ns: When the receiver, who was waiting, had it.
    """

    send_ns: Ns
    arrive_ns: Ns


class RunError(ExecutionError):
    """A run that ended early.

    Attributes:
        record: What had happened by then.
        unit: Name of the unit that failed.
        token: Of the task that it was at, or empty.
        timeline: The record as a timeline that says that it is partial.
    """

    def __init__(self, message: str, *, record: Record | None, unit: str = "", token: str = "", fix: str = "") -> None:
        where = ", ".join(part for part in (f"unit {unit}" if unit else "", f"task {token}" if token else "") if part)
        super().__init__(message, where=where or "run", fix=fix)
        self.record, self.unit, self.token = record, unit, token
        self.timeline: Timeline | None = None


class InterruptedRun(KeyboardInterrupt):
    """Ctrl-C during a run.

    Attributes:
        record: What had happened by then.
        timeline: The record as a timeline that says that it is partial.
    """

    def __init__(self, record: Record | None) -> None:
        super().__init__("interrupted")
        self.record = record
        self.timeline: Timeline | None = None


class Session(Protocol):
    """Workers that wait for jobs. Jobs are numbered as they were given to the executor.

    Every method raises :class:`RunError` if a worker fails, and leaves no worker behind then.
    """

    @property
    def facts(self) -> Facts:
        """Of the workers: ``executor``, ``transport``, ``clock``, ``clock_skew_ns``..."""

    def run(self, job: int) -> Record:
        """Carry the job's schedule out once."""

    def results(self, job: int) -> Results:
        """What the job's last run computed."""

    def sample(self, job: int, workers: int) -> list[Times]:
        """The whole step, in reference order, on each of the first ``workers`` units at the same time; they do not
        exchange data. One unit: its neighbours are idle."""

    def exchange(self, source: int, target: int, size: Bytes, repeats: int) -> list[Exchange]:
        """Send a message of ``size`` bytes to a unit that waits for it, ``repeats`` times."""

    def overhead(self, tasks: int) -> Ns:
        """Time per task besides its kernel: of empty tasks on one unit."""


Executor = Callable[[Sequence[Scheduled], Limits], AbstractContextManager[Session]]
