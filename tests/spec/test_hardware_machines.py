"""What a machine made from a profile looks like: units, cores, links, channels, latencies."""

from pathlib import Path

import pytest

import alrsim
from alrsim.errors import FileError, ProfileError
from alrsim.hardware.machine import abstract_machine
from alrsim.hardware.profile import load_profile, machine_from, profile_folder
from tests.linked import every_link, link_table


@pytest.mark.parametrize("units", [1, 3, 9])
def test_the_unit_grid_is_the_abstract_machine_of_any_size(units: int) -> None:
    assert machine_from(load_profile("unit-grid"), units) == abstract_machine(units)


def test_a_host_may_be_asked_for_more_units_than_it_has_cores() -> None:
    machine = machine_from(load_profile("cpu-2core"), 4)
    assert len(machine.units) == 4
    assert machine.shared_cores == 2


def test_worker_threads_hand_over_a_pointer_which_costs_a_hand_off_and_moves_no_bytes() -> None:
    link = link_table(machine_from(load_profile("cpu-2core")))[0, 1]
    assert link.hold_ns(10**9) == 0
    assert link.latency_ns == 19_000


def test_units_behind_a_switch_share_their_own_port_only() -> None:
    links = link_table(machine_from(load_profile("h100"), 3))
    assert links[0, 1].channels == links[0, 2].channels != links[1, 2].channels
    assert links[0, 1].bandwidth == 450e9


def test_messages_round_a_ring_pass_every_hop_in_order_and_take_the_shorter_way() -> None:
    links = link_table(machine_from(load_profile("tpu-v4"), 5))
    assert links[0, 1].channels == ("u0->u1",)
    assert links[0, 2].channels == ("u0->u1", "u1->u2")
    assert links[0, 3].channels == ("u0->u4", "u4->u3")
    assert links[3, 0].channels == ("u3->u4", "u4->u0")
    assert [links[0, target].latency_ns for target in (1, 2, 3, 4)] == [1000, 2000, 2000, 1000]


def test_opposite_units_of_an_even_ring_go_upward() -> None:
    links = link_table(machine_from(load_profile("tpu-v4"), 4))
    assert links[0, 2].channels == ("u0->u1", "u1->u2")
    assert links[2, 0].channels == ("u2->u3", "u3->u0")


def test_a_bus_is_one_channel_for_everything() -> None:
    machine = machine_from(load_profile("l4"), 4)
    assert {link.channels for link in every_link(machine)} == {("bus",)}


def test_links_all_to_all_are_channels_of_their_own() -> None:
    machine = machine_from(load_profile("mi300x"))
    assert {link.channels for link in every_link(machine)} == {()}
    assert len(every_link(machine)) == 8 * 7
    assert every_link(machine)[0].hold_ns(64 * 10**9) == 10**9


def test_a_heterogeneous_machine_has_the_units_of_its_groups_and_the_links_between_them() -> None:
    machine = machine_from(load_profile("hetero-h100-l4-cpu"))
    assert [unit.device.split()[1] for unit in machine.units] == ["H100", "L4", "L4", "CPU"]
    links = link_table(machine)
    assert links[1, 2].channels == ("small:bus",)
    assert links[0, 1].channels == links[0, 2].channels == links[2, 0].channels == ("bus fast-small",)
    assert links[0, 3].channels == ("bus fast-host",)
    assert links[0, 1].bandwidth == 31.5e9


def test_a_heterogeneous_machine_has_a_fixed_number_of_units() -> None:
    profile = load_profile("hetero-h100-l4-cpu")
    assert len(machine_from(profile, 4).units) == 4
    with pytest.raises(ProfileError, match="3 units asked for, but its groups have 4"):
        machine_from(profile, 3)


def test_units_that_are_not_linked_cannot_be_a_pipeline() -> None:
    assert len(machine_from(load_profile("jetson-agx-orin")).units) == 1
    with pytest.raises(ProfileError, match="not linked"):
        machine_from(load_profile("jetson-agx-orin"), 2)


def test_fewer_than_one_unit_is_refused() -> None:
    with pytest.raises(ProfileError, match="a machine has 1 to 1048576 units, not 0"):
        machine_from(load_profile("h100"), 0)


def test_a_group_finds_a_profile_beside_its_own_file_first(tmp_path: Path) -> None:
    shipped = profile_folder()
    mine = (shipped / "h100.yaml").read_text(encoding="utf-8").replace("NVIDIA H100 SXM5 80 GB", "my H100")
    (tmp_path / "h100.yaml").write_text(mine)
    (tmp_path / "mix.yaml").write_text((shipped / "hetero-h100-l4-cpu.yaml").read_text(encoding="utf-8"))
    devices = [unit.device for unit in machine_from(load_profile(tmp_path / "mix.yaml")).units]
    assert devices[:2] == ["my H100", "NVIDIA L4 24 GB"]


def test_profiles_are_found_in_a_source_checkout_and_in_an_installed_package(tmp_path: Path) -> None:
    package, checkout = tmp_path / "site" / "alrsim" / "hardware", tmp_path / "repo"
    package.mkdir(parents=True)
    (checkout / "hardware_profiles").mkdir(parents=True)
    assert profile_folder(package, checkout) == checkout / "hardware_profiles"
    (package / "profiles").mkdir()
    assert profile_folder(package, checkout) == package / "profiles"
    with pytest.raises(FileError, match="profiles are missing"):
        profile_folder(tmp_path, tmp_path)


def test_this_checkout_reads_its_own_profiles_folder() -> None:
    inside, beside = Path(alrsim.__file__).parent / "hardware" / "profiles", Path(alrsim.__file__).parents[1]
    assert Path(str(profile_folder())) in (inside, beside / "hardware_profiles")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("H100", "did you mean h100"),
        ("a100", "did you mean a100-40 or a100-80"),
        ("tpu_v4", "tpu-v4"),
        ("zzz", "profiles are a100-40"),
    ],
)
def test_an_unknown_name_is_answered_with_close_ones(name: str, hint: str) -> None:
    with pytest.raises(ProfileError) as caught:
        load_profile(name)
    assert f"no hardware profile is called {name!r}" in caught.value.what
    assert hint in caught.value.fix
