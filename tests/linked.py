"""Every link of a small machine, asked for pair by pair."""

from itertools import permutations

from alrsim.hardware.machine import Machine
from alrsim.hardware.topology import Link


def every_link(machine: Machine) -> tuple[Link, ...]:
    """In order of source, then of target."""
    pairs = permutations(range(len(machine.units)), 2)
    return tuple(link for pair in pairs if (link := machine.link(*pair)) is not None)


def link_table(machine: Machine) -> dict[tuple[int, int], Link]:
    """Link by ordered pair of units."""
    return {(link.source, link.target): link for link in every_link(machine)}
