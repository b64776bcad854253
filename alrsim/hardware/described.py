"""Units and links as people describe them: ``"16 GB"``, ``"2 TB/s"``, ``"2 us"``."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import isfinite
from typing import get_args

from alrsim.errors import ProfileError
from alrsim.hardware.precision import Precision
from alrsim.hardware.topology import Fabric, Kind, Speed
from alrsim.hardware.unit import Unit

Quantity = int | float | str
"""A number in the base unit (bytes, bytes/s, FLOP/s, ns), or one with its unit: ``"1.5 GB"``."""

_NUMBER = re.compile(r"(\d{1,15}(?:\.\d{1,15})?(?:e[+-]?\d{1,2})?) ?([A-Za-z/]+)")
_DECIMAL = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}

BYTES: Mapping[str, int] = {f"{step}B": size for step, size in (_DECIMAL | _BINARY).items()}
BYTES_PER_S: Mapping[str, int] = {f"{name}/s": size for name, size in BYTES.items()}
FLOPS: Mapping[str, int] = {f"{step}FLOP/s": size for step, size in _DECIMAL.items()}
NS: Mapping[str, int] = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}


def parse_quantity(value: Quantity, units: Mapping[str, int], name: str) -> Fraction:
    """A quantity in its base unit, exactly.

    >>> [int(parse_quantity(text, BYTES, "memory")) for text in ("1.5 GB", "2 KiB", 7)]
    [1500000000, 2048, 7]

    Args:
        units: Names of the units, and how much of the base unit each is.
        name: The keyword that it was given for.

    Raises:
        ProfileError: text without one of the units, or a number that is negative or not finite.
    """
    if isinstance(value, str):
        found = _NUMBER.fullmatch(value.strip())
        if found is None or found[2] not in units:
            raise ProfileError(
                f"is {value!r}, must be a number and one of {', '.join(units)}",
                field=name,
                fix=f"write it like '2 {list(units)[min(2, len(units) - 1)]}'",
            )
        return Fraction(found[1]) * units[found[2]]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value) or value < 0:
        raise ProfileError(
            f"is {value!r}, must be a number of {next(iter(units))} that is not negative, or text with a unit",
            field=name,
            fix=f"write it like '2 {list(units)[min(2, len(units) - 1)]}'",
        )
    return Fraction(value)


def _positive(value: Quantity, units: Mapping[str, int], name: str) -> float:
    number = float(parse_quantity(value, units, name))
    if not number:
        raise ProfileError("is 0, must be above 0", field=name)
    return number


def _whole(value: Quantity, units: Mapping[str, int], name: str) -> int:
    number = parse_quantity(value, units, name)
    if number.denominator != 1:
        base = next(iter(units))
        raise ProfileError(f"is {value!r}, which is not a whole number of {base}", field=name)
    return int(number)


@dataclass(frozen=True)
class UnitSpec:
    """A compute unit as a data sheet describes it.

    >>> UnitSpec("fwd", peak={"bf16": 200e12}, memory="16 GB", bandwidth="2 TB/s").unit("u0").memory_bytes
    16000000000

    Attributes:
        device: What it is, for reports.
        peak: Dense peak per precision, in FLOP/s (2 per MAC) or as ``"200 TFLOP/s"``; empty: an abstract unit, which
            takes one step per task.
        memory: Capacity in bytes or as ``"16 GB"`` (``GB`` is 10^9 bytes, ``GiB`` 2^30); ``None``: unbounded.
        bandwidth: Of its memory, in bytes/s or as ``"2 TB/s"``; ``None``: memory traffic takes no time.
        elementwise: Rate of element-wise work, as ``peak``; ``None``: hidden behind memory traffic.
        launch: Time per kernel that no computation hides, in ns or as ``"2 us"``.
        efficiency: Share of the peak that products reach, above 0 and at most 1.

    Raises:
        ProfileError: a quantity without a known unit, a negative number, or an unknown precision; names the field.
    """

    device: str
    peak: Mapping[str, Quantity] = field(default_factory=dict)
    memory: Quantity | None = None
    bandwidth: Quantity | None = None
    elementwise: Quantity | None = None
    launch: Quantity = 0
    efficiency: float = 1.0

    def __post_init__(self) -> None:
        self.unit("u0")

    def unit(self, name: str) -> Unit:
        """The unit of that name in a machine."""
        if not (isinstance(self.efficiency, (int, float)) and 0 < self.efficiency <= 1):
            raise ProfileError(f"is {self.efficiency!r}, must be above 0 and at most 1", field="efficiency")
        peaks = {_precision(key): _positive(value, FLOPS, "peak") for key, value in self.peak.items()}
        share = ((1, float(self.efficiency)),)
        return Unit(
            name,
            self.device,
            peaks,
            None if self.elementwise is None else _positive(self.elementwise, FLOPS, "elementwise"),
            dict.fromkeys(peaks, share) if self.efficiency < 1 else {},
            None if self.memory is None else _whole(self.memory, BYTES, "memory"),
            None if self.bandwidth is None else _positive(self.bandwidth, BYTES_PER_S, "bandwidth"),
            _whole(self.launch, NS, "launch"),
        )


def _precision(name: str) -> Precision:
    known = [one.value for one in Precision if one is not Precision.REGENERATED]
    if name not in known:
        raise ProfileError(f"unknown precision {name!r}", field="peak", fix=f"use one of {', '.join(known)}")
    return Precision(name)


@dataclass(frozen=True)
class LinkSpec:
    """How all units of a machine reach each other.

    >>> LinkSpec(bandwidth="50 GB/s", latency="2 us").fabric(4).link(0, 3).delay_ns(100_000)
    4000

    Attributes:
        bandwidth: Bytes/s in one direction, or as ``"50 GB/s"``; ``None``: messages take no time but the latency.
        latency: Delay of the first byte over one hop, in ns or as ``"2 us"``.
        topology: ``all_to_all``, ``switch``, ``ring`` or ``bus`` (:mod:`alrsim.hardware.topology`).

    Raises:
        ProfileError: as :class:`UnitSpec`, or an unknown topology.
    """

    bandwidth: Quantity | None = None
    latency: Quantity = 0
    topology: Kind = "all_to_all"

    def __post_init__(self) -> None:
        known = [kind for kind in get_args(Kind) if kind != "none"]
        if self.topology not in known:
            raise ProfileError(f"is {self.topology!r}, must be one of {', '.join(known)}", field="topology")
        self.fabric(1)

    def fabric(self, units: int) -> Fabric:
        """The links among so many units."""
        bandwidth = None if self.bandwidth is None else _positive(self.bandwidth, BYTES_PER_S, "bandwidth")
        if bandwidth is not None and bandwidth < 1:
            raise ProfileError(f"is {self.bandwidth!r}, must be at least 1 byte/s", field="bandwidth")
        return Fabric(self.topology, 0, units, Speed(bandwidth, _whole(self.latency, NS, "latency")))
