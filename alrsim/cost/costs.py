"""What was measured of an executor on a host: task times alone and beside busy neighbours, overhead, links, trust."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from statistics import median
from typing import Any

from alrsim.tasks.problem import CostKey, Semantics
from alrsim.units import Bytes, Ns, format_ns

BUSY_SHARE = 0.95
"""Below this share of their cores, tasks were measured beside other programs."""

DRIFT = 0.15
"""From this spread of a reference kernel between turns, the host was not the same machine throughout."""

EXECUTOR_SEMANTICS: Mapping[str, Semantics] = {"processes": "blocking", "torchrun": "blocking"}
"""Transfer semantics of an executor whose sender copies; elsewhere ``link``."""


@dataclass(frozen=True, slots=True)
class LinkFit:
    """One direction between two units: a sender is busy for ``send_ns + bytes / bandwidth``, and ``latency_ns`` after
    that the receiver has the data.

    Attributes:
        bandwidth: Bytes/s; ``None``: a reference is handed over and no bytes move.
        error: Median of |fit / measured - 1| over the sizes, sending and latency together.
        points: What was measured: ``(bytes, sender busy, usable at the receiver)``, medians in ns.
    """

    source: int
    target: int
    send_ns: Ns
    latency_ns: Ns
    bandwidth: float | None
    error: float = 0.0
    points: tuple[tuple[Bytes, Ns, Ns], ...] = ()


@dataclass(frozen=True, slots=True)
class HostLoad:
    """Whether other programs ran during a calibration.

    Attributes:
        cpu_share: Part of their spans for which tasks had their cores; the rest went to other programs (and to waiting
            inside kernels).
        drift: (slowest - fastest) / median of a reference kernel that was timed before every turn.
    """

    cpu_share: float
    drift: float

    @property
    def busy(self) -> bool:
        return self.cpu_share < BUSY_SHARE or self.drift > DRIFT

    @property
    def words(self) -> str:
        """One sentence with both numbers."""
        word = "the host was busy with other programs" if self.busy else "the host was quiet"
        advice = "; calibrate again on a quiet host before trusting times" if self.busy else ""
        return (
            f"{word} while calibrating: tasks had {self.cpu_share:.0%} of their cores, a reference kernel drifted by "
            f"{self.drift:.0%} between turns{advice}"
        )


@dataclass(frozen=True)
class MeasuredCosts:
    """Costs of one task graph under one executor.

    A key's time in one step is the mean over its tasks; what stands here is the median of that over the repeats. So the
    times of a step add up to the step, as a measured makespan (a median over repeats, too) does; medians over single
    tasks would forget the slow ones, which every step has.

    Attributes:
        isolated: Duration by :func:`alrsim.tasks.problem.cost_key` with idle neighbours, in ns.
        busy: The same with all other units at work; never less.
        dispatch_overhead_ns: Executor time per task besides its kernel.
        links: One fit per direction that was measured.
        executor: Which executor ran the tasks.
        units: Units at work at the same time in the busy phase.
        cores: Cores that the process may use.
        repeats: Steps measured by each worker.
        spread: By key, (upper - lower quartile) / median over the repeats, alone.
        samples: Number of tasks behind each figure of ``busy``.
        host: What else ran meanwhile.
        scratch: By key, bytes that a task allocates and frees inside itself.
        notes: What the reader of a prediction must know: sizes that were interpolated.
    """

    isolated: Mapping[CostKey, Ns]
    busy: Mapping[CostKey, Ns]
    dispatch_overhead_ns: Ns
    links: tuple[LinkFit, ...] = ()
    executor: str = "threads"
    units: int = 1
    cores: int = 1
    repeats: int = 1
    spread: Mapping[CostKey, float] = field(default_factory=dict)
    samples: Mapping[CostKey, int] = field(default_factory=dict)
    host: HostLoad = HostLoad(1.0, 0.0)
    scratch: Mapping[CostKey, Bytes] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def table(self) -> Mapping[CostKey, Ns]:
        """Fixed times for who must have some: beside busy neighbours, where there are any."""
        return self.busy if self.units > 1 else self.isolated

    @property
    def handoff_ns(self) -> Ns:
        """From the end of a task to the start of a waiting successor elsewhere, for a message of no size."""
        return round(median(link.send_ns + link.latency_ns for link in self.links)) if self.links else 0

    @property
    def semantics(self) -> Semantics:
        """The transfer semantics that this executor has."""
        return EXECUTOR_SEMANTICS.get(self.executor, "link")

    @property
    def shared_cores(self) -> int | None:
        """Cores on which units take turns; a device's streams do not wait for the host's cores."""
        return None if self.executor == "cuda" else self.cores

    @property
    def slowdown(self) -> float:
        """All busy times over all isolated ones."""
        return sum(self.busy.values()) / max(1, sum(self.isolated.values()))

    @property
    def summary(self) -> str:
        """One line for people."""
        return (
            f"calibrated with {self.executor} on {self.units} unit{'s' * (self.units > 1)}, {self.repeats} repeats: "
            f"{format_ns(self.dispatch_overhead_ns)} per task besides its kernel, {format_ns(self.handoff_ns)} per "
            f"message besides its bytes, busy neighbours cost {100 * (self.slowdown - 1):.0f} %"
        )


TABLES = ("isolated", "busy", "spread", "samples", "scratch")
"""Fields by cost key: JSON has no such keys."""


def costs_to_json(costs: MeasuredCosts) -> dict[str, Any]:
    """Every field as plain JSON, tables as pairs of key and value: several programs can decide on the same numbers."""
    document = {one.name: getattr(costs, one.name) for one in fields(costs)}
    tables: dict[str, Any] = {name: [[list(key), value] for key, value in document[name].items()] for name in TABLES}
    return {**document, **tables, "links": [asdict(link) for link in costs.links], "host": asdict(costs.host)}


def costs_from_json(document: Mapping[str, Any]) -> MeasuredCosts:
    """The inverse of :func:`costs_to_json`, after the numbers went through JSON text."""
    tables = {name: {tuple(key): value for key, value in document[name]} for name in TABLES}
    links = tuple(
        LinkFit(**{**link, "points": tuple(tuple(point) for point in link["points"])}) for link in document["links"]
    )
    parts = {**tables, "links": links, "host": HostLoad(**document["host"]), "notes": tuple(document["notes"])}
    return MeasuredCosts(**{**document, **parts})
