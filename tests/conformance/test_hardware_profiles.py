"""Every shipped profile passes the same tests; the registry is the folder."""

import pytest

from alrsim.hardware.figure import Confidence, PeakFigure, PositiveFigure
from alrsim.hardware.machine import Machine
from alrsim.hardware.profile import load_profile, machine_from, machines, profile_folder, shipped_names
from alrsim.hardware.review import describe, figures, validate_profile
from tests.linked import link_table

REQUIRED = {
    "unit-grid",
    "cpu-2core",
    "v100",
    "a100-40",
    "a100-80",
    "h100",
    "h200",
    "rtx4090",
    "l4",
    "t4",
    "jetson-agx-orin",
    "tpu-v4",
    "tpu-v5e",
    "mi300x",
}

every_profile = pytest.mark.parametrize("name", shipped_names())


def test_every_required_device_and_a_heterogeneous_example_ship() -> None:
    infos = machines()
    assert {info.name for info in infos} >= REQUIRED
    assert [info.name for info in infos if info.kind == "heterogeneous"] == ["hetero-h100-l4-cpu"]
    assert [info.name for info in infos] == sorted(info.name for info in infos)


@every_profile
def test_a_profile_is_named_like_its_file_and_makes_a_machine_of_its_own_size(name: str) -> None:
    profile = load_profile(name)
    machine = machine_from(profile)
    assert isinstance(machine, Machine)
    assert profile.name == machine.name == name
    assert len(machine.units) == profile.units
    assert [unit.name for unit in machine.units] == [f"u{index}" for index in range(profile.units)]


@every_profile
def test_every_unit_can_send_to_every_other(name: str) -> None:
    machine = machine_from(load_profile(name))
    count = len(machine.units)
    pairs = {(a, b) for a in range(count) for b in range(count) if a != b}
    assert set(link_table(machine)) == pairs


@every_profile
def test_every_figure_has_a_source_a_confidence_and_a_unit(name: str) -> None:
    profile = load_profile(name)
    for path, figure in figures(profile.spec):
        assert figure.source.strip(), path
        assert figure.confidence in Confidence, path
    for row in describe(profile):
        assert row.note if row.value == "not offered" else row.unit and row.source and row.confidence


@every_profile
def test_every_figure_in_the_file_is_listed(name: str) -> None:
    """Counts `confidence:` in the text, so that a figure which `figures` forgets is noticed."""
    text = (profile_folder() / f"{name}.yaml").read_text(encoding="utf-8")
    assert len(list(figures(load_profile(name).spec))) == text.count("confidence:")


@every_profile
def test_every_peak_is_dense_and_agrees_with_its_formula(name: str) -> None:
    for path, figure in figures(load_profile(name).spec):
        if isinstance(figure, PeakFigure):
            assert figure.dense is True
            if figure.derivation is not None:
                assert figure.value == pytest.approx(figure.derivation.tflops, rel=0.005), path


@every_profile
def test_the_only_doubts_about_a_shipped_profile_are_its_unverified_figures(name: str) -> None:
    findings = validate_profile(name)
    unverified = {path for path, f in figures(load_profile(name).spec) if f.confidence is Confidence.UNVERIFIED}
    assert {finding.where for finding in findings} == unverified
    assert all(finding.severity == "warning" and "unverified" in finding.message for finding in findings)


@every_profile
def test_an_unverified_figure_says_so_in_the_table(name: str) -> None:
    profile = load_profile(name)
    shown = {row.figure for row in describe(profile) if row.confidence == "unverified" and ": " not in row.figure}
    assert shown == {path for path, f in figures(profile.spec) if f.confidence is Confidence.UNVERIFIED}


@every_profile
def test_the_machine_has_the_figures_of_the_file_in_base_units(name: str) -> None:
    profile = load_profile(name)
    section = profile.spec.unit
    if section is None:
        return  # the groups' own profiles are tested by name
    for unit in machine_from(profile).units:
        for precision, peak in section.peak_tflops_dense.items():
            assert unit.peak_flops[precision] == pytest.approx(peak.value * 10**12)
        for figure, value, factor in (
            (section.memory_gb, unit.memory_bytes, 10**9),
            (section.memory_bandwidth_gb_per_s, unit.memory_bandwidth, 10**9),
            (section.tdp_w, unit.power_watts, 1),
        ):
            assert (figure is None) == (value is None)
            if isinstance(figure, PositiveFigure) and value is not None:
                assert value == pytest.approx(figure.value * factor)
