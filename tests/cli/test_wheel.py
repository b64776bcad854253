"""A wheel that is built here and installed elsewhere works without the checkout."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*command: str, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_wheel_installed_elsewhere_brings_profiles_and_schemas(tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT), cwd=tmp_path)
    (wheel,) = tmp_path.glob("alrsim-*.whl")
    target = tmp_path / "site"
    quiet = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-index")
    run(sys.executable, "-m", "pip", "install", *quiet, "--target", str(target), str(wheel), cwd=tmp_path)
    env = {**os.environ, "PYTHONPATH": str(target)}
    where = run(sys.executable, "-c", "import alrsim; print(alrsim.__file__)", cwd=tmp_path, env=env)
    assert Path(where.strip()).is_relative_to(target)
    listed = json.loads(run(sys.executable, "-m", "alrsim", "hardware", "list", "--json", "-", cwd=tmp_path, env=env))
    text = json.dumps(listed)
    assert all(name in text for name in ("unit-grid", "cpu-2core", "h100"))
    assert sorted(path.name for path in (target / "alrsim" / "hardware" / "profiles").glob("*.yaml")) == sorted(
        path.name for path in (ROOT / "hardware_profiles").glob("*.yaml")
    )
    assert list((target / "alrsim" / "report" / "schemas").glob("*.schema.json"))
    figure = json.loads(run(sys.executable, "-m", "alrsim", "figure2", "--json", "-", cwd=tmp_path, env=env))
    assert (figure["bp"]["steps"], figure["lr"]["steps"]) == (15, 10)
