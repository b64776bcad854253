"""``alrsim calibrate`` and ``--cost``: a profile is measured, shown and predicted with; bad input is refused."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from alrsim.cli.main import run
from alrsim.documents import document_type, kind_of
from alrsim.errors import OptionError
from alrsim.hardware.calibration import parse_rows
from alrsim.hardware.profile import load_profile
from alrsim.study.calibration import parse_counts

SMALL = ("--quick", "--repeats", "2", "--samples", "2,4", "--copies", "1,2", "--methods", "bp:gpipe,lr:lr-free")


def parsed(text: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(text)
    Draft202012Validator(document_type(kind_of(document)).schema()).validate(document)
    return document


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A small MLP's tasks, measured with processes; and the JSON of the verb."""
    folder = tmp_path_factory.mktemp("calibrated")
    path, document = folder / "this-host.yaml", folder / "calibrate.json"
    argv = ["calibrate", "mlp", "--option", "hidden=8", *SMALL, "--executor", "processes", "--units", "2"]
    assert run([*argv, "-o", str(path), "--json", str(document)]) == 0
    return path, parsed(document.read_text(encoding="utf-8"))


MODEL = ("mlp", "--option", "hidden=8")


def test_a_profile_holds_what_was_asked_for(calibrated: tuple[Path, dict[str, Any]]) -> None:
    path, document = calibrated
    profile = load_profile(path)
    found = profile.spec.calibration
    assert found is not None
    assert (found.executor, found.units, profile.name) == ("processes", 2, "this-host")
    assert [table.rule for table in found.tables] == ["bp", "lr"]
    bp, lr = (parse_rows(table.rows) for table in found.tables)
    assert {(row.samples, row.copies) for row in bp} == {(2, 1), (4, 1)}
    assert {row.copies for row in lr if row.kind == "G"} == {1, 2}
    assert {row.kind for row in bp} == {"F", "L", "B", "U"}
    assert {kernel.kernel for kernel in found.kernels} == {"matmul", "conv", "elementwise", "copy", "launch"}
    assert {(link.source, link.target) for link in found.links} == {(0, 1), (1, 0)}
    assert document["calibration"]["tables"][0]["rows"] == len(bp)
    assert [entry.name for entry in path.parent.iterdir() if entry.name.startswith(".")] == []


def test_measured_costs_predict_and_say_so(calibrated: tuple[Path, dict[str, Any]], alrsim: Any) -> None:
    path, _ = calibrated
    ran = alrsim("simulate", *MODEL, "--batch", 16, "--method", "bp:gpipe", "--hardware", path, "--json", "-")
    document = parsed(ran.out)
    assert document["cost_model"] == "measured"
    assert document["transfer_semantics"] == "blocking"  # of the executor that was calibrated
    terms = dict(part.split("=") for part in document["facts"]["terms_ns"])
    assert sum(map(int, terms.values())) == document["makespan"]
    assert int(terms["overhead"]) > 0
    text = alrsim("simulate", *MODEL, "--batch", 12, "--method", "bp:gpipe", "--hardware", path).out
    assert "3 samples x 1 copies interpolated" in text
    assert "predicted by cost model measured: of" in text


def test_the_roofline_predicts_where_nothing_was_measured(calibrated: tuple[Path, dict[str, Any]], alrsim: Any) -> None:
    path, _ = calibrated
    options = ("mlp", "--option", "hidden=16", "--batch", 16, "--method", "bp:gpipe", "--hardware", path)
    ran = alrsim("simulate", *options)
    assert "predicted by cost model roofline" in ran.out
    assert "no measured time of F of stage 0" in ran.err
    assert "over the tasks that were measured" in ran.out
    refused = alrsim("simulate", *options, "--cost", "measured")
    assert refused.status == 1
    assert "has no measured time of F of stage 0" in refused.err
    both = alrsim("compare", *MODEL, "--batch", 16, "--hardware", path, "--methods", "bp:gpipe,bp:zb-h1", "--json", "-")
    assert parsed(both.out)["cost_model"] == "roofline"  # zb-h1 splits its backward, which was not measured
    assert "has not measured every method" in both.err


def test_a_comparison_names_its_terms_and_its_error(calibrated: tuple[Path, dict[str, Any]], alrsim: Any) -> None:
    path, _ = calibrated
    ran = alrsim(
        "compare", *MODEL, "--batch", 16, "--hardware", path, "--methods", "bp:gpipe,lr:lr-free", "--json", "-"
    )
    document = parsed(ran.out)
    assert document["cost_model"] == "measured"
    assert "task times measured with executor processes" in document["cost_model_error"]
    for method in document["methods"]:
        assert sum(method["terms_ns"].values()) == method["makespan_ns"]


def test_a_calibration_is_shown_readably(calibrated: tuple[Path, dict[str, Any]], alrsim: Any) -> None:
    path, _ = calibrated
    text = alrsim("hardware", "show", path).out
    assert "u0 -> u1" in text
    assert "executor processes" in text
    assert "while calibrating" in text
    assert parsed(alrsim("hardware", "show", path, "--json", "-").out)["calibration"]["units"] == 2
    assert parsed(alrsim("hardware", "show", "cpu-2core", "--json", "-").out)["calibration"] is None
    assert alrsim("hardware", "validate", path).status == 0


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("calibrate", "-o", "x.yaml"), "MODEL: needs a model, or --host"),
        (("calibrate", "mlp", "--host", "-o", "x.yaml"), "one of the two"),
        (("calibrate", "mlp"), "Missing option '--output'"),
        (("calibrate", "mlp", "-o", "x.json"), "does not end in .yaml"),
        (("calibrate", "mlp", "-o", "nowhere/x.yaml"), "does not exist"),
        (("calibrate", "mlp", "-o", "x.yaml", "--device", "tpu"), "--device: 'tpu' is not a choice"),
        (("calibrate", "mlp", "-o", "x.yaml", "--samples", "4,none"), "--samples"),
        (("calibrate", "mlp", "-o", "x.yaml", "--copies", "0"), "--copies"),
        (("calibrate", "mlp", "-o", "x.yaml", "--executor", "magic"), "magic"),
        (("calibrate", "model.onnx", "-o", "x.yaml"), "no such file"),
        (("simulate", "mlp", "--method", "bp:gpipe", "--cost", "measured"), "holds no measured task times"),
        (("simulate", "mlp", "--method", "bp:gpipe", "--cost", "guess"), "--cost"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_slow(
    alrsim: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = alrsim(*argv)
    assert ran.status == 1
    assert words in ran.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_calibration_leaves_no_file(
    alrsim: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_args: Any, **_options: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

    monkeypatch.setattr("alrsim.execution.measuring.host_kernels.measure", interrupted)
    ran = alrsim("calibrate", "--host", "-o", tmp_path / "x.yaml")
    assert ran.status == 130, ran.err
    assert "no file was left half-written" in ran.err
    assert not list(tmp_path.iterdir())


def test_lists_of_counts_are_sorted_and_unique() -> None:
    assert parse_counts("4, 1,4", "copies") == (1, 4)
    with pytest.raises(OptionError):
        parse_counts("", "copies")


def test_a_plan_says_that_it_takes_no_measured_task_times(calibrated: tuple[Path, dict[str, Any]], alrsim: Any) -> None:
    ran = alrsim("plan", *MODEL, "--hardware", calibrated[0], "--units", 2, "--search", "effort=0.05")
    assert ran.status == 0, ran.err
    assert "the task times that the profile holds are of one cut and are not used" in ran.out
