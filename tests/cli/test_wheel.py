"""A wheel that is built here and installed elsewhere does the main job without the checkout."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
COMPARE = ("compare", "mlp", "--batch", "16", "--units", "2", "--hardware", "h100")
PROGRAM = """
import sys
import alrsim
from alrsim.cli.main import run
print(alrsim.__file__)
sys.exit(max(run(line) for line in {lines!r}))
"""


def run(*command: str, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def installed(folder: Path) -> Path:
    """Where the wheel is, its requirements apart, which come from the environment of the tests."""
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT), cwd=folder)
    (wheel,) = folder.glob("alrsim-*.whl")
    quiet = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-index", "--no-compile")
    run(sys.executable, "-m", "pip", "install", *quiet, "--target", str(folder / "site"), str(wheel), cwd=folder)
    return folder / "site" / "alrsim"


def test_a_wheel_installed_elsewhere_brings_profiles_and_does_the_main_job(alrsim: Any, tmp_path: Path) -> None:
    package = installed(tmp_path)
    assert sorted(path.name for path in (package / "hardware" / "profiles").glob("*.yaml")) == sorted(
        path.name for path in (ROOT / "hardware_profiles").glob("*.yaml")
    )
    verbs = {"list": ("hardware", "list"), "figure2": ("figure2",), "compare": (*COMPARE, "--out", "out")}
    lines = [[*argv, "--json", f"{name}.json"] for name, argv in verbs.items()]
    env = {**os.environ, "PYTHONPATH": str(package.parent)}
    told = run(sys.executable, "-c", PROGRAM.format(lines=lines), cwd=tmp_path, env=env)
    assert Path(told.splitlines()[0]).parent == package
    listed, figure, compared = (json.loads((tmp_path / f"{name}.json").read_text()) for name in verbs)
    assert all(name in json.dumps(listed) for name in ("unit-grid", "cpu-2core", "h100"))
    assert (figure["bp"]["steps"], figure["lr"]["steps"]) == (15, 10)
    assert compared == json.loads(alrsim(*COMPARE, "--json", "-").out)
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"gantt.png", "memory.png"}
