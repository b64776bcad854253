"""``no_code``: only what the package brings is run; factories, modules, functions and plug-ins are refused unread."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import alrsim as al
from alrsim.cli.main import run
from alrsim.cli.table import VERBS
from alrsim.errors import OptionError
from alrsim.registry import FILES, REGISTRIES, barring_code, snapshot

FACTORY = """
from pathlib import Path
Path({marker!r}).touch()
import torch
def make():
    net = torch.nn.Sequential(torch.nn.Linear(4, 4))
    net.input_shape = (4,)
    return net
"""
PLUGIN = """
from pathlib import Path
Path({marker!r}).touch()
import alrsim as al
@al.scheduler("mine", rules=("bp",))
def mine(problem):
    from alrsim.schedulers.pipelines import gpipe
    return gpipe(problem)
"""
MODELS = [entry.name for entry in VERBS if any(given.name.startswith("model") for given in getattr(entry, "given", ()))]
METHOD = ["--method", "bp:1f1b"]
NEEDED = {
    **dict.fromkeys(("schedule", "simulate", "explain", "execute"), METHOD),
    "export": ["-o", "made.onnx"],
    "calibrate": ["-o", "made.yaml"],
}


@pytest.fixture
def marker(tmp_path, monkeypatch):
    """A file that is there once the user's code has run."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "marker"
    (tmp_path / "own.py").write_text(FACTORY.format(marker=str(path)))
    (tmp_path / "plugin.py").write_text(PLUGIN.format(marker=str(path)))
    yield path
    for registry in REGISTRIES.values():
        for name in registry.plugged:
            dict.__delitem__(registry, name)
    FILES.clear()
    sys.modules.pop("own", None)


def test_every_verb_that_takes_a_model_is_tried():
    assert {"compare", "graph", "stages", "export", "schedule", "execute", "calibrate", "plan", "train"} <= set(MODELS)


@pytest.mark.parametrize("before", [True, False], ids=["before the verb", "behind it"])
@pytest.mark.parametrize("model", ["own.py:make", "own:make"])
@pytest.mark.parametrize("verb", MODELS)
def test_no_verb_runs_a_factory(marker, capsys, verb, model, before):
    words = [verb, model, *NEEDED.get(verb, [])]
    assert run(["--no-code", *words] if before else [*words, "--no-code"]) == 1
    said = capsys.readouterr().err
    assert f"{model}: MODEL: a factory is code, which --no-code bars\n  try: a zoo name" in said
    assert not marker.exists()


def test_the_same_factory_runs_without_it(marker):
    assert run(["graph", "own.py:make", "--json", "graph.json"]) == 0
    assert marker.exists()


@pytest.mark.parametrize(
    "words", [("--no-code", "--plugin", "plugin.py", "graph", "mlp"), ("graph", "mlp", "--plugin", "plugin.py")]
)
def test_no_plug_in_is_read(marker, capsys, words):
    assert run([*words, *([] if "--no-code" in words else ["--no-code"])]) == 1
    assert "a plug-in is code" in capsys.readouterr().err
    assert not marker.exists()


def test_a_plug_in_of_before_is_hidden(marker):
    asked = {"durations": "f=1,b=1,w=1", "units": 2, "microbatches": 2}
    al.scheduler("mine", rules=("bp",))(lambda problem: pytest.fail("it ran"))
    with pytest.raises(OptionError, match="'mine' is not a scheduler"):
        al.simulate(method="bp:mine", **asked, no_code=True)
    with barring_code():
        assert "mine" not in list(REGISTRIES["scheduler"])
        assert snapshot() == ((), ())
    assert "mine" in list(REGISTRIES["scheduler"])
    known = al.simulate(method="bp:gpipe", **asked)
    assert al.simulate(method="bp:gpipe", **asked, no_code=True).timeline == known.timeline


def test_entry_points_stay_unread(monkeypatch):
    monkeypatch.setattr("alrsim.registry.entry_points", lambda group: pytest.fail(f"{group} was read"))
    for registry in REGISTRIES.values():
        monkeypatch.setattr(registry, "_read", False)
    with pytest.raises(al.AlrsimError, match="nobody"):
        al.compare("nobody", no_code=True)
    with pytest.raises(al.AlrsimError, match="nobody"):
        al.simulate(method="bp:nobody", durations="f=1,b=1,w=1", units=2, no_code=True)


def test_modules_and_functions_of_the_caller_are_code_too():
    module, example = torch.nn.Linear(4, 2), torch.zeros(1, 4)
    with barring_code(), pytest.raises(OptionError, match="a module is code"):
        al.load_model(module, example=example)
    loaded = al.load_model(module, example=example)
    with pytest.raises(OptionError, match="a module is code"):
        al.compare(loaded, no_code=True)
    with pytest.raises(OptionError, match="a function is code"):
        al.sweep(lambda width: width, {"width": [1]}, no_code=True)


def test_data_is_no_code(tmp_path):
    path = tmp_path / "mlp.onnx"
    al.load_model("mlp").export(path, 8)
    assert len(al.compare(path, units=2, methods=["bp:gpipe"], no_code=True)) == 1
    assert len(al.compare("mlp", units=2, batch=8, methods=["bp:gpipe"], no_code=True)) == 1


SPECIFICATION = "fixed: {model: MODEL, batch: 8, units: 2}\ngrid: {method: ['bp:gpipe', 'lr:lr-fixed']}\n"


@pytest.mark.parametrize("model", ["own.py:make", "own:make"])
def test_a_specification_runs_no_factory(marker, capsys, model):
    Path("sweep.yaml").write_text(SPECIFICATION.replace("MODEL", f'"{model}"'))
    assert run(["sweep", "sweep.yaml", "--no-code", "--workers", "1"]) == 1
    assert "a factory is code" in capsys.readouterr().err
    assert not marker.exists()
    assert not Path("sweep.sqlite").exists()


def test_a_specification_of_the_zoo_is_swept_and_its_workers_know(marker):
    Path("sweep.yaml").write_text(SPECIFICATION.replace("MODEL", "mlp"))
    swept = al.sweep("sweep.yaml", workers=1, no_code=True)
    assert [row.error for row in swept.results] == [None, None]


def test_a_worker_bars_code_itself(marker):
    """What reaches a worker by another way is not run there either."""
    from alrsim.study.sweep_calls import Extra, evaluate

    with pytest.raises(OptionError, match="a plug-in is code"):
        evaluate({}, Extra("compare", plugins=((str(Path("plugin.py").resolve()),), ()), no_code=True))
    assert not marker.exists()


def test_a_program_of_its_own_bars_code(marker):
    words = [sys.executable, "-m", "alrsim", "compare", "own.py:make", "--no-code"]
    ended = subprocess.run(words, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") <= 2
    assert not marker.exists()
