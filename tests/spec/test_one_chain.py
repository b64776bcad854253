"""The chain from a model to its tasks exists once."""

import ast
from pathlib import Path

import grimp
import pytest

import alrsim

GRAPH = grimp.build_graph("alrsim", exclude_type_checking_imports=True, cache_dir=None)
ONLY_STEPS = {
    "alrsim.frontend.torch_export": "the export",
    "alrsim.frontend.onnx_import": "the import of ONNX files",
    "alrsim.cost.cut": "the cut",
    "alrsim.cost.stages": "the stages",
}


@pytest.mark.parametrize("module", ONLY_STEPS)
def test_only_steps_know_the_chain(module: str) -> None:
    own = module.rsplit(".", 1)[0]
    users = GRAPH.find_modules_that_directly_import(module)
    others = {one for one in users if not one.startswith(("alrsim.steps", own))}
    assert others == set(), f"{ONLY_STEPS[module]} is used outside steps"


def test_only_steps_and_plug_ins_read_the_registry_of_rules() -> None:
    root = Path(alrsim.__file__).parent
    users = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and any(name.name == "RULES" for name in node.names):
                users.add(path.relative_to(root).parts[0])
    assert users <= {"rules", "steps", "plugins.py"}
