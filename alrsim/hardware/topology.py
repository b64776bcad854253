"""What joins the units of a machine: topologies that compute the link of a pair, so that none is listed.

A message occupies *channels* on its way. Units of an ``all_to_all`` group have one per ordered pair, behind a
``switch`` one outgoing port each, on a ``bus`` a single one, and on a ``ring`` one per direction to each neighbour.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Literal, Protocol

from alrsim.errors import ProfileError

Kind = Literal["all_to_all", "switch", "ring", "bus", "none"]


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a link is.

    Attributes:
        bandwidth: Bytes/s; ``None`` is unlimited.
        latency_ns: Delay of the first byte; it does not occupy the link.
        occupancy_ns: Fixed time that every message holds the link, whatever its size (0 for real links; textbook
            problems with one transfer time put it here).
    """

    bandwidth: float | None = None
    latency_ns: int = 0
    occupancy_ns: int = 0

    def hold_ns(self, size: int) -> int:
        """Time that a message of ``size`` bytes occupies a channel."""
        moving = 0 if self.bandwidth is None else -(-size * 10**9 // int(self.bandwidth))
        return self.occupancy_ns + moving

    def delay_ns(self, size: int, hops: int = 1) -> int:
        """Time until a message of ``size`` bytes is there, over so many channels one after the other, all idle."""
        return self.hold_ns(size) * hops + self.latency_ns


@dataclass(frozen=True, slots=True)
class Link:
    """One direction of a connection between two units.

    Attributes:
        source: Index of the sending unit.
        target: Index of the receiving unit.
        bandwidth: See :class:`Speed`, as the next two.
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

    @property
    def hops(self) -> int:
        """Channels on the way."""
        return max(1, len(self.channels))

    @property
    def speed(self) -> Speed:
        return Speed(self.bandwidth, self.latency_ns, self.occupancy_ns)

    def hold_ns(self, size: int) -> int:
        """Time that a message of ``size`` bytes occupies each channel of its route."""
        return self.speed.hold_ns(size)

    def delay_ns(self, size: int) -> int:
        """Time until a message of ``size`` bytes is there, all channels idle."""
        return self.speed.delay_ns(size, self.hops)


Sort = tuple[Speed, int]
"""Links of one speed and number of hops: what a message's delay on an idle network depends on."""


class Topology(Protocol):
    """What joins units."""

    def link(self, source: int, target: int) -> Link | None:
        """The link from one unit to another one; ``None`` where there is none."""

    def sorts(self) -> Mapping[Sort, int]:
        """How many links of each sort there are, without making them."""


def _link(source: int, target: int, speed: Speed, channels: tuple[str, ...] = ()) -> Link:
    return Link(source, target, speed.bandwidth, speed.latency_ns, speed.occupancy_ns, channels)


@dataclass(frozen=True)
class Listed:
    """Links that are named one by one.

    Raises:
        ProfileError: two links for one ordered pair, or a link of a unit to itself.
    """

    links: tuple[Link, ...] = ()

    def __post_init__(self) -> None:
        if len(self.table) < len(self.links):
            raise ProfileError("two links connect the same ordered pair of units", field="topology")
        for link in self.links:
            if link.source == link.target or min(link.source, link.target) < 0:
                raise ProfileError(f"link {link.source} -> {link.target} does not join two units", field="topology")

    @cached_property
    def table(self) -> dict[tuple[int, int], Link]:
        """Link by ordered pair of units."""
        return {(link.source, link.target): link for link in self.links}

    def link(self, source: int, target: int) -> Link | None:
        """See :class:`Topology`."""
        return self.table.get((source, target))

    def sorts(self) -> Mapping[Sort, int]:
        """See :class:`Topology`."""
        return Counter((link.speed, link.hops) for link in self.links)


UNLINKED = Listed()
"""No unit is joined to another one."""


@dataclass(frozen=True, slots=True)
class Fabric:
    """A group of neighbouring units, any of which reaches any other alike.

    Attributes:
        kind: See the module; ``none``: the units are not joined.
        first: Index of the group's first unit.
        count: Units of the group.
        speed: Of one hop; the latency of a message round a ring is that of all its hops.
        prefix: Keeps the names of channels of several groups apart.
    """

    kind: Kind
    first: int
    count: int
    speed: Speed = Speed()
    prefix: str = ""

    def link(self, source: int, target: int) -> Link | None:
        """See :class:`Topology`."""
        a, b = source - self.first, target - self.first
        if self.kind == "none" or a == b or not (0 <= a < self.count and 0 <= b < self.count):
            return None
        if self.kind == "ring":
            stops = _ring_stops(a, b, self.count)
            hops = tuple(f"u{self.first + here}->u{self.first + there}" for here, there in pairwise(stops))
            return _link(source, target, self._round(len(hops)), hops)
        channels = {"switch": (f"{self.prefix}port u{source}",), "bus": (f"{self.prefix}bus",)}.get(self.kind, ())
        return _link(source, target, self.speed, channels)

    def sorts(self) -> Mapping[Sort, int]:
        """See :class:`Topology`."""
        if self.kind == "none" or self.count < 2:
            return {}
        if self.kind != "ring":
            return {(self.speed, 1): self.count * (self.count - 1)}
        # Both ways round are as long at the opposite unit only, and there is one of it.
        lengths = range(1, self.count // 2 + 1)
        return {(self._round(hops), hops): self.count * (1 if 2 * hops == self.count else 2) for hops in lengths}

    def _round(self, hops: int) -> Speed:
        return Speed(self.speed.bandwidth, self.speed.latency_ns * hops, self.speed.occupancy_ns)


def _ring_stops(source: int, target: int, count: int) -> list[int]:
    """The shorter way round; upward if both are equally long."""
    up = (target - source) % count
    step, hops = (1, up) if up <= count - up else (-1, count - up)
    return [(source + step * hop) % count for hop in range(hops + 1)]


@dataclass(frozen=True, slots=True)
class Bridge:
    """Links between any two units of two groups.

    Attributes:
        between: Positions of the two groups.
        channel: What all messages between the groups share; ``""`` gives each link a channel of its own.
    """

    between: tuple[int, int]
    speed: Speed
    channel: str = ""


@dataclass(frozen=True)
class Bridged:
    """Groups of units one behind the other, and what joins them.

    Attributes:
        groups: In unit order, without gaps.
        bridges: At most one per pair of groups; a pair without one is not joined.
    """

    groups: tuple[Fabric, ...]
    bridges: tuple[Bridge, ...] = ()

    @cached_property
    def _firsts(self) -> list[int]:
        return list(accumulate((group.count for group in self.groups), initial=0))

    @cached_property
    def _bridge(self) -> dict[frozenset[int], Bridge]:
        return {frozenset(bridge.between): bridge for bridge in self.bridges}

    def link(self, source: int, target: int) -> Link | None:
        """See :class:`Topology`."""
        if not (0 <= source < self._firsts[-1] and 0 <= target < self._firsts[-1]):
            return None
        one, other = (bisect_right(self._firsts, unit) - 1 for unit in (source, target))
        if one == other:
            return self.groups[one].link(source, target)
        bridge = self._bridge.get(frozenset((one, other)))
        if bridge is None:
            return None
        return _link(source, target, bridge.speed, (bridge.channel,) if bridge.channel else ())

    def sorts(self) -> Mapping[Sort, int]:
        """See :class:`Topology`."""
        found: Counter[Sort] = Counter()
        for group in self.groups:
            found.update(group.sorts())
        for bridge in self.bridges:
            one, other = (self.groups[position].count for position in bridge.between)
            found[bridge.speed, 1] += 2 * one * other
        return found


@dataclass(frozen=True)
class Remade:
    """The links of another topology with other speeds.

    Attributes:
        base: Says which units are joined, and over which channels.
        known: Speed by ordered pair of units.
        other: Speed of every other pair.
        own: Whether every link gets a channel of its own, instead of those of ``base``.
    """

    base: Topology
    known: Mapping[tuple[int, int], Speed] = field(default_factory=dict)
    other: Speed = Speed()
    own: bool = False

    def link(self, source: int, target: int) -> Link | None:
        """See :class:`Topology`."""
        link = self.base.link(source, target)
        if link is None:
            return None
        return _link(source, target, self.known.get((source, target), self.other), () if self.own else link.channels)

    def sorts(self) -> Mapping[Sort, int]:
        """See :class:`Topology`."""
        found: Counter[Sort] = Counter()
        for (_, hops), count in self.base.sorts().items():
            found[self.other, 1 if self.own else hops] += count
        for pair, speed in self.known.items():
            if (link := self.link(*pair)) is not None:
                found[self.other, link.hops] -= 1
                found[speed, link.hops] += 1
        return {sort: count for sort, count in found.items() if count}
