"""The layers hold: a saved graph is simulated where torch, onnx, matplotlib and numba are not installed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ABSENT = ("torch", "onnx", "onnxscript", "matplotlib", "numba", "llvmlite")
VERBS = {
    "simulate bp": ("simulate", "--method", "bp:1f1b", "--hardware", "h100", "--units", 2),
    "simulate alr": ("simulate", "--method", "alr:lr-free", "--hardware", "h100", "--units", 2, "--copies", 4),
    "compare": ("compare", "--hardware", "h100", "--units", 2, "--microbatches", 8),
    "stages": ("stages", "--cut", "balanced:2"),
}

PROGRAM = """
import json, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
from alrsim.cli.main import run
print(json.dumps([run(line) for line in {lines!r}]), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def without(graph_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, int], Path]:
    """Every verb in one interpreter that lacks the packages: exit statuses, and the folder of the results."""
    folder = tmp_path_factory.mktemp("without")
    lines = [line_of(argv, graph_file, folder / f"{name}.json") for name, argv in VERBS.items()]
    program = PROGRAM.format(absent=ABSENT, lines=lines)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return dict(zip(VERBS, json.loads(done.stderr.splitlines()[-1]), strict=True)), folder


def line_of(argv: tuple[object, ...], graph: Path, result: Path) -> list[str]:
    return [str(argument) for argument in (argv[0], graph, *argv[1:], "--json", result)]


@pytest.mark.parametrize("name", VERBS)
def test_a_saved_graph_needs_no_heavy_package_and_gives_the_same_numbers(
    alrsim: Any, graph_file: Path, tmp_path: Path, without: tuple[dict[str, int], Path], name: str
) -> None:
    statuses, folder = without
    assert statuses[name] == 0
    assert alrsim(*line_of(VERBS[name], graph_file, tmp_path / "here.json")).status == 0
    assert json.loads((folder / f"{name}.json").read_text()) == json.loads((tmp_path / "here.json").read_text())
