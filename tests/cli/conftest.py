"""What the command-line tests share: one exported model, and a way to run a command line in this process."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from alrsim.cli.main import run


@dataclass(frozen=True)
class Ran:
    """Exit status and output of one command line."""

    status: int
    out: str
    err: str


Runner = Callable[..., Ran]


@pytest.fixture
def alrsim(capsys: pytest.CaptureFixture[str]) -> Runner:
    """``alrsim("compare", "mlp", ...)`` as the shell would run it, without a new process."""

    def call(*argv: object) -> Ran:
        capsys.readouterr()
        status = run([str(argument) for argument in argv])
        captured = capsys.readouterr()
        return Ran(status, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def graph_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved graph of a small MLP for 8 samples: models without torch."""
    path = tmp_path_factory.mktemp("models") / "mlp.json"
    assert run(["graph", "mlp", "--batch", "8", "-o", str(path), "--json", str(path.with_suffix(".doc"))]) == 0
    return path


@pytest.fixture(scope="session")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same MLP as ONNX."""
    path = tmp_path_factory.mktemp("models") / "mlp.onnx"
    assert run(["export", "mlp", "--batch", "8", "-o", str(path), "--json", str(path.with_suffix(".doc"))]) == 0
    return path


@pytest.fixture(scope="session")
def factory_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's own model in a Python file."""
    path = tmp_path_factory.mktemp("models") / "mine.py"
    path.write_text(
        "import torch\n"
        "from torch import nn\n"
        "from alrsim.frontend.torch_model import TorchModel\n\n\n"
        "def make():\n"
        "    module = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))\n"
        "    return TorchModel('mine', module, lambda batch: (torch.ones(batch, 8),), 4)\n",
        encoding="utf-8",
    )
    return path
