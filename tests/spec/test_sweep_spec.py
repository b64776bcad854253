"""Specifications of sweeps: what they mean, and what is refused in which line."""

from pathlib import Path

import pytest

from alrsim.errors import FileError
from alrsim.sweeps.grid import canonical, configurations, digest
from alrsim.sweeps.spec import Quality, Spec, read_spec


def spec_of(tmp_path: Path, text: str) -> Spec:
    path = tmp_path / "spec.yaml"
    path.write_text(text, encoding="utf-8")
    return read_spec(path)


def test_a_grid_is_every_combination_and_the_last_option_varies_fastest(tmp_path: Path) -> None:
    found = configurations(spec_of(tmp_path, "fixed: {model: mlp}\ngrid: {units: [2, 4], precision: [fp32, bf16]}\n"))
    assert found == [
        {"model": "mlp", "units": 2, "precision": "fp32"},
        {"model": "mlp", "units": 2, "precision": "bf16"},
        {"model": "mlp", "units": 4, "precision": "fp32"},
        {"model": "mlp", "units": 4, "precision": "bf16"},
    ]


def test_what_is_equal_after_dropping_what_nothing_reads_is_one_configuration(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "grid: {units: [2, 4], copies: [1, 2, 3]}\n")
    assert configurations(spec, lambda one: {"units": one["units"]}) == [{"units": 2}, {"units": 4}]


SAMPLED = """\
grid: {precision: [fp32, bf16]}
ranges: {copies: {from: 1, to: 10}, overlap: {from: 0.5, to: 1.0}, batch: {from: 8, to: 1024, scale: log}}
sample: {count: 40, seed: 3, method: %s}
"""


@pytest.mark.parametrize("method", ["random", "latin-hypercube"])
def test_a_sample_stays_in_its_ranges_and_depends_on_its_seed_alone(tmp_path: Path, method: str) -> None:
    found = configurations(spec_of(tmp_path, SAMPLED % method))
    assert found == configurations(spec_of(tmp_path, SAMPLED % method))
    assert found != configurations(spec_of(tmp_path, (SAMPLED % method).replace("seed: 3", "seed: 4")))
    assert len(found) == 40
    for one in found:
        assert one["precision"] in ("fp32", "bf16")
        assert isinstance(one["copies"], int)
        assert 1 <= one["copies"] <= 10
        assert 0.5 <= float(one["overlap"]) <= 1  # type: ignore[arg-type]
        assert isinstance(one["batch"], int)
        assert 8 <= one["batch"] <= 1024


def test_a_latin_hypercube_meets_every_stratum_of_every_axis_once(tmp_path: Path) -> None:
    found = configurations(spec_of(tmp_path, SAMPLED % "latin-hypercube"))
    assert [sum(one["copies"] == value for one in found) for value in range(1, 11)] == [4] * 10
    assert sum(one["precision"] == "bf16" for one in found) == 20
    assert sorted(int((float(one["overlap"]) - 0.5) * 80) for one in found) == list(range(40))  # type: ignore[arg-type]


def test_a_range_of_whole_numbers_reaches_both_ends(tmp_path: Path) -> None:
    for scale in ("linear", "log"):
        text = f"ranges: {{copies: {{from: 1, to: 3, scale: {scale}}}}}\nsample: {{count: 100}}\n"
        assert {one["copies"] for one in configurations(spec_of(tmp_path, text))} == {1, 2, 3}


def test_the_key_depends_on_verb_values_files_and_version_but_not_on_order() -> None:
    one = digest("compare", {"a": 1, "b": "x"}, {"f": "0"}, "1")
    assert one == digest("compare", {"b": "x", "a": 1}, {"f": "0"}, "1")
    others = [
        digest("plan", {"a": 1, "b": "x"}, {"f": "0"}, "1"),
        digest("compare", {"a": "1", "b": "x"}, {"f": "0"}, "1"),
        digest("compare", {"a": 1, "b": "x"}, {"f": "1"}, "1"),
        digest("compare", {"a": 1, "b": "x"}, {"f": "0"}, "2"),
    ]
    assert len({one, *others}) == 5
    assert canonical({"b": (1, 2), "a": True}) == '{"a":true,"b":[1,2]}'


def test_quality_is_the_variance_law_per_rule(tmp_path: Path) -> None:
    assert Quality(900).cosine(900) == pytest.approx(0.5**0.5)
    assert Quality(0).cosine(1) == 1
    spec = spec_of(tmp_path, "quality: {lr: {noise_to_signal: 3}, alr: {noise_to_signal: 3, ceiling: 0.8}}\n")
    lr, alr = spec.quality_of("lr:lr-fixed"), spec.quality_of("alr:lr-free")
    assert lr is not None
    assert alr is not None
    assert (lr.cosine(1), alr.cosine(1)) == (0.5, 0.4)
    assert spec.quality_of("es:list") is None
    every = spec_of(tmp_path, "quality: {noise_to_signal: 3}\n").quality_of("es:list")
    assert every is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("verb: train\n", "spec.yaml:1 (verb): 'train' cannot be swept"),
        ("fixed: {a: 1}\ngird: {b: [1]}\n", "there is no 'gird' here"),
        ("grid:\n  units: 4\n", "spec.yaml:2 (grid.units): must be a list"),
        ("grid:\n  units: []\n", "must be a list"),
        ("grid:\n  units: [2, 2]\n", "lists a value twice"),
        ("fixed: {units: 2}\ngrid: {units: [2]}\n", "units is given twice"),
        ("fixed: {units: 2}\nfixed: {units: 3}\n", "fixed"),
        ("fixed: {units: null}\n", "None is no value"),
        ("ranges: {copies: {from: 1, to: 4}}\n", "a range has no end of values"),
        ("ranges: {copies: {from: 4, to: 1}}\nsample: {count: 2}\n", "1 is no number of at least 4"),
        ("ranges: {copies: {from: 1}}\nsample: {count: 2}\n", "needs from and to"),
        ("ranges: {copies: {from: 0, to: 4, scale: log}}\nsample: {count: 2}\n", "0 is no number"),
        ("sample: {seed: 1}\n", "None is no whole number of at least 1"),
        ("sample: {count: 2, method: sobol}\n", "no way to sample"),
        ("quality: {lr: {noise: 1}}\n", "there is no 'noise' here"),
        ("quality: {lr: {noise_to_signal: 1, ceiling: 1.5}}\n", "a cosine is at most 1"),
        ("- 1\n", "is no sweep"),
        ("", "is empty"),
    ],
)
def test_faults_are_told_with_their_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FileError) as caught:
        spec_of(tmp_path, text)
    assert message in str(caught.value)
