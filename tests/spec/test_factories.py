"""A user's own model: what a factory may return, and what is said about one that does not work."""

import sys
from pathlib import Path

import pytest
import torch

from alrsim.errors import AlrsimError, ModelError
from alrsim.frontend.factory import load_factory
from alrsim.frontend.torch_export import export_model

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 4)

    def forward(self, x):
        return self.linear(x)
"""


def write(folder: Path, body: str, name: str = "user.py") -> Path:
    path = folder / name
    path.write_text(NET + body)
    return path


GOOD = {
    "torch model": """
from alrsim.frontend.torch_model import TorchModel
def make_model():
    return TorchModel("mine", Net(), lambda batch: (torch.ones(batch, 6),), 4)
""",
    "module and tensor": "def make_model(): return Net(), torch.ones(1, 6)",
    "module and tuple": "def make_model(): return Net(), (torch.ones(3, 6),)",
    "module with input shape": """
def make_model():
    net = Net()
    net.input_shape = (6,)
    return net
""",
    "class as factory": "class make_model(Net):\n    input_shape = (6,)\n",
    "defaults": "def make_model(width=6): return Net(), torch.ones(2, width)",
}


@pytest.mark.parametrize("body", GOOD.values(), ids=GOOD)
def test_a_factory_that_keeps_the_contract_gives_a_model_that_exports(tmp_path: Path, body: str) -> None:
    before, path = torch.get_rng_state(), list(sys.path)
    model = load_factory(f"{write(tmp_path, body)}:make_model")
    assert torch.equal(torch.get_rng_state(), before)
    assert sys.path == path
    assert model.classes == 4
    assert model.example(5)[0].shape == (5, 6)
    graph = export_model(model, 5).graph
    assert [op.kind for op in graph.ops] == ["Gemm"]
    assert graph.tensors[graph.outputs[0]].shape == (5, 4)


def test_an_example_with_few_samples_is_repeated_for_a_larger_batch(tmp_path: Path) -> None:
    path = write(tmp_path, "def make_model(): return Net(), torch.arange(12.0).reshape(2, 6)")
    (inputs,) = load_factory(f"{path}:make_model").example(5)
    assert inputs[:, 0].tolist() == [0, 6, 0, 6, 0]


def test_the_same_factory_gives_the_same_parameters(tmp_path: Path) -> None:
    path = write(tmp_path, "def make_model(): return Net(), torch.ones(1, 6)")
    first, second = (load_factory(f"{path}:make_model").module for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_file_may_import_its_neighbours_and_hides_no_real_module(tmp_path: Path) -> None:
    write(tmp_path, "", name="alrsim_test_neighbour.py")
    path = tmp_path / "json.py"
    path.write_text(
        "import torch, alrsim_test_neighbour\ndef make(): return alrsim_test_neighbour.Net(), torch.ones(1, 6)"
    )
    try:
        assert load_factory(f"{path}:make").name == "json.make"
    finally:
        sys.modules.pop("alrsim_test_neighbour", None)
    import json

    assert json.loads("[1]") == [1]


def test_what_a_factory_prints_stays_out_of_the_answer(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, "print('loading')\ndef make_model(): return print('making') or (Net(), torch.ones(1, 6))")
    load_factory(f"{path}:make_model")
    assert capfd.readouterr() == ("", "loading\nmaking\n")


def test_a_factory_may_live_in_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "alrsim_test_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    write(package, "def make(): return Net(), torch.ones(1, 6)", name="nets.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_factory("alrsim_test_package.nets:make").name == "alrsim_test_package.nets.make"


def test_a_batch_norm_model_keeps_its_statistics_when_it_is_loaded(tmp_path: Path) -> None:
    body = """
def make_model():
    return nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4)), torch.ones(1, 6)
"""
    model = load_factory(f"{write(tmp_path, body)}:make_model")
    export_model(model, 2)
    norm = model.module.get_submodule("1")
    assert torch.equal(norm.get_buffer("running_mean"), torch.zeros(4))
    assert norm.get_buffer("num_batches_tracked") == 0
    assert model.module.training


# body, spec after the path, words of the message, name of the file
BAD: dict[str, tuple[str, str, str]] = {
    "no colon": ("", "", "does not name a model factory"),
    "no name": ("", ":", "does not name a model factory"),
    "not a name": ("", ":3d", "does not name a model factory"),
    "no such function": ("def make_net(): pass", ":make_model", "has no 'make_model'; it defines Net, make_net"),
    "not callable": ("make_model = 3", ":make_model", "'make_model' is a int, not a function"),
    "needs arguments": ("def make_model(width): pass", ":make_model", "make_model() needs arguments: width"),
    "returns nothing": ("def make_model(): pass", ":make_model", "the factory returns NoneType"),
    "returns a bare module": ("def make_model(): return Net()", ":make_model", "returns Net without an input_shape"),
    "returns a class": ("def make_model(): return Net", ":make_model", "the factory returns type"),
    "returns a triple": ("def make_model(): return 1, 2, 3", ":make_model", "the factory returns tuple"),
    "input is a list of numbers": ("def make_model(): return Net(), [1.0]", ":make_model", "is a list, not tensors"),
    "input is a dict": ("def make_model(): return Net(), {}", ":make_model", "is a dict, not tensors"),
    "input is scalar": ("def make_model(): return Net(), torch.tensor(1.0)", ":make_model", "do not share a batch"),
    "batches differ": (
        "def make_model(): return Net(), (torch.ones(2, 6), torch.ones(3, 6))",
        ":make_model",
        "example inputs (2, 6), (3, 6) do not share a batch",
    ),
    "empty batch": ("def make_model(): return Net(), torch.ones(0, 6)", ":make_model", "do not share a batch"),
    "bad input shape": ("class make_model(Net): input_shape = 'wide'", ":make_model", "input_shape is 'wide'"),
    "negative input shape": ("class make_model(Net): input_shape = (-6,)", ":make_model", "input_shape is (-6,)"),
    "wrong width": (
        "def make_model(): return Net(), torch.ones(1, 7)",
        ":make_model",
        "user.py:11: the model does not run on its example input: RuntimeError: mat1 and mat2 shapes cannot be",
    ),
    "syntax error": ("def make_model(:", ":make_model", "user.py:12: the file cannot be run: SyntaxError"),
    "exception in the file": ("1 / 0", ":make_model", "user.py:12: the file cannot be run: ZeroDivisionError"),
    "exit in the file": ("raise SystemExit(3)", ":make_model", "the file cannot be run: SystemExit: 3"),
    "missing import": ("import no_such_thing_at_all", ":make_model", "ModuleNotFoundError: No module named"),
    "exception in the factory": (
        "def make_model():\n    raise ValueError('no data\\nhere')",
        ":make_model",
        "user.py:13: make_model() fails: ValueError: no data in `raise ValueError",
    ),
    "exception from the standard library": (
        "import json\ndef make_model():\n    return json.loads('{')",
        ":make_model",
        "user.py:14: make_model() fails: JSONDecodeError",
    ),
    "output is a tuple": (
        "class make_model(Net):\n    input_shape = (6,)\n    def forward(self, x): return x, x",
        ":make_model",
        "the model returns tuple, not a tensor",
    ),
    "output without a batch": (
        "class make_model(Net):\n    input_shape = (6,)\n    def forward(self, x): return x.sum()",
        ":make_model",
        "the output () does not start with the batch of 2",
    ),
    "torch model of nothing": (
        "from alrsim.frontend.torch_model import TorchModel\ndef make_model(): return TorchModel('x', 3, None, 2)",
        ":make_model",
        "a model must be a torch.nn.Module, got int",
    ),
}


@pytest.mark.parametrize(("body", "spec", "message"), BAD.values(), ids=BAD)
def test_a_factory_that_does_not_work_is_refused_with_its_reason(
    tmp_path: Path, body: str, spec: str, message: str
) -> None:
    path = list(sys.path)
    with pytest.raises(AlrsimError) as error:
        load_factory(f"{write(tmp_path, body)}{spec}")
    assert message in str(error.value)
    assert len(error.value.what.splitlines()) == 1
    assert sys.path == path


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("no/such/file.py:make", "no/such/file.py: no such file"),
        ("no_such_package.nets:make", "there is no module 'no_such_package'"),
        ("alrsim.no_such_module:make", "there is no module 'alrsim.no_such_module'"),
        ("alrsim.errors:make", "has no 'make'; it defines AlrsimWarning, AlrsimError"),
        ("..:make", "cannot be imported"),
    ],
)
def test_a_place_that_does_not_exist_is_named(spec: str, message: str) -> None:
    with pytest.raises(AlrsimError) as error:
        load_factory(spec)
    assert message in str(error.value)


UNEXPORTABLE = {
    "control flow on data": (
        "    def forward(self, x):\n        if x.sum() > 0:\n            return self.linear(x)\n        return x",
        "user.py:15: torch cannot export the model: its control flow depends on the data in `if x.sum() > 0:`",
    ),
    "numpy inside": (
        "    def forward(self, x):\n        return self.linear(torch.from_numpy(x.detach().numpy()))",
        "user.py:15: torch cannot export the model: ",
    ),
    "no onnx operator": (
        "    def forward(self, x):\n        return torch.linalg.svdvals(self.linear(x))",
        "torch cannot export the model: ",
    ),
}


@pytest.mark.parametrize(("forward", "message"), UNEXPORTABLE.values(), ids=UNEXPORTABLE)
def test_a_model_that_torch_cannot_export_is_blamed_on_its_line(
    tmp_path: Path, forward: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, "class make_model(Net):\n    input_shape = (6,)\n" + forward)
    model = load_factory(f"{path}:make_model")
    with pytest.raises(ModelError) as error:
        export_model(model, 2)
    assert message in str(error.value)
    assert capfd.readouterr() == ("", "")
