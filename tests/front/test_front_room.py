"""The package as somebody meets it who types ``import alrsim as al``."""

import ast
import os
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import alrsim as al


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = ["torch", "numpy", "onnx", "matplotlib", "numba", "pydantic", "simpy", "networkx", "rich"]
    out = run(f"import sys, alrsim; print([name for name in {heavy} if name in sys.modules])")
    assert out == "[]"


def test_all_dir_and_type_checking_imports_agree() -> None:
    tree = ast.parse(Path(al.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in ast.walk(block) if isinstance(node, ast.ImportFrom)]
    typed = {name.asname or name.name for node in imports for name in node.names}
    homes = {name.name: node.module for node in imports for name in node.names}
    assert typed == set(al.__all__)
    assert set(dir(al)) == {*al.__all__, "__version__"}
    assert homes == {name: f"alrsim.{home}" for name, home in al._HOMES.items()}


@pytest.mark.parametrize("name", al.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    value = getattr(al, name)
    assert (value.__doc__ or "").strip(), f"{name} has no docstring"


def test_no_sub_module_hides_a_public_name() -> None:
    """Importing ``alrsim.simulate`` would put a module in the place of the verb."""
    for found in pkgutil.walk_packages(al.__path__, "alrsim."):
        if found.name.endswith("__main__") or "triton" in found.name:
            continue
        import_module(found.name)
    for name in al.__all__:
        assert callable(getattr(al, name)), name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        al.nothing  # noqa: B018
