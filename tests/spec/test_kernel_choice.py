"""The choice of a kernel: a pure policy, and costs that are measured once per host and case."""

import json
import os

import pytest

from alrsim.errors import OptionError
from alrsim.estimators.kernels import choose as choosing
from alrsim.estimators.kernels.choose import Case, cache_folder, candidates, choose, host_key, measure, pick
from alrsim.estimators.kernels.shapes import ConvShape, LinearShape

CONV = ConvShape(2, 3, (6, 6), (3, 3), (1, 1), (1, 1), (1, 1))
CASE = Case(CONV, copies=2, samples=3, inputs="binary", noise="sign")
COSTS = {"fp32": 3.0, "bf16": 2.0, "int8": 4.0, "int8-bits": 1.5, "packed": 1.0}


@pytest.fixture
def counted(monkeypatch):
    """Measurements replaced by fixed costs; the list of cases that were measured."""
    seen = []

    def fake(case, names):
        seen.append(case)
        return {name: COSTS[name] for name in names}

    monkeypatch.setattr(choosing, "measure", fake)
    return seen


def test_the_fastest_kernel_is_picked():
    assert pick(COSTS) == "packed"
    assert pick({"fp32": 1.0, "packed": 2.0}) == "fp32"


def test_within_the_margin_the_more_exact_kernel_is_picked():
    assert pick({"fp32": 1.04, "packed": 1.0}) == "fp32"
    assert pick({"fp32": 1.06, "packed": 1.0}) == "packed"
    assert pick({"packed": 1.0, "fp32": 1.04}) == "fp32"


def test_nothing_to_pick_from_is_refused():
    with pytest.raises(OptionError, match="no kernel"):
        pick({})


def test_candidates_take_the_codes_and_leave_out_the_baseline():
    assert candidates(CASE) == ["fp32", "bf16", "int8", "int8-bits", "packed"]
    assert candidates(Case(CONV, 2, 3, "real", "sign")) == ["fp32", "bf16"]
    assert candidates(Case(CONV, 2, 3, "int8", "sign")) == ["fp32", "bf16", "int8"]


@pytest.mark.parametrize("shape", [CONV, LinearShape(5, 4, 3)])
@pytest.mark.parametrize("kind", ["real", "int8", "ternary", "bipolar", "binary"])
def test_every_candidate_is_measured(shape, kind):
    case = Case(shape, 2, 3, kind, "sign")
    costs = measure(case, candidates(case))
    assert list(costs) == candidates(case)
    assert all(seconds > 0 for seconds in costs.values())


def test_a_case_is_measured_once_per_host(counted, tmp_path):
    assert choose(CASE, folder=tmp_path) == "packed"
    assert choose(CASE, folder=tmp_path) == "packed"
    assert counted == [CASE]
    other = Case(CONV, 2, 3, "real", "real")
    assert choose(other, folder=tmp_path) == "bf16"
    assert counted == [CASE, other]
    threads = Case(CONV, 2, 3, "binary", "sign", threads=2)
    choose(threads, folder=tmp_path)
    choose(CASE, folder=tmp_path)
    assert counted == [CASE, other, threads]
    document = json.loads((tmp_path / "kernels.json").read_text())
    assert set(document["hosts"]) == {host_key(1), host_key(2)}


def test_another_host_measures_again(counted, tmp_path, monkeypatch):
    choose(CASE, folder=tmp_path)
    monkeypatch.setattr(choosing, "host_key", lambda threads: f"another machine, {threads}")
    choose(CASE, folder=tmp_path)
    assert len(counted) == 2


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "\x00\xff",
        '{"format": "alrsim.kernel-costs/1"}',
        '{"format": "alrsim.kernel-costs/1", "hosts": {"a": 3}}',
        '{"format": "alrsim.kernel-costs/0", "hosts": {}}',
    ],
)
def test_a_broken_cache_is_written_again(counted, tmp_path, content):
    path = tmp_path / "kernels.json"
    path.write_bytes(content.encode("latin-1"))
    assert choose(CASE, folder=tmp_path) == "packed"
    assert choose(CASE, folder=tmp_path) == "packed"
    assert counted == [CASE]


@pytest.mark.parametrize("costs", [{"packed": -1}, {"packed": "fast"}, {"packed": None}, 7, {"packed": 1.0}])
def test_costs_that_make_no_sense_or_miss_a_kernel_are_measured_again(counted, tmp_path, costs):
    document = {"format": choosing.FORMAT, "hosts": {host_key(1): {CASE.name: costs}}}
    (tmp_path / "kernels.json").write_text(json.dumps(document))
    assert choose(CASE, folder=tmp_path) == "packed"
    assert counted == [CASE]


def test_what_others_wrote_is_kept(counted, tmp_path):
    document = {"format": choosing.FORMAT, "hosts": {"elsewhere": {"some case": {"fp32": 1.0}}}}
    (tmp_path / "kernels.json").write_text(json.dumps(document))
    choose(CASE, folder=tmp_path)
    assert json.loads((tmp_path / "kernels.json").read_text())["hosts"]["elsewhere"] == {"some case": {"fp32": 1.0}}


def test_a_folder_that_cannot_be_written_is_no_error(counted, tmp_path):
    (tmp_path / "file").write_text("")
    assert choose(CASE, folder=tmp_path / "file" / "folder") == "packed"


def test_a_forced_kernel_is_not_measured(counted, tmp_path):
    assert choose(CASE, force="paper", folder=tmp_path) == "paper"
    with pytest.raises(OptionError, match="cannot multiply"):
        choose(Case(CONV, 2, 3, "real", "real"), force="int8", folder=tmp_path)
    assert counted == []
    assert not (tmp_path / "kernels.json").exists()


def test_the_cache_lies_where_the_desktop_standard_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "alrsim"
    for empty in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", empty)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert cache_folder() == tmp_path / ".cache" / "alrsim"


def test_a_real_choice_is_one_of_the_candidates(tmp_path):
    assert choose(CASE, folder=tmp_path) in candidates(CASE)
    assert os.listdir(tmp_path) == ["kernels.json"]
