"""``alrsim train`` from the command line: what it prints, writes, resumes and refuses."""

import csv
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from alrsim.documents import document_type, kind_of
from alrsim.estimators.policy import PRESETS
from alrsim.files import save_value
from alrsim.training import loop

SMALL = ("mlp", "--option", "hidden=8", "--batch", 10, "-m", 1, "--steps", 4, "--eval-every", 2)
NOISY = (*SMALL, "--method", "lr", "--copies", 4)


def document_of(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    Draft202012Validator(document_type(kind_of(found)).schema()).validate(found)
    return found


def test_json_and_nothing_else(alrsim: Any) -> None:
    ran = alrsim("train", *NOISY, "--monitor", 2, "--seed", 3, "--json", "-")
    assert (ran.status, ran.err) == (0, "")
    found = document_of(ran.out)
    assert [row["step"] for row in found["rows"]] == [0, 2, 4]
    assert (found["dataset"]["name"], found["method"], found["noisy"]) == ("digits", "lr", True)
    assert found["cost_per_step"]["forwards"] == 5
    assert found["rows"][-1]["forwards"] == 2 * 5 + 2 * 2 * 3, "every second step runs two halves"
    assert found["job"]["model_options"] == {"hidden": "8", "seed": "3"}
    assert found["schedule"] is None


def test_files_and_text_for_people(alrsim: Any, tmp_path: Path) -> None:
    out = tmp_path / "run"
    ran = alrsim("train", *NOISY, "--out", out, "--scheduler", "lr-fixed", "--microbatches", 2)
    assert (ran.status, ran.err) == (0, "")
    for words in ("mlp on digits: lr with 4 copies", "on 2 units, lr-fixed", "test accuracy", "F per step"):
        assert words in ran.out
    assert {path.name for path in out.iterdir()} == {
        "result.json",
        "log.csv",
        "log.jsonl",
        "curves.png",
        "checkpoint.pt",
        "checkpoint.pt.previous",
    }
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    found = document_of((out / "result.json").read_text())
    with (out / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [0, 2, 4]
    assert [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()] == found["rows"]
    assert rows[0]["train_loss"] == ""
    assert float(rows[2]["test_loss"]) == found["rows"][2]["test_loss"]


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(("how", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_writes_a_checkpoint_and_says_how_to_go_on(
    alrsim: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: signal.Signals, status: int
) -> None:
    whole = document_of(alrsim("train", *NOISY, "--json", "-").out)
    step, path = loop._step, tmp_path / "run.pt"

    def interrupted(training: Any, state: Any) -> None:
        step(training, state)
        if state.step == 3:
            os.kill(os.getpid(), how)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_step", interrupted)
        ran = alrsim("train", *NOISY, "--checkpoint", path)
    assert ran.status == status
    assert "stopped after step 3 of 4; go on with the same options and --resume" in ran.err
    refused = alrsim("train", *NOISY, "--checkpoint", path)
    assert (refused.status, "add --resume" in refused.err) == (1, True)
    again = alrsim("train", *NOISY, "--checkpoint", path, "--resume", "--scheduler", "lr-free", "--json", "-")
    assert (again.status, again.err) == (0, "")
    found = document_of(again.out)
    assert found["resumed_at"] == 3
    for row in (*found["rows"], *whole["rows"]):
        del row["seconds"]
    assert found["rows"] == whole["rows"]
    other = alrsim("train", *NOISY, "--checkpoint", path, "--resume", "--lr", 0.5)
    assert (other.status, "--lr was 0.001, is 0.5" in other.err) == (1, True)
    path.write_bytes(path.read_bytes()[:1000])
    broken = alrsim("train", *NOISY, "--checkpoint", path, "--resume")
    assert (broken.status, "cut off" in broken.err, "run.pt.previous" in broken.err) == (1, True, True)


def test_a_users_own_model_trains_by_epochs(alrsim: Any, factory_file: Path) -> None:
    options = ("--dataset", "random", "--batch", 64, "--epochs", 1, "--method", "fa", "--direction", "sign")
    ran = alrsim("train", f"{factory_file}:make", *options, "--json", "-")
    assert ran.status == 0, ran.err
    found = document_of(ran.out)
    assert found["steps_done"] == -(-found["dataset"]["train"] // 64)
    assert not found["noisy"]
    assert found["job"]["cut"] == "block"


def test_a_plan_file_trains_like_the_method_that_it_spells_out(alrsim: Any, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    save_value("plan", PRESETS["hybrid"].plan([True] * 3, copies=4), path)
    found = document_of(alrsim("train", *SMALL, "--estimators", path, "--json", "-").out)
    named = document_of(alrsim("train", *SMALL, "--method", "hybrid", "--copies", 4, "--json", "-").out)
    assert [one["kind"] for one in found["job"]["plan"]] == ["es", "es", "lr"]
    for row in (*found["rows"], *named["rows"]):
        del row["seconds"]
    assert found["rows"] == named["rows"]
    refused = alrsim("train", *SMALL, "--estimators", path, "--cut", "balanced:2")
    assert refused.status == 1
    assert "there are estimators for 3 stages, cut balanced:2 of mlp has 2" in refused.err
    assert "--cut layer" in refused.err
    assert "--noise" in alrsim("train", *SMALL, "--estimators", path, "--noise", "gauss").err
    assert "give one" in alrsim("train", *SMALL, "--estimators", path, "--method", "alr").err


def test_auto_measures_its_plan_once_and_goes_on_with_it(
    alrsim: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, path = (*SMALL, "--method", "auto", "--copies-max", 6, "--monitor", 2), tmp_path / "run.pt"
    ran = alrsim("train", *command, "--checkpoint", path, "--json", "-")
    assert (ran.status, ran.err) == (0, "")
    first = document_of(ran.out)
    assert len(first["job"]["plan"]) == 3
    assert max(one["copies"] for one in first["job"]["plan"]) == first["job"]["copies"] <= 6
    longer = tuple(8 if value == 4 else value for value in command)

    def never(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("alrsim.training.setup.with_measured_plan", never)
    again = alrsim("train", *longer, "--checkpoint", path, "--resume", "--json", "-")
    assert again.status == 0, again.err
    assert document_of(again.out)["digest"] == first["digest"]


def test_segments_formats_and_weight_codes_reach_the_job(alrsim: Any) -> None:
    options = ("--method", "segments", "--segments", "1", "--copies", 4, "--precision", "saved=bf16,noise=regenerated")
    ran = alrsim("train", *SMALL, *options, "--weight-code", "int8", "--json", "-")
    assert ran.status == 0, ran.err
    job = document_of(ran.out)["job"]
    assert (job["segments"], job["changes"]) == ([1], {"weight_code": "int8"})
    assert job["precision"] == {"parameters": "fp32", "activations": "fp32", "saved": "bf16", "noise": "regenerated"}


def test_help_is_in_groups(alrsim: Any) -> None:
    text = alrsim("train", "--help").out
    heads = ("Model and batch:", "Method:", "Data:", "Update:", "Monitor:", "Where tasks run:", "Files:")
    places = [text.index(head) for head in heads]
    assert places == sorted(places)
    assert places[1] < text.index("--copies C") < places[2]
    assert places[5] < text.index("--scheduler S") < places[6]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--method", "lrr"), "try: lr or"),
        (("--optimizer", "adma"), "try: adam or"),
        (("--scheduler", "lr-fixd"), "is not a scheduler"),
        (("--units", 2), "--scheduler lr-fixed"),
        (("--copies", 0), "--copies"),
        (("--sigma", "nan"), "--sigma"),
        (("--method", "bp", "--noise", "gauss"), "bp is exact"),
        (("--method", "lr", "--noise", "gaus"), "--noise"),
        (("--method", "lr", "--inject", "pre", "--cut", "layer"), "--inject"),
        (("--method", "fa", "--scheduler", "lr-fixed"), "no schedule can run it"),
        (("--method", "lr", "--beta", 2), "no kernels"),
        (("--resume",), "add --out or --checkpoint"),
        (("--checkpoint", "/nowhere/at/all.pt"), "its folder does not exist"),
        (("--batch", 10, "--microbatches", 3), "cannot be split evenly"),
        (("--dataset", "nothing"), "is not a data set"),
        (("--epochs", 0), "--epochs"),
        (("--method", "lr", "--target-cosine", 0.5), "--monitor"),
        (("--copies", 4), "bp is exact"),
        (("--method", "fa", "--group", 2), "fa has no noise"),
        (("--method", "hsic", "--sigma", 0.1), "hsic has no noise"),
        (("--method", "lr", "--copies", 3, "--group", 2), "do not divide"),
        (("--momentum", 0.5), "adam does not read it"),
        (("--lr-every", 5), "--lr-schedule step"),
        (("--method", "lr", "--sigma-lr", 0.1), "--sigma-rule learned"),
        (("--method", "lr", "--copies-min", 4), "--target-cosine"),
        (("--steps", 5, "--epochs", 1), "give one of them"),
        (("--method", "auto", "--copies", 5), "what auto measures"),
        (("--method", "segments"), "--segments 2,4"),
        (("--method", "lr", "--segments", "1"), "--method segments"),
        (("--method", "lr", "--mask", "reach"), "one loss per sample"),
        (("--method", "es", "--mask", "reach"), "reaches every loss"),
        (("--method", "lr", "--precision", "saved=int9"), "--precision: 'int9' is not a number format"),
        (("--method", "lr", "--weight-code", "int9"), "--weight-code"),
        (("--estimators", "nowhere.json"), "no such file"),
        (("--direction", "signs"), "--direction"),
    ],
)
def test_every_mistake_gets_one_clear_message(alrsim: Any, options: tuple[object, ...], words: str) -> None:
    ran = alrsim("train", "mlp", *options)
    assert ran.status == 1
    assert words in ran.err
    assert "Traceback" not in ran.err


def test_only_torch_models_can_be_trained(alrsim: Any, graph_file: Path) -> None:
    ran = alrsim("train", graph_file)
    assert (ran.status, "only torch models can be run" in ran.err) == (1, True)
