"""Machine code on disk is that of the sources that are there."""

import ast
from pathlib import Path

from alrsim import compiled

ROOT = Path(compiled.__file__).parent


def test_machine_code_of_other_sources_is_forgotten(tmp_path: Path) -> None:
    index = tmp_path / "loop.nbi"
    index.touch()
    compiled.forget_stale(tmp_path, "these")
    assert not index.exists(), "nobody knows which sources it is of"
    index.touch()
    compiled.forget_stale(tmp_path, "these")
    assert index.exists()
    compiled.forget_stale(tmp_path, "others")
    assert not index.exists()


def test_a_loop_that_was_compiled_is_known_to_the_next_process() -> None:
    loop = compiled.machine_code(_loop)
    assert loop(3) == 6
    folder = Path(loop.stats.cache_path)  # type: ignore[attr-defined]
    assert (folder / "alrsim.sources").read_text() == compiled.sources(Path(__file__).parent)
    again = compiled.machine_code(_loop)
    assert again(3) == 6
    assert sum(again.stats.cache_hits.values()) == 1  # type: ignore[attr-defined]


def test_loops_use_nothing_of_another_folder_that_could_change_behind_their_cache() -> None:
    with_loops = [path for path in ROOT.rglob("*.py") if "@machine_code" in path.read_text()]
    assert len(with_loops) >= 8
    for path in with_loops:
        for function in _compiled(path):
            used = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
            for name, module in _imported(path).items():
                if name in used:
                    assert module == ".".join(path.relative_to(ROOT.parent).parent.parts), f"{path.name}: {name}"


def _compiled(path: Path) -> list[ast.FunctionDef]:
    found = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
    return [node for node in found if any(ast.unparse(one) == "machine_code" for one in node.decorator_list)]


def _imported(path: Path) -> dict[str, str]:
    """Names of this package that a file imports, and the package that each is from."""
    found = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    own = [
        node for node in found if node.module and node.module.startswith("alrsim") and node.module != "alrsim.compiled"
    ]
    return {alias.asname or alias.name: str(node.module).rpartition(".")[0] for node in own for alias in node.names}


def _loop(count: int) -> int:
    total = 0
    for index in range(count + 1):
        total += index
    return total
