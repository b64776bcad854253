"""Every `alrsim` command of the README runs as it is written, in the README's order."""

import json
import re
import shlex
import warnings
from pathlib import Path

import pytest

from alrsim.cli.main import main
from alrsim.errors import AlrsimWarning
from alrsim.registry import registry_of

ROOT = Path(__file__).parents[2]


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("alrsim ")]


def files() -> dict[str, str]:
    """Files that the commands read: blocks whose first line is a comment with the name."""
    blocks = re.findall(r"```yaml\n# (\S+)\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    return dict(blocks)


def test_every_command_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in files().items():
        (tmp_path / name).write_text(text)
    found = commands()
    assert len(found) >= 10
    for command in found:
        with pytest.raises(SystemExit) as stop:
            main(shlex.split(command)[1:])
        captured = capsys.readouterr()
        assert stop.value.code in (0, None), f"{command}\n{captured.err}"
        assert captured.out.strip(), command
    assert json.loads((tmp_path / "out/h100/result.json").read_text())["model"] == "resnet5"
    assert {path.name for path in (tmp_path / "out/h100").iterdir()} == {
        "result.json",
        "gantt.png",
        "memory.png",
        "trace.json.gz",
    }


def test_every_python_block_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib

    matplotlib.use("Agg")
    pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert len(blocks) >= 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AlrsimWarning)  # a busy host is said
        for block in blocks:
            exec(compile(block, "README.md", "exec"), {})
    for name in registry_of("scheduler").plugged:
        dict.__delitem__(registry_of("scheduler"), name)
    matplotlib.pyplot.close("all")


def test_the_answer_that_the_readme_shows_is_the_programs() -> None:
    import alrsim as al

    shown = re.search(r"```text\n(Fastest.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert shown is not None
    methods = ["bp:1f1b", "bp:zb-h1", "alr:lr-free"]
    result = al.compare("resnet9", "h100", units=4, batch=64, microbatches=8, methods=methods, copies=4)
    assert result.verdict() == shown[1].strip()


def test_make_targets_of_the_documents_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for document in ("README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"(?:`|^)make (\w+)", (ROOT / document).read_text(), flags=re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), f"{document} names make {target}"
