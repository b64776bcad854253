"""A machine: atomic compute units, what joins them, and the host cores that they share."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING

from alrsim.errors import ProfileError
from alrsim.hardware.described import LinkSpec, UnitSpec
from alrsim.hardware.topology import UNLINKED, Fabric, Link, Listed, Speed, Topology
from alrsim.hardware.unit import Unit

if TYPE_CHECKING:
    from alrsim.hardware.specification import Profile

__all__ = ["MAX_UNITS", "Link", "Listed", "Machine", "Unit", "abstract_machine", "named_units", "require_unit_count"]

MAX_UNITS = 1 << 20
"""A unit takes 230 bytes and the links none, so these take 240 MB and some seconds."""


def require_unit_count(units: int, where: str = "") -> None:
    """Refuse machines of no unit, or of more than :data:`MAX_UNITS`.

    Raises:
        ProfileError: as said.
    """
    if not 1 <= units <= MAX_UNITS:
        raise ProfileError(
            f"a machine has 1 to {MAX_UNITS} units, not {units}", where=where, field="units", fix="use fewer `units`"
        )


@dataclass(frozen=True, repr=False)
class Machine:
    """Units and what joins them.

    >>> machine = Machine.of(UnitSpec("fwd", peak={"bf16": 200e12}, memory="16 GB", bandwidth="2 TB/s"), count=4,
    ...                      link=LinkSpec(bandwidth="50 GB/s", latency="2 us"))
    >>> machine
    Machine(fwd: 4 x fwd)
    >>> machine.link(0, 3).hold_ns(10**6), machine.link(0, 0)
    (20000, None)

    Attributes:
        topology: Gives the link of a pair of units; a pair without one cannot exchange data.
        shared_cores: How many units can compute at the same moment (a host whose worker threads share cores);
            ``None`` means all of them.
        profile: Where its figures come from: sources, confidences, measured task times.

    Raises:
        ProfileError: no unit, duplicate unit names, or links to units that do not exist.
    """

    name: str
    units: tuple[Unit, ...]
    topology: Topology = UNLINKED
    shared_cores: int | None = None
    profile: "Profile | None" = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not self.units:
            raise ProfileError("a machine needs at least one unit", where=self.name)
        names = {unit.name for unit in self.units}
        if len(names) != len(self.units):
            twice = Counter(unit.name for unit in self.units).most_common(1)[0][0]
            raise ProfileError(f"unit names are not unique: {twice} is there twice", where=self.name)
        if isinstance(self.topology, Listed):
            for link in self.topology.links:
                if max(link.source, link.target) >= len(self.units):
                    what = f"link {link.source} -> {link.target} does not join two units"
                    raise ProfileError(what, where=self.name)
        if self.shared_cores is not None and self.shared_cores < 1:
            raise ProfileError(f"shared_cores is {self.shared_cores}, must be at least 1", where=self.name)

    @classmethod
    def of(
        cls, *groups: UnitSpec | tuple[UnitSpec, int], count: int = 1, link: LinkSpec | None = None, name: str = ""
    ) -> "Machine":
        """A machine without a profile, from a few figures.

        >>> Machine.of((UnitSpec("big"), 2), (UnitSpec("small"), 4), link=LinkSpec(topology="bus")).link(0, 5).channels
        ('bus',)

        Args:
            groups: What the units are like; a pair gives the number of them.
            count: Units of each group that comes without a number.
            link: How any two units reach each other. Units of a machine without one cannot exchange data, so that it
                can be left out for a single unit only.
            name: For reports; default: the devices.

        Raises:
            ProfileError: no group, fewer than one unit in one, or several units without a link.
        """
        if not groups:
            raise ProfileError("a machine needs at least one unit", field="groups", fix="give a UnitSpec")
        pairs = [group if isinstance(group, tuple) else (group, count) for group in groups]
        if min(number for _, number in pairs) < 1:
            raise ProfileError("a group has at least one unit", field="count")
        total = sum(number for _, number in pairs)
        require_unit_count(total)
        if link is None and total > 1:
            raise ProfileError(
                f"{total} units without a link cannot exchange data", field="link", fix="give link=LinkSpec(...)"
            )
        units: list[Unit] = []
        for spec, number in pairs:
            units += named_units(spec.unit(""), len(units), number)
        name = name or "+".join(dict.fromkeys(spec.device for spec, _ in pairs))
        return cls(name, tuple(units), UNLINKED if link is None else link.fabric(total))

    def link(self, source: int, target: int) -> Link | None:
        """The link from one unit to another one, by their indices; ``None`` where nothing joins them."""
        return self.topology.link(source, target)

    @property
    def is_abstract(self) -> bool:
        """Whether every task takes one step, because the units have no figures that it could be priced by."""
        if self.profile is not None:
            return self.profile.spec.kind == "abstract"
        return not any(unit.peak_flops for unit in self.units)

    def unit_index(self) -> dict[str, int]:
        """Index by unit name."""
        return {unit.name: index for index, unit in enumerate(self.units)}

    def __repr__(self) -> str:
        groups = groupby(unit.device for unit in self.units)
        parts = [f"{sum(1 for _ in members)} x {device}" for device, members in groups]
        more = [f"{len(parts) - 8} more groups"] if len(parts) > 8 else []
        return f"Machine({self.name}: {', '.join([*parts[:8], *more])})"


def named_units(unit: Unit, first: int, count: int) -> Iterator[Unit]:
    """So many units like one, ``u<first>`` and on; they share its tables."""
    return (replace(unit, name=f"u{index}") for index in range(first, first + count))


def abstract_machine(units: int, transfer_ns: int = 0, name: str = "unit-grid") -> Machine:
    """Identical abstract units, fully connected; every message takes ``transfer_ns`` whatever its size.

    >>> abstract_machine(65_536, transfer_ns=3).link(0, 65_535).delay_ns(size=10**9)
    3

    Raises:
        ProfileError: fewer than one unit, or more than :data:`MAX_UNITS`.
    """
    require_unit_count(units, name)
    fabric = Fabric("all_to_all", 0, units, Speed(occupancy_ns=transfer_ns))
    return Machine(name, tuple(named_units(Unit(""), 0, units)), fabric)
