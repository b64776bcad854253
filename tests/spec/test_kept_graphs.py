"""Graphs of zoo models are kept between programs: the same graph as torch's export gives, or the export again."""

import pickle
import subprocess
import sys

import pytest

import alrsim as al
from alrsim.errors import OptionError
from alrsim.frontend import torch_export
from alrsim.models import ZOO
from alrsim.models.mlp import MLP_ENTRY
from alrsim.steps import kept
from alrsim.steps.model import load_model


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder of kept graphs."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "alrsim" / "graphs"


@pytest.fixture
def exports(monkeypatch):
    """Batch sizes that torch was asked to export."""
    sizes = []
    export = torch_export.export_model
    monkeypatch.setattr(torch_export, "export_model", lambda model, size: sizes.append(size) or export(model, size))
    return sizes


@pytest.mark.parametrize("option", [{}, {"hidden": "16"}], ids=["plain", "with an option"])
def test_the_second_program_reads_what_the_first_one_exported(folder, exports, option):
    first = load_model("mlp", option=option).at(8)
    again = load_model("mlp", option=option)
    assert again.at(8) == first
    assert exports == [8]
    assert again.at(8, 2).graph != first.graph
    assert exports == [8, 4]
    assert again.torch_model.name == "mlp"
    assert pickle.loads(pickle.dumps(again)).at(8) == first


def test_a_prediction_from_a_kept_graph_needs_no_torch(folder):
    code = (
        "import sys, alrsim as al; found = al.compare('mlp', batch=8, units=2)\n"
        "print('torch' in sys.modules, found.to_json())"
    )
    said = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    (loaded, first), (needed, second) = (one.stdout.split(" ", 1) for one in said)
    assert (loaded, needed) == ("True", "False")
    assert first == second


def test_options_are_part_of_what_is_kept(folder):
    small, large = (load_model("mlp", option={"hidden": width}).at(2).graph for width in ("8", "16"))
    assert small != large
    assert load_model("mlp", option={"hidden": "8"}).at(2).graph == small
    with pytest.raises(OptionError, match="hiden"):
        load_model("mlp", option={"hiden": "8"})


@pytest.mark.parametrize("damage", [b"", b"{", b'{"format": 1}', b"\x00\xff"])
def test_a_damaged_file_is_made_again(folder, exports, damage):
    graph = load_model("mlp").at(2).graph
    (file,) = folder.rglob("*.json")
    whole = file.read_bytes()
    file.write_bytes(damage)
    assert load_model("mlp").at(2).graph == graph
    assert exports == [2, 2]
    assert file.read_bytes() == whole


def test_other_sources_are_another_folder(folder, exports, monkeypatch):
    load_model("mlp").at(2)
    monkeypatch.setattr(kept, "_makers", lambda: ("torch of tomorrow",))
    load_model("mlp").at(2)
    assert exports == [2, 2]
    assert len(list(folder.iterdir())) == 2


def test_without_a_folder_everything_works(monkeypatch, tmp_path, exports):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert load_model("mlp").at(2) == load_model("mlp").at(2)
    assert exports == [2, 2]


def test_a_model_of_a_plug_in_is_not_kept(folder, exports):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ZOO, "mine", MLP_ENTRY)
        load_model("mine").at(2)
        load_model("mine").at(2)
    assert exports == [2, 2]
    assert not folder.exists()


def test_the_oldest_go(folder, monkeypatch):
    monkeypatch.setattr(kept, "MOST", 2)
    for samples in (2, 3, 4):
        load_model("mlp").at(samples)
    assert sorted(path.stem for path in folder.rglob("*.json")) == ["3", "4"]


def test_a_kept_graph_is_executed_as_the_exported_one(folder, exports):
    asked = {"method": "bp:1f1b", "units": 2, "batch": 8, "microbatches": 1}
    first = al.simulate("mlp", **asked)
    assert exports == [8]
    assert al.simulate("mlp", **asked).timeline.spans == first.timeline.spans
    assert exports == [8]
    run = al.execute("mlp", **asked, repeats=1, executor="threads")
    assert exports == [8, 8]  # torch's program is needed to run
    assert {span.task for span in run.timeline.spans} == {span.task for span in first.timeline.spans}
