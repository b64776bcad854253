"""From a profile to a machine: so many units, and what its topology puts between them."""

from alrsim.errors import ProfileError
from alrsim.hardware.figure import NonNegativeFigure, PositiveFigure
from alrsim.hardware.machine import Machine, named_units, require_unit_count
from alrsim.hardware.specification import Profile, Specification, Wire
from alrsim.hardware.topology import Bridge, Bridged, Fabric, Speed
from alrsim.hardware.unit import Unit


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
            fix="use `units=1`, or copy the profile and describe the links",
        )
    every = tuple(named_units(_unit(spec), 0, count))
    return Machine(profile.name, every, _fabric(spec, 0, count), spec.shared_cores, profile)


def _heterogeneous(profile: Profile, count: int) -> Machine:
    spec = profile.spec
    if count != profile.units:
        raise ProfileError(
            f"{count} units asked for, but its groups have {profile.units}",
            where=profile.name,
            fix="leave `units` out, or copy the profile and change the groups",
        )
    units: list[Unit] = []
    groups: list[Fabric] = []
    for group, part in zip(spec.groups, profile.parts, strict=True):
        groups.append(_fabric(part.spec, len(units), group.units, f"{group.name}:"))
        units += named_units(_unit(part.spec), len(units), group.units)
    place = {group.name: position for position, group in enumerate(spec.groups)}
    bridges = []
    for link in spec.links_between_groups:
        one, other = link.between
        channel = f"bus {one}-{other}" if link.topology == "bus" else ""
        bridges.append(Bridge((place[one], place[other]), _speed(link), channel))
    return Machine(profile.name, tuple(units), Bridged(tuple(groups), tuple(bridges)), profile=profile)


def _unit(spec: Specification) -> Unit:
    section = spec.unit
    assert section is not None, "checked by the specification"
    return Unit(
        "",
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


def _fabric(spec: Specification, first: int, count: int, prefix: str = "") -> Fabric:
    """What joins ``count`` units from index ``first``; ``prefix`` keeps channel names of groups apart."""
    assert spec.links is not None, "checked by the specification"
    return Fabric(spec.links.topology, first, count, _speed(spec.links), prefix)


def _speed(wire: Wire) -> Speed:
    return Speed(_scaled(wire.bandwidth_gb_per_s_per_direction, 1e9), _whole(wire.latency_us, 1e3) or 0)
