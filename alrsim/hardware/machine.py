"""A machine: atomic compute units, the links between them, and the host cores that they share."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

from alrsim.errors import ProfileError
from alrsim.hardware.precision import Precision

if TYPE_CHECKING:
    from alrsim.hardware.specification import Profile

MAX_UNITS = 1024
"""Every pair of units has a link of its own, a million of them here."""


def require_unit_count(units: int, where: str) -> None:
    """Refuse machines of no unit, or of more than can be linked pair by pair.

    Raises:
        ProfileError: as said.
    """
    if not 1 <= units <= MAX_UNITS:
        raise ProfileError(f"a machine has 1 to {MAX_UNITS} units, not {units}", where=where, fix="use fewer --units")


@dataclass(frozen=True, slots=True)
class Unit:
    """One atomic compute unit: one task at a time. ``None`` means unbounded or unknown.

    Attributes:
        name: Unique in its machine: ``u0``, ``u1``...
        device: What it is, for reports: ``H100 SXM5``.
        peak_flops: Dense FLOP/s (2 per MAC) of matrix work per precision. Empty: an abstract unit.
        elementwise_flops: FLOP/s of element-wise work; ``None`` means it is hidden behind memory traffic.
        efficiency: Per precision, ``(macs, share of peak reached)`` points in ascending ``macs``; interpolated in
            log(macs), held at both ends. Empty: 1.
        memory_bytes: Capacity.
        memory_bandwidth: Bytes/s.
        launch_overhead_ns: Time per kernel that no computation hides.
        power_watts: Board power, for energy estimates.
    """

    name: str
    device: str = "abstract"
    peak_flops: Mapping[Precision, float] = field(default_factory=dict)
    elementwise_flops: float | None = None
    efficiency: Mapping[Precision, tuple[tuple[int, float], ...]] = field(default_factory=dict)
    memory_bytes: int | None = None
    memory_bandwidth: float | None = None
    launch_overhead_ns: int = 0
    power_watts: float | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """One direction of a connection between two units.

    Attributes:
        source: Index of the sending unit.
        target: Index of the receiving unit.
        bandwidth: Bytes/s; ``None`` is unlimited.
        latency_ns: Delay of the first byte; it does not occupy the link.
        occupancy_ns: Fixed time that every message holds the link, whatever its size (0 for real links; textbook
            problems with one transfer time put it here).
        channels: What a message occupies on its way, one after the other (store and forward), each for
            :meth:`hold_ns`. Links that name the same channel share it (a host's memory bus, a hop of a ring);
            ``()`` gives the link one channel of its own.
    """

    source: int
    target: int
    bandwidth: float | None = None
    latency_ns: int = 0
    occupancy_ns: int = 0
    channels: tuple[str, ...] = ()

    def hold_ns(self, size: int) -> int:
        """Time that a message of ``size`` bytes occupies each channel of its route."""
        moving = 0 if self.bandwidth is None else -(-size * 10**9 // int(self.bandwidth))
        return self.occupancy_ns + moving


@dataclass(frozen=True)
class Machine:
    """Units and links.

    Attributes:
        links: At most one per ordered pair of units. A pair without a link cannot exchange data.
        shared_cores: How many units can compute at the same moment (a host whose worker threads share cores);
            ``None`` means all of them.

    Raises:
        ProfileError: duplicate unit names, links to units that do not exist, or two links for one ordered pair.
    """

    name: str
    units: tuple[Unit, ...]
    links: tuple[Link, ...] = ()
    shared_cores: int | None = None

    def __post_init__(self) -> None:
        if not self.units:
            raise ProfileError("a machine needs at least one unit", where=self.name)
        names = [unit.name for unit in self.units]
        if len(set(names)) != len(names):
            raise ProfileError(f"unit names are not unique: {', '.join(names)}", where=self.name)
        pairs = [(link.source, link.target) for link in self.links]
        if len(set(pairs)) != len(pairs):
            raise ProfileError("two links connect the same ordered pair of units", where=self.name)
        for link in self.links:
            if not (0 <= link.source < len(names) and 0 <= link.target < len(names)) or link.source == link.target:
                raise ProfileError(f"link {link.source} -> {link.target} does not join two units", where=self.name)
        if self.shared_cores is not None and self.shared_cores < 1:
            raise ProfileError(f"shared_cores is {self.shared_cores}, must be at least 1", where=self.name)

    @property
    def profile(self) -> "Profile | None":
        """Where its figures come from, which decides how tasks are priced; no part of the value, and not written."""
        found: Profile | None = self.__dict__.get("_profile")
        return found

    def with_profile(self, profile: "Profile") -> Self:
        """The same machine that knows its profile."""
        same = replace(self)
        same.__dict__["_profile"] = profile
        return same

    def link_table(self) -> dict[tuple[int, int], Link]:
        """Link by ordered pair of unit indices."""
        return {(link.source, link.target): link for link in self.links}

    def unit_index(self) -> dict[str, int]:
        """Index by unit name."""
        return {unit.name: index for index, unit in enumerate(self.units)}


def abstract_machine(units: int, transfer_ns: int = 0, name: str = "unit-grid") -> Machine:
    """Identical abstract units, fully connected; every message takes ``transfer_ns`` whatever its size.

    Raises:
        ProfileError: fewer than one unit, or more than :data:`MAX_UNITS`.
    """
    require_unit_count(units, name)
    every = tuple(Unit(f"u{index}") for index in range(units))
    links = tuple(
        Link(source, target, occupancy_ns=transfer_ns)
        for source in range(units)
        for target in range(units)
        if source != target
    )
    return Machine(name, every, links)
