"""From a profile to a machine: so many units, and the links that its topology puts between them."""

from collections.abc import Iterator
from itertools import pairwise, permutations

from alrsim.errors import ProfileError
from alrsim.hardware.figure import NonNegativeFigure, PositiveFigure
from alrsim.hardware.machine import Link, Machine, Unit, require_unit_count
from alrsim.hardware.specification import GroupLink, Profile, Specification, Wire


def machine_from(profile: Profile, units: int | None = None) -> Machine:
    """The machine that a profile describes.

    Args:
        units: How many units (``None``: the profile's own number). A host may be asked for more units than it
            has cores: they take turns. A heterogeneous profile has a fixed number.

    Raises:
        ProfileError: fewer than one unit, several units without links, or a number that a heterogeneous
            profile does not have.
    """
    spec = profile.spec
    count = profile.units if units is None else units
    require_unit_count(count, profile.name)
    if spec.kind == "heterogeneous":
        return _heterogeneous(profile, count)
    if count > 1 and spec.links is not None and spec.links.topology == "none":
        raise ProfileError(
            f"{count} units asked for, but its units are not linked (topology: none)",
            where=profile.name,
            fix="use --units 1, or copy the profile and describe the links",
        )
    every = tuple(_unit(spec, index) for index in range(count))
    return Machine(profile.name, every, tuple(_links(spec, 0, count, "")), spec.shared_cores)


def _heterogeneous(profile: Profile, count: int) -> Machine:
    spec = profile.spec
    if count != profile.units:
        raise ProfileError(
            f"{count} units asked for, but its groups have {profile.units}",
            where=profile.name,
            fix="leave --units out, or copy the profile and change the groups",
        )
    members: dict[str, range] = {}
    units: list[Unit] = []
    links: list[Link] = []
    for group, part in zip(spec.groups, profile.parts, strict=True):
        first = len(units)
        members[group.name] = range(first, first + group.units)
        units.extend(_unit(part.spec, index) for index in members[group.name])
        links.extend(_links(part.spec, first, group.units, f"{group.name}:"))
    for between in spec.links_between_groups:
        links.extend(_between(between, members))
    return Machine(profile.name, tuple(units), tuple(links))


def _unit(spec: Specification, index: int) -> Unit:
    section = spec.unit
    assert section is not None, "checked by the specification"
    return Unit(
        f"u{index}",
        spec.device,
        {precision: peak.value * 1e12 for precision, peak in section.peak_tflops_dense.items()},
        _scaled(section.elementwise_tflops, 1e12),
        {precision: table.points for precision, table in section.efficiency.items()},
        _whole(section.memory_gb, 1e9),
        _scaled(section.memory_bandwidth_gb_per_s, 1e9),
        _whole(section.launch_overhead_us, 1e3) or 0,
        _scaled(section.tdp_w, 1),
    )


def _scaled(figure: PositiveFigure | None, factor: float) -> float | None:
    return None if figure is None else figure.value * factor


def _whole(figure: PositiveFigure | NonNegativeFigure | None, factor: float) -> int | None:
    return None if figure is None else round(figure.value * factor)


def _links(spec: Specification, first: int, count: int, prefix: str) -> Iterator[Link]:
    """Links among ``count`` units from index ``first``; ``prefix`` keeps channel names of groups apart."""
    links = spec.links
    assert links is not None, "checked by the specification"
    if links.topology == "none":
        return
    for source, target in permutations(range(count), 2):
        hops = 1
        channels: tuple[str, ...] = ()
        if links.topology == "bus":
            channels = (f"{prefix}bus",)
        elif links.topology == "switch":
            channels = (f"{prefix}port u{first + source}",)
        elif links.topology == "ring":
            route = _ring_route(source, target, count)
            channels = tuple(f"u{first + a}->u{first + b}" for a, b in route)
            hops = len(route)
        yield _wire(links, first + source, first + target, channels, hops)


def _ring_route(source: int, target: int, count: int) -> tuple[tuple[int, int], ...]:
    """Hops of the shorter way round; upward if both are equally long."""
    up = (target - source) % count
    step, hops = (1, up) if up <= count - up else (-1, count - up)
    stops = [(source + step * hop) % count for hop in range(hops + 1)]
    return tuple(pairwise(stops))


def _between(link: GroupLink, members: dict[str, range]) -> Iterator[Link]:
    one, other = (members[name] for name in link.between)
    channels = (f"bus {'-'.join(link.between)}",) if link.topology == "bus" else ()
    for a in one:
        for b in other:
            yield _wire(link, a, b, channels, 1)
            yield _wire(link, b, a, channels, 1)


def _wire(wire: Wire, source: int, target: int, channels: tuple[str, ...], hops: int) -> Link:
    bandwidth = _scaled(wire.bandwidth_gb_per_s_per_direction, 1e9)
    latency = _whole(wire.latency_us, 1e3) or 0
    return Link(source, target, bandwidth, latency * hops, channels=channels)
