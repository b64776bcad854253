"""``train`` as a function: what it returns, writes, resumes and refuses."""

import csv
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from alrsim.documents import read_document
from alrsim.errors import AlrsimError, AlrsimWarning, FileError
from alrsim.estimators.policy import PRESETS
from alrsim.files import save_value
from alrsim.steps.model import load_model
from alrsim.training import loop
from alrsim.training.verb import train

SMALL: dict[str, Any] = {"option": {"hidden": "8"}, "batch": 10, "microbatches": 1, "steps": 4, "eval_every": 2}
NOISY = {**SMALL, "method": "lr", "copies": 4}


def without_time(result: Any) -> list[dict[str, Any]]:
    return [{**row, "seconds": 0} for row in result.to_dict()["rows"]]


def own_model() -> tuple[nn.Module, Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    x = np.random.default_rng(0).normal(size=(100, 6))
    return module, (x, np.argmax(x[:, :3], 1))


def test_the_result_says_what_was_done() -> None:
    found = train("mlp", monitor=2, seed=3, **NOISY)
    assert [row.step for row in found.rows] == [0, 2, 4]
    assert (found.dataset.name, found.method, found.noisy, found.schedule) == ("digits", "lr", True, None)
    assert found.cost_per_step.forwards == 5
    assert found.rows[-1].forwards == 2 * 5 + 2 * 2 * 3, "every second step runs two halves"
    assert found.job["model_options"] == {"hidden": "8", "seed": "3"}


def test_a_module_in_memory_learns_own_data_and_stays_as_it_is_unless_asked() -> None:
    module, data = own_model()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    model = load_model(module, example=torch.zeros(8, 6))
    found = train(model, data=data, steps=60, lr=0.01)
    assert (found.dataset.train, found.dataset.test) == (80, 20)
    assert "every fifth (20) held out" in found.dataset.description
    assert found.final_accuracy > 0.8
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    again = train(model, data=data, steps=60, lr=0.01, update_model=True)
    assert again.digest == found.digest
    assert all(torch.equal(value, found.weights[name]) for name, value in module.state_dict().items())
    more = train(model, data=data, steps=1, lr=0.01)
    assert more.digest != found.digest, "the first parameters are part of the job"
    assert more.rows[0].test_accuracy == found.final_accuracy


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ((np.zeros((9, 6)), np.zeros(8, int)), "9 samples with 8 labels"),
        ((np.zeros((9, 5)), np.zeros(9, int)), "takes (6,)"),
        ((np.zeros((9, 6)), np.full(9, 3)), "has 3 classes"),
        ((np.zeros((9, 6)), np.zeros(9)), "class numbers"),
        (np.zeros((9, 6)), "data=(x, y)"),
    ],
)
def test_data_that_do_not_fit_are_refused(data: Any, words: str) -> None:
    model = load_model(own_model()[0], example=torch.zeros(8, 6))
    with pytest.raises(AlrsimError) as error:
        train(model, data=data)
    assert words in str(error.value)


def test_files_and_text_for_people(tmp_path: Path) -> None:
    out = tmp_path / "run"
    found = train("mlp", out=out, **{**NOISY, "method": "lr:lr-fixed", "microbatches": 2})
    for words in ("mlp on digits: lr with 4 copies", "on 2 units, lr-fixed", "test accuracy", "F per step"):
        assert words in found.table()
    names = {"result.json", "log.csv", "log.jsonl", "curves.png", "checkpoint.pt", "checkpoint.pt.previous"}
    assert {path.name for path in out.iterdir()} == names
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert read_document(out / "result.json").to_dict() == found.to_dict()
    with (out / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [0, 2, 4]
    logged = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert logged == found.to_dict()["rows"]
    assert rows[0]["train_loss"] == ""
    assert float(rows[2]["test_loss"]) == found.rows[2].test_loss


def test_ctrl_c_writes_a_checkpoint_and_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train("mlp", **NOISY)
    step, path = loop._step, tmp_path / "run.pt"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupted(training: Any, state: Any) -> None:
        step(training, state)
        if state.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    try:
        with monkeypatch.context() as patch:
            patch.setattr(loop, "_step", interrupted)
            with (
                pytest.warns(AlrsimWarning, match="stopped after step 3 of 4; go on"),
                pytest.raises(KeyboardInterrupt),
            ):
                train("mlp", checkpoint=path, **NOISY)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    with pytest.raises(FileError, match="add resume to go on"):
        train("mlp", checkpoint=path, **NOISY)
    found = train("mlp", checkpoint=path, resume=True, scheduler="lr-free", **NOISY)
    assert found.resumed_at == 3
    assert without_time(found) == without_time(whole)
    with pytest.raises(FileError, match=r"lr was 0\.001, is 0\.5"):
        train("mlp", checkpoint=path, resume=True, lr=0.5, **NOISY)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(FileError, match=r"cut off[^$]*run\.pt\.previous"):
        train("mlp", checkpoint=path, resume=True, **NOISY)


def test_an_old_checkpoint_is_refused_by_its_version(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    torch.save({"format": "alrsim.checkpoint/1", "digest": ""}, path)
    with pytest.raises(FileError, match=r"is no alrsim\.checkpoint/3, it is alrsim\.checkpoint/1"):
        train("mlp", checkpoint=path, resume=True, **NOISY)


def test_a_second_train_into_a_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, step = tmp_path / "out", loop._step
    refused: list[str] = []

    def second(training: Any, state: Any) -> None:
        for where in ({"out": out}, {"checkpoint": out / "other.pt"}):
            with pytest.raises(FileError) as error:
                train("mlp", **where, **NOISY)
            refused.append(error.value.what)
        step(training, state)

    monkeypatch.setattr(loop, "_step", second)
    train("mlp", out=out, **NOISY)
    assert set(refused) == {"another train is writing into this folder"}
    monkeypatch.undo()
    assert train("mlp", out=out, resume=True, **{**NOISY, "steps": 6}).resumed_at == 4


def test_a_train_that_is_refused_leaves_no_folder(tmp_path: Path) -> None:
    for folder, options in ((tmp_path / "out", {"out": tmp_path / "out"}), (tmp_path, {"out": Path("/proc/sys/x")})):
        with pytest.raises(AlrsimError):
            train("no-such-model", **options)  # type: ignore[arg-type]
        assert list(tmp_path.iterdir()) == [], folder


def test_estimators_of_a_file_train_like_the_method_that_they_spell_out(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    save_value("plan", PRESETS["hybrid"].plan([True] * 3, copies=4), path)
    found = train("mlp", estimators=path, **SMALL)
    named = train("mlp", method="hybrid", copies=4, **SMALL)
    assert [one["kind"] for one in found.job["plan"]] == ["es", "es", "lr"]
    assert without_time(found) == without_time(named)
    for options, words in (
        ({"cut": "balanced:2"}, "estimators for 3 stages, cut balanced:2 of mlp has 2"),
        ({"cut": "balanced:2"}, "cut=layer"),
        ({"noise": "gauss"}, "noise"),
        ({"method": "alr"}, "give one"),
    ):
        with pytest.raises(AlrsimError) as error:
            train("mlp", estimators=path, **SMALL, **options)
        assert words in str(error.value)


def test_auto_measures_its_plan_once_and_goes_on_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options, path = {**SMALL, "method": "auto", "copies_max": 6, "monitor": 2}, tmp_path / "run.pt"
    first = train("mlp", checkpoint=path, **options)
    assert any(line.startswith("plan: stage") for line in first.text)
    assert len(first.job["plan"]) == 3
    assert max(one["copies"] for one in first.job["plan"]) == first.job["copies"] <= 6

    def never(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("alrsim.training.setup.with_measured_plan", never)
    again = train("mlp", checkpoint=path, resume=True, **{**options, "steps": 8})
    assert again.digest == first.digest


def test_segments_formats_and_weight_codes_reach_the_job() -> None:
    options = {"method": "segments", "segments": "1", "copies": 4, "precision": "saved=bf16,noise=regenerated"}
    job = train("mlp", weight_code="int8", **SMALL, **options).job
    assert (list(job["segments"]), job["changes"]) == ([1], {"weight_code": "int8"})
    assert job["precision"] == {"parameters": "fp32", "activations": "fp32", "saved": "bf16", "noise": "regenerated"}


def test_epochs_and_feedback_alignment_from_its_room_above() -> None:
    options = {**SMALL, "batch": 64}
    del options["steps"]
    found = train("mlp", dataset="random", epochs=1, method="fa", direction="sign", **options)
    assert found.steps_done == -(-found.dataset.train // 64)
    assert (found.noisy, found.job["cut"]) == (False, "block")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "lrr"}, "try: lr"),
        ({"optimizer": "adma"}, "try: adam"),
        ({"scheduler": "lr-fixd", "method": "lr"}, "'lr-fixd' is not a scheduler"),
        ({"method": "lr:lr-fixed", "scheduler": "lr-free"}, "give one of the two"),
        ({"units": 2}, "scheduler=lr-fixed"),
        ({"copies": 0}, "copies"),
        ({"sigma": float("nan")}, "sigma"),
        ({"noise": "gauss"}, "bp is exact"),
        ({"method": "lr", "noise": "gaus"}, "noise"),
        ({"method": "lr", "inject": "pre", "cut": "layer"}, "inject"),
        ({"method": "fa", "scheduler": "lr-fixed"}, "no schedule can run it"),
        ({"method": "lr", "beta": 2}, "no kernels"),
        ({"resume": True}, "add out or checkpoint"),
        ({"batch": 10, "microbatches": 3}, "cannot be split evenly"),
        ({"dataset": "nothing"}, "is not a data set"),
        ({"epochs": 0}, "epochs"),
        ({"method": "lr", "target_cosine": 0.5}, "monitor"),
        ({"copies": 4}, "bp is exact"),
        ({"method": "fa", "group": 2}, "fa has no noise"),
        ({"method": "hsic", "sigma": 0.1}, "hsic has no noise"),
        ({"method": "lr", "copies": 3, "group": 2}, "do not divide"),
        ({"momentum": 0.5}, "adam does not read it"),
        ({"lr_every": 5}, "lr_schedule=step"),
        ({"method": "lr", "sigma_lr": 0.1}, "sigma_rule=learned"),
        ({"method": "lr", "copies_min": 4}, "target_cosine"),
        ({"steps": 5, "epochs": 1}, "give one of them"),
        ({"method": "auto", "copies": 5}, "what auto measures"),
        ({"method": "segments"}, "segments=2,4"),
        ({"method": "lr", "segments": "1"}, "method=segments"),
        ({"method": "lr", "mask": "reach"}, "one loss per sample"),
        ({"method": "es", "mask": "reach"}, "reaches every loss"),
        ({"method": "lr", "precision": "saved=int9"}, "precision"),
        ({"method": "lr", "weight_code": "int9"}, "weight_code"),
        ({"estimators": "nowhere.json"}, "no such file"),
        ({"direction": "signs"}, "direction"),
    ],
)
def test_every_mistake_gets_one_clear_message(options: dict[str, Any], words: str) -> None:
    with pytest.raises(AlrsimError) as error:
        train("mlp", **options)
    assert words in str(error.value)


def test_only_torch_models_can_be_trained() -> None:
    with pytest.raises(AlrsimError, match="only torch models"):
        train(load_model("mlp").graph)
