"""What a profile file may say: one pydantic model per section, strict, with the unit in every key.

Peaks are per unit (one chip, card or core), dense, in 10^12 operations per second (2 per MAC), for integers
too. GB is 10^9 bytes.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from alrsim.hardware.calibration import Calibration
from alrsim.hardware.figure import (
    Count,
    Efficiency,
    NonNegativeFigure,
    PeakFigure,
    PositiveFigure,
    Section,
    Text,
)
from alrsim.hardware.precision import Precision
from alrsim.hardware.topology import Kind as Topology

Kind = Literal["abstract", "accelerator", "host", "heterogeneous"]


class UnitSection(Section):
    """One unit: a chip, a card, or a core of a host.

    Attributes:
        elementwise_tflops: Rate of element-wise work; absent: hidden behind memory traffic.
        not_offered: Precisions without a peak, with the reason.
    """

    peak_tflops_dense: dict[Precision, PeakFigure] = Field(default_factory=dict)
    elementwise_tflops: PositiveFigure | None = None
    efficiency: dict[Precision, Efficiency] = Field(default_factory=dict)
    memory_gb: PositiveFigure | None = None
    memory_bandwidth_gb_per_s: PositiveFigure | None = None
    launch_overhead_us: NonNegativeFigure | None = None
    tdp_w: PositiveFigure | None = None
    not_offered: dict[Precision, Text] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if Precision.REGENERATED in self.peak_tflops_dense:
            raise ValueError("peak_tflops_dense: nothing computes in 'regenerated', which is a way not to store noise")
        for precision in self.not_offered:
            if precision in self.peak_tflops_dense:
                raise ValueError(f"not_offered: {precision} also has a peak")
        for precision in self.efficiency:
            if precision not in self.peak_tflops_dense:
                raise ValueError(f"efficiency: {precision} has no peak that it could be a share of")
        return self


class Wire(Section):
    """What carries a message: a bandwidth with its latency, or a pointer handed over without a copy."""

    bandwidth_gb_per_s_per_direction: PositiveFigure | None = None
    latency_us: NonNegativeFigure | None = None
    no_copy: bool = False

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if self.no_copy and self.bandwidth_gb_per_s_per_direction is not None:
            raise ValueError("no_copy: true moves no bytes, so there can be no bandwidth_gb_per_s_per_direction")
        return self


class Links(Wire):
    """How the units of one profile reach each other.

    Attributes:
        topology: ``all_to_all``: a wire per ordered pair. ``switch``: one outgoing port per unit, shared by all
            its destinations. ``ring``: a wire per direction to each neighbour, store and forward between the
            others. ``bus``: one channel for everything. ``none``: units cannot exchange data.
    """

    topology: Topology

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.topology == "none":
            if self.bandwidth_gb_per_s_per_direction or self.latency_us or self.no_copy:
                raise ValueError("topology none has no bandwidth, latency or no_copy")
        else:
            _need_wire(self)
        return self


class Group(Section):
    """Equal units of a heterogeneous machine, described by another profile."""

    name: Text
    profile: Text
    units: Count


class GroupLink(Wire):
    """How the units of two groups reach each other; ``bus``: all messages between them share one channel."""

    between: tuple[Text, Text]
    topology: Literal["all_to_all", "bus"]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _need_wire(self)
        return self


def _need_wire(wire: Wire) -> None:
    if wire.bandwidth_gb_per_s_per_direction is None and not wire.no_copy:
        raise ValueError("give bandwidth_gb_per_s_per_direction, or no_copy: true where no bytes move")
    if wire.latency_us is None and wire.bandwidth_gb_per_s_per_direction is not None:
        raise ValueError("give latency_us beside bandwidth_gb_per_s_per_direction")


class Specification(Section):
    """A whole profile file.

    Attributes:
        units: Units that are simulated when nobody asks for a number; a choice, not a figure.
        shared_cores: Cores of a host; more units than this take turns.
        groups: Of a heterogeneous machine, in unit order.
        calibration: What ``alrsim calibrate`` measured there.
    """

    name: Annotated[str, Field(strict=True, pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    device: Text
    kind: Kind
    units: Count | None = None
    notes: tuple[Text, ...] = ()
    unit: UnitSection | None = None
    links: Links | None = None
    shared_cores: Count | None = None
    groups: tuple[Group, ...] = ()
    links_between_groups: tuple[GroupLink, ...] = ()
    calibration: Calibration | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind == "heterogeneous":
            _check_groups(self)
        else:
            _check_single(self)
        return self


@dataclass(frozen=True)
class Profile:
    """A profile that was read and checked.

    Attributes:
        spec: What the file says.
        path: Where it was read.
        parts: The profiles of ``spec.groups``, in the same order; empty unless heterogeneous.
    """

    spec: Specification
    path: str
    parts: tuple["Profile", ...] = ()

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def units(self) -> int:
        """Units when nobody asks for a number."""
        return self.spec.units or sum(group.units for group in self.spec.groups)


def _check_single(spec: Specification) -> None:
    if spec.groups or spec.links_between_groups:
        raise ValueError(f"groups: only a heterogeneous profile has groups, this one is of kind {spec.kind}")
    for key in ("units", "unit", "links"):
        if getattr(spec, key) is None:
            raise ValueError(f"{key}: missing; a profile of kind {spec.kind} needs it")
    if (spec.kind == "host") != (spec.shared_cores is not None):
        need = "needs" if spec.kind == "host" else "cannot have"
        raise ValueError(f"shared_cores: a profile of kind {spec.kind} {need} shared_cores")
    assert spec.unit is not None
    if spec.kind == "abstract":
        return
    if not spec.unit.peak_tflops_dense:
        raise ValueError("unit.peak_tflops_dense: missing; give at least one precision")
    if spec.kind == "accelerator" and spec.unit.memory_gb is None:
        raise ValueError("unit.memory_gb: missing; a profile of kind accelerator needs it")
    for key in ("memory_bandwidth_gb_per_s", "launch_overhead_us"):
        if getattr(spec.unit, key) is None:
            raise ValueError(f"unit.{key}: missing; a profile of kind {spec.kind} needs it")


def _check_groups(spec: Specification) -> None:
    for key in ("unit", "links", "units", "shared_cores", "calibration"):
        if getattr(spec, key) is not None:
            raise ValueError(f"{key}: a heterogeneous profile has groups instead")
    names = [group.name for group in spec.groups]
    if len(names) < 2:
        raise ValueError("groups: a heterogeneous profile needs at least two groups")
    if len(set(names)) != len(names):
        raise ValueError(f"groups: names are not unique: {', '.join(names)}")
    seen: set[frozenset[str]] = set()
    for position, link in enumerate(spec.links_between_groups):
        where = f"links_between_groups.{position}.between"
        for end in link.between:
            if end not in names:
                raise ValueError(f"{where}: no group is called {end!r}; there are {', '.join(names)}")
        pair = frozenset(link.between)
        if len(pair) == 1 or pair in seen:
            raise ValueError(f"{where}: {' and '.join(link.between)} must be two groups, and each pair named once")
        seen.add(pair)
