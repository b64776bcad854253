"""A profile with a calibration: written, read back, looked up, and refused where it was edited or cut off."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from alrsim.cost.calibrated import calibrated_problem
from alrsim.cost.cost_tables import Sought, look_up, on_line, rows_of, stage_digest, table_of, with_executor
from alrsim.cost.costs import HostLoad, LinkFit, MeasuredCosts
from alrsim.cost.roofline import roofline
from alrsim.errors import OptionError, ProfileError
from alrsim.graph.stages import StageGraph, chain
from alrsim.hardware.calibration import Calibration, RooflineSection, checksum, format_rows, parse_rows
from alrsim.hardware.machine import abstract_machine
from alrsim.hardware.profile import Profile, load_profile, machine_from, profile_folder
from alrsim.hardware.profile_text import profile_text
from alrsim.rules import RULES, RuleOptions
from alrsim.study.host_profile import Modelled, roofline_section
from alrsim.tasks.problem import cost_key, price
from alrsim.tasks.taskgraph import TaskGraph
from tests.linked import link_table

OPTIONS = RuleOptions(microbatches=2, copies=2)
LINKS = (LinkFit(0, 1, 5000, 2000, 4e9, 0.01, ((1024, 5256, 7256),)), LinkFit(1, 0, 6000, 3000, 5e9, 0.02))


def stages(batch: int) -> StageGraph:
    return replace(chain(2), name="planted", batch=batch)


def lr_tasks(batch: int, copies: int) -> TaskGraph:
    return RULES["lr"](stages(batch), replace(OPTIONS, copies=copies))


def planted(batch: int, copies: int) -> MeasuredCosts:
    """Times that grow with the square root of the samples, and in proportion to the copies."""
    tasks = lr_tasks(batch, copies).tasks
    alone = {cost_key(task): round(1000 * (1 + task.id.stage) * batch**0.5 * task.copies) for task in tasks}
    busy = {key: 2 * time for key, time in alone.items()}
    scratch = {key: 64 * batch * key[2] for key in alone}
    return MeasuredCosts(
        alone, busy, 700, LINKS, "processes", 2, 2, 5, dict.fromkeys(alone, 0.05), {}, HostLoad(0.99, 0.02), scratch
    )


def planted_calibration() -> dict[str, Any]:
    rows = {
        row: None
        for batch in (4, 16)
        for copies in (1, 2)
        for row in rows_of(sought(batch, copies), lr_tasks(batch, copies), planted(batch, copies))
    }
    costs = planted(4, 1)
    links = [
        {
            "source": link.source,
            "target": link.target,
            "send_ns": link.send_ns,
            "latency_ns": link.latency_ns,
            "bandwidth_gb_per_s": (link.bandwidth or 0) / 1e9,
            "error": link.error,
            "points": [list(point) for point in link.points],
        }
        for link in costs.links
    ]
    return {
        "date": "2026-11-21",
        "program": "alrsim 0.1.0",
        "device": "a planted host",
        "torch": "2.13.0",
        "executor": "processes",
        "units": 2,
        "cores": 2,
        "repeats": 5,
        "overhead_ns": 700,
        "host": {"cpu_share": 0.99, "drift": 0.02},
        "links": links,
        "tables": [table_of(sought(4, 1), rows, 5).model_dump(mode="json")],
    }


def sought(batch: int, copies: int) -> Sought:
    return Sought(stages(batch), "lr", replace(OPTIONS, copies=copies))


def text_of(calibration: dict[str, Any]) -> str:
    base = yaml.safe_load((profile_folder() / "cpu-2core.yaml").read_text(encoding="utf-8"))
    document = {key: base[key] for key in ("name", "device", "kind", "units", "shared_cores")}
    return profile_text(
        {**document, "calibration": calibration, "unit": base["unit"], "links": base["links"]}, "p.yaml"
    )


@pytest.fixture(scope="module")
def text() -> str:
    return text_of(planted_calibration())


@pytest.fixture
def profile(text: str, tmp_path: Path) -> Profile:
    path = tmp_path / "planted.yaml"
    path.write_text(text, encoding="utf-8")
    return load_profile(path)


def section(profile: Profile) -> Calibration:
    assert profile.spec.calibration is not None
    return profile.spec.calibration


def test_what_was_written_is_read_back(profile: Profile) -> None:
    found, wanted = section(profile), planted_calibration()
    assert found.model_dump(mode="json", exclude_none=True, exclude={"checksum", "kernels"}) == wanted
    rows = parse_rows(found.tables[0].rows)
    assert len(rows) == len({(row.stage, row.kind, row.clean, row.samples, row.copies) for row in rows})
    assert format_rows(rows) == found.tables[0].rows


def test_profiles_without_calibration_load_as_before() -> None:
    assert load_profile("cpu-2core").spec.calibration is None


@pytest.mark.parametrize(
    ("old", "new"), [("overhead_ns: 700", "overhead_ns: 701"), (" 4 1 2000 4000 ", " 4 1 2001 4000 ")]
)
def test_an_edited_calibration_is_refused(text: str, tmp_path: Path, old: str, new: str) -> None:
    assert old in text
    path = tmp_path / "edited.yaml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ProfileError, match=r"calibration.checksum.*cut off or edited"):
        load_profile(path)


def test_a_file_that_is_cut_off_anywhere_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "cut.yaml"
    lines = text.splitlines(keepends=True)
    for count in range(0, len(lines) - 1, 7):
        path.write_text("".join(lines[:count]), encoding="utf-8")
        with pytest.raises(ProfileError):
            load_profile(path)
    path.write_text(text[: len(text) // 2], encoding="utf-8")
    with pytest.raises(ProfileError):
        load_profile(path)


def test_impossible_rows_are_named_by_their_line() -> None:
    head = format_rows(()).strip()
    with pytest.raises(ValueError, match="line 2 is no row"):
        parse_rows(f"{head}\nabc F 0 4\n")
    with pytest.raises(ValueError, match="line 3 holds impossible"):
        parse_rows(f"{head}\na F 0 4 1 5 6 0.1 0\na F 0 4 1 6 5 0.1 0\n")
    with pytest.raises(ValueError, match="first line"):
        parse_rows("")


def test_no_profile_with_a_wrong_section_is_ever_written() -> None:
    with pytest.raises(ProfileError, match="units"):
        text_of({**planted_calibration(), "units": 0})
    assert checksum({"a": 1}) == checksum({"checksum": "x", "a": 1}) != checksum({"a": 2})


def test_measured_sizes_are_found_as_they_were_measured(profile: Profile) -> None:
    for batch in (4, 16):
        found = look_up(section(profile), sought(batch, 2), lr_tasks(batch, 2))
        wanted = planted(batch, 2)
        assert found.costs is not None
        assert found.costs == replace(wanted, spread=found.costs.spread, samples={})
        assert found.costs.notes == ()


def test_sizes_between_are_interpolated_and_said(profile: Profile) -> None:
    found = look_up(section(profile), sought(8, 2), lr_tasks(8, 2)).costs
    assert found is not None
    for key, time in planted(8, 2).isolated.items():
        assert found.isolated[key] == pytest.approx(time, rel=1e-3)  # a power law is met exactly
        assert found.busy[key] == pytest.approx(2 * time, rel=1e-3)
    assert any("8 samples" in note and "interpolated" in note for note in found.notes)


def test_more_copies_than_measured_are_extrapolated_and_said(profile: Profile) -> None:
    found = look_up(section(profile), sought(8, 4), lr_tasks(8, 4)).costs
    assert found is not None
    noisy = [key for key in found.isolated if key[2] == 4]
    assert noisy
    for key in noisy:
        assert found.isolated[key] == pytest.approx(planted(8, 4).isolated[key], rel=1e-3)
    assert any("4 copies extrapolated" in note for note in found.notes)


def test_other_rules_options_and_stages_are_not_found(profile: Profile) -> None:
    other = Sought(stages(4), "lr", replace(OPTIONS, noise="rademacher"))
    assert look_up(section(profile), other, RULES["lr"](stages(4), OPTIONS)).costs is None
    bp = Sought(stages(4), "bp", OPTIONS)
    assert look_up(section(profile), bp, RULES["bp"](stages(4), OPTIONS)).missing == "F of stage 0"
    larger = replace(stages(4), stages=tuple(replace(stage, parameters=9) for stage in stages(4).stages))
    assert stage_digest(larger, 0) != stage_digest(stages(4), 0) == stage_digest(stages(16), 0)


def test_a_calibrated_problem_has_measured_times_links_and_contention() -> None:
    costs, tasks = planted(4, 2), lr_tasks(4, 2)
    problem = calibrated_problem(tasks, machine_from(load_profile("cpu-2core"), 2), OPTIONS.precision, costs)
    contention = problem.contention
    assert contention is not None
    for index, task in enumerate(tasks.tasks):
        time = costs.isolated[cost_key(task)]
        assert contention.alone[index] == (time, time)
        assert contention.busy[index] == (2 * time, 2 * time)
        assert problem.durations[index] == (2 * time + 700,) * 2
        assert problem.shortest[index] == (time + 700,) * 2
        assert problem.tasks.tasks[index].scratch == 64 * 4 * task.copies
    links = link_table(problem.machine)
    assert links[0, 1].hold_ns(4000) == 5000 + 1000
    assert (links[0, 1].latency_ns, links[1, 0].latency_ns) == (2000, 3000)
    assert problem.machine.shared_cores == 2


def test_pairs_that_were_not_measured_get_the_slowest_link() -> None:
    problem = calibrated_problem(lr_tasks(4, 2), abstract_machine(3), OPTIONS.precision, planted(4, 2))
    assert link_table(problem.machine)[1, 2].latency_ns == 2000  # of 0 -> 1, the lower bandwidth


def test_a_task_that_was_not_measured_is_an_error() -> None:
    with pytest.raises(OptionError, match="was not measured"):
        calibrated_problem(lr_tasks(4, 4), abstract_machine(2), OPTIONS.precision, planted(4, 2))


def test_a_roofline_is_corrected_and_gets_the_executors_overhead() -> None:
    machine = machine_from(load_profile("cpu-2core"), 2)
    plain = price(lr_tasks(4, 2), machine, OPTIONS.precision, roofline, name="roofline")
    line = RooflineSection(start_ns=100, launch_ns=10, slope=3.0, error=0.1, plain_error=0.5)
    corrected = on_line(plain, line)
    for task, row, bare in zip(plain.tasks.tasks, corrected.durations, plain.durations, strict=True):
        launches = task.work.launches + task.encoded.launches
        assert row[0] == 100 + 10 * launches + 3 * (bare[0] - launches * machine.units[0].launch_overhead_ns)
    run = with_executor(corrected, planted(4, 2), 1.5)
    assert run.contention is not None
    assert run.durations[0][0] == round(1.5 * corrected.durations[0][0]) + 700


def test_a_busy_host_is_called_busy_with_numbers() -> None:
    assert not HostLoad(0.99, 0.03).busy
    assert "71%" in HostLoad(0.71, 0.0).words
    assert HostLoad(0.71, 0.0).busy
    assert HostLoad(1.0, 0.4).busy
    assert "40%" in HostLoad(1.0, 0.4).words


def test_what_models_take_beyond_the_roofline_is_recovered() -> None:
    sizes = ((0.0, 1), (500.0, 2), (90_000.0, 4), (4_000.0, 9), (60_000.0, 20))
    full = [Modelled(body, launches, 100, 700 + 40 * launches + 2.5 * body) for body, launches in sizes]
    found = roofline_section(full)
    assert found is not None
    assert (found.start_ns, found.launch_ns, found.slope) == (700, 40, pytest.approx(2.5))
    assert found.error < 1e-3 < found.plain_error
    bare = [Modelled(body, launches, 100, 700 + 40 * launches + body) for body, launches in sizes]
    small = roofline_section(bare, kernels=False)
    assert small is not None
    assert (small.start_ns, small.launch_ns, small.slope) == (700, 40, 1.0)
    assert roofline_section(full[:3]) is None
