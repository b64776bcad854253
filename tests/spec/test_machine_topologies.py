"""A link is computed from its topology: the same as if every pair were listed, for any number of units."""

import tracemalloc
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise, permutations

import pytest

from alrsim.errors import ProfileError
from alrsim.hardware.machine import MAX_UNITS, Machine, abstract_machine
from alrsim.hardware.profile import load_machine, load_profile, machine_from
from alrsim.hardware.topology import Bridge, Bridged, Fabric, Kind, Link, Listed, Remade, Speed, Topology
from alrsim.hardware.unit import Unit
from alrsim.planner.explain import Twin
from tests.linked import every_link

KINDS: tuple[Kind, ...] = ("all_to_all", "switch", "ring", "bus", "none")
SPEED = Speed(1e9, 7, 2)
MIXED = Bridged(
    (Fabric("switch", 0, 2, SPEED, "a:"), Fabric("ring", 2, 5, Speed(2e9, 3), "b:"), Fabric("bus", 7, 3, prefix="c:")),
    (Bridge((2, 0), Speed(5e8, 11), "bus c-a"), Bridge((0, 1), Speed(3e8, 1))),
)
TOPOLOGIES: dict[str, tuple[int, Topology]] = {
    **{f"{kind} {count}": (count, Fabric(kind, 0, count, SPEED)) for kind in KINDS for count in (1, 2, 3, 6, 7)},
    "groups": (10, MIXED),
    "listed": (4, Listed((Link(0, 1, 1e9), Link(1, 0), Link(3, 1, channels=("x", "y"))))),
    "measured": (10, Remade(MIXED, {(0, 1): Speed(1.0), (2, 9): Speed(2.0), (4, 6): Speed(3.0)}, Speed(4.0))),
    "handed over": (6, Remade(Fabric("ring", 0, 6, SPEED), own=True)),
    "twin": (11, Twin(MIXED, 3, 10)),
    "twin of one that is not joined": (3, Twin(Fabric("none", 0, 2), 1, 2)),
}


def machine_of(name: str) -> Machine:
    count, topology = TOPOLOGIES[name]
    return Machine(name, tuple(Unit(f"u{index}") for index in range(count)), topology)


def listed(kind: Kind, count: int) -> Iterator[Link]:
    """Pair by pair, as the words of :mod:`alrsim.hardware.topology` say."""
    for source, target in permutations(range(count), 2):
        channels: tuple[str, ...] = {"bus": ("bus",), "switch": (f"port u{source}",)}.get(kind, ())
        if kind == "ring":
            ways = [[(source + step * hop) % count for hop in range(count + 1)] for step in (1, -1)]
            up, down = (way[: way.index(target) + 1] for way in ways)
            channels = tuple(f"u{a}->u{b}" for a, b in pairwise(up if len(up) <= len(down) else down))
        yield Link(source, target, 1e9, 7 * max(1, len(channels)), 2, channels)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "none"])
@pytest.mark.parametrize("count", [1, 2, 3, 6, 7])
def test_a_computed_link_is_the_one_that_would_be_listed(kind: Kind, count: int) -> None:
    assert every_link(machine_of(f"{kind} {count}")) == tuple(listed(kind, count))


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_the_sorts_of_links_are_those_of_all_of_them(name: str) -> None:
    machine = machine_of(name)
    found = Counter((link.speed, link.hops) for link in every_link(machine))
    assert Counter(machine.topology.sorts()) == found


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_a_unit_has_no_link_to_itself_nor_to_one_that_does_not_exist(name: str) -> None:
    machine = machine_of(name)
    count = len(machine.units)
    assert all(machine.link(unit, unit) is None for unit in range(count))
    assert all(machine.link(*pair) is None for pair in ((0, count), (count, 0), (-1, 0), (0, -1)))


def test_a_machine_of_65536_units_takes_memory_for_its_units_only() -> None:
    tracemalloc.start()
    machine = abstract_machine(65_536, transfer_ns=5)
    assert machine.link(0, 65_535).delay_ns(1) == 5
    assert machine.topology.sorts() == {(Speed(occupancy_ns=5), 1): 65_536 * 65_535}
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 65_536 * 500


@pytest.mark.parametrize("name", ["h100", "tpu-v4", "l4", "mi300x", "cpu-2core"])
def test_every_profile_makes_machines_of_thousands_of_units(name: str) -> None:
    machine = machine_from(load_profile(name), 4096)
    link = machine.link(17, 4095)
    assert link is not None
    assert link.hops == (18 if name == "tpu-v4" else 1)


def test_more_units_than_the_limit_are_refused() -> None:
    with pytest.raises(ProfileError, match=f"a machine has 1 to {MAX_UNITS} units"):
        abstract_machine(MAX_UNITS + 1)


def test_listed_links_join_two_units_of_the_machine_and_no_pair_twice() -> None:
    units = (Unit("u0"), Unit("u1"))
    for links, message in (
        ((Link(0, 2),), "does not join two units"),
        ((Link(0, 0),), "does not join two units"),
        ((Link(0, 1), Link(0, 1, 5.0)), "two links connect the same ordered pair"),
    ):
        with pytest.raises(ProfileError, match=message):
            Machine("m", units, Listed(links))
    with pytest.raises(ProfileError, match="not unique: u0 is there twice"):
        Machine("m", (units[0], units[0]))


def test_a_machine_knows_its_profile_which_is_no_part_of_its_value() -> None:
    machine = load_machine("h100", 4)
    assert machine.profile is not None
    assert machine.profile.name == "h100"
    assert replace(machine, shared_cores=2).profile is machine.profile
    assert replace(machine, profile=None) == machine
    assert repr(machine) == "Machine(h100: 4 x NVIDIA H100 SXM5 80 GB)"


def test_a_machine_that_is_there_already_is_given_back_or_made_again_with_more_units() -> None:
    machine = load_machine("h100", 4)
    assert load_machine(machine) is load_machine(machine, 4) is machine
    assert load_machine(machine, 6) == load_machine("h100", 6)
    with pytest.raises(ProfileError, match="3 units asked for, but the machine has 2") as caught:
        load_machine(abstract_machine(2), 3)
    assert caught.value.field == "units"
