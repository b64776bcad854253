"""Machines from a few figures in words: strict units, and errors that name the field."""

import pytest

from alrsim.errors import ProfileError
from alrsim.hardware.described import LinkSpec, UnitSpec
from alrsim.hardware.machine import Machine
from alrsim.hardware.precision import Precision
from alrsim.hardware.topology import Fabric, Speed

FWD = UnitSpec("fwd", peak={"bf16": 200e12, "int8": "400 TFLOP/s"}, memory="16 GB", bandwidth="2 TB/s", launch="1.5 us")


def test_words_are_the_numbers_that_they_say() -> None:
    (unit,) = Machine.of(FWD).units
    assert unit.name == "u0"
    assert unit.device == "fwd"
    assert unit.peak_flops == {Precision.BF16: 200e12, Precision.INT8: 400e12}
    assert (unit.memory_bytes, unit.memory_bandwidth, unit.launch_overhead_ns) == (16 * 10**9, 2e12, 1500)
    assert UnitSpec("x", memory="2 GiB").unit("u0").memory_bytes == 2**31
    assert UnitSpec("x", memory=2**31).unit("u0").memory_bytes == 2**31
    assert LinkSpec(bandwidth=50e9, latency=2000).fabric(3) == LinkSpec(bandwidth="50 GB/s", latency="2 us").fabric(3)


def test_efficiency_is_a_share_of_every_peak() -> None:
    unit = UnitSpec("x", peak={"fp32": 1e12}, efficiency=0.5).unit("u0")
    assert unit.efficiency == {Precision.FP32: ((1, 0.5),)}


def test_groups_are_numbered_in_order_and_joined_by_one_topology() -> None:
    machine = Machine.of((FWD, 2), UnitSpec("slow"), count=3, link=LinkSpec("1 GB/s", "3 ns", "bus"))
    assert [unit.device for unit in machine.units] == ["fwd"] * 2 + ["slow"] * 3
    assert [unit.name for unit in machine.units] == [f"u{index}" for index in range(5)]
    assert machine.topology == Fabric("bus", 0, 5, Speed(1e9, 3))
    assert machine.name == "fwd+slow"


def test_units_without_a_peak_are_abstract() -> None:
    assert Machine.of(UnitSpec("step")).is_abstract
    assert not Machine.of(FWD).is_abstract


@pytest.mark.parametrize(
    ("field", "given", "message"),
    [
        ("memory", {"memory": "16"}, "must be a number and one of B, kB"),
        ("memory", {"memory": "16 Gb"}, "is '16 Gb'"),
        ("memory", {"memory": "16 GB/s"}, "is '16 GB/s'"),
        ("memory", {"memory": "-1 GB"}, "is '-1 GB'"),
        ("memory", {"memory": "1e999 GB"}, "is '1e999 GB'"),
        ("memory", {"memory": -5}, "not negative"),
        ("memory", {"memory": True}, "is True"),
        ("memory", {"memory": float("nan")}, "is nan"),
        ("memory", {"memory": "0.3 B"}, "not a whole number of B"),
        ("bandwidth", {"bandwidth": "2 TB"}, "one of B/s"),
        ("bandwidth", {"bandwidth": 0}, "must be above 0"),
        ("peak", {"peak": {"bf16": 0}}, "must be above 0"),
        ("peak", {"peak": {"bf17": 1e12}}, "unknown precision 'bf17'"),
        ("peak", {"peak": {"regenerated": 1e12}}, "unknown precision"),
        ("elementwise", {"elementwise": "1 GB/s"}, "one of FLOP/s"),
        ("launch", {"launch": "2 minutes"}, "one of ns, us, ms, s"),
        ("efficiency", {"efficiency": 1.5}, "at most 1"),
    ],
)
def test_a_wrong_figure_is_refused_and_named(field: str, given: dict[str, object], message: str) -> None:
    with pytest.raises(ProfileError, match=message) as caught:
        UnitSpec("x", **given)  # type: ignore[arg-type]
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "given", "message"),
    [
        ("bandwidth", {"bandwidth": "50 GB"}, "one of B/s"),
        ("bandwidth", {"bandwidth": 0.5}, "at least 1 byte/s"),
        ("latency", {"latency": "0.5 ns"}, "whole number of ns"),
        ("topology", {"topology": "mesh"}, "must be one of all_to_all, switch, ring, bus"),
        ("topology", {"topology": "none"}, "must be one of"),
    ],
)
def test_a_wrong_link_is_refused_and_named(field: str, given: dict[str, object], message: str) -> None:
    with pytest.raises(ProfileError, match=message) as caught:
        LinkSpec(**given)  # type: ignore[arg-type]
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "make", "message"),
    [
        ("link", lambda: Machine.of(FWD, count=2), "2 units without a link"),
        ("count", lambda: Machine.of(FWD, count=0), "at least one unit"),
        ("groups", lambda: Machine.of(), "at least one unit"),
        ("units", lambda: Machine.of(FWD, count=10**9, link=LinkSpec()), "not 1000000000"),
    ],
)
def test_a_machine_that_cannot_be_is_refused(field: str, make, message: str) -> None:
    with pytest.raises(ProfileError, match=message) as caught:
        make()
    assert caught.value.field == field
