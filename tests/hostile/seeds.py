"""Good files of every kind that the program reads, and the command lines that read them."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

SWEEP = """\
verb: compare
fixed: {model: mlp.graph.json, microbatches: 2}
grid: {method: ["bp:gpipe", "lr:lr-fixed"], units: [1, 2]}
"""

LANES = '{"u0": "0F0 0F1 0B0 0B1", "u1": "1F0 1F1 1B0 1B1"}\n'

MADE = (
    ("mlp.graph.json", "graph mlp --batch 4 -o {}"),
    ("mlp.onnx", "export mlp -o {}"),
    ("schedule.json", "schedule mlp.graph.json --units 2 -m 2 -o {}"),
    ("schedule.csv", "schedule mlp.graph.json --units 2 -m 2 -o {}"),
    ("timeline.json", "simulate mlp.graph.json --method bp:1f1b --units 2 -m 2 -o {}"),
    ("compare.json", "compare mlp.graph.json --units 2 -m 2 --json {}"),
    ("plan.json", "plan mlp.graph.json --hardware h100 --units 2 --search effort=0.05 --json {}"),
    ("calibrated.yaml", "calibrate mlp --methods bp:gpipe --units 2 -m 2 --executor threads --repeats 2 -o {}"),
    ("checkpoint.pt", "train mlp --option hidden=8 --steps 2 --checkpoint {}"),
    ("estimators.json", "gradcheck mlp --option hidden=8 --copies 4 --draws 2 --suggest 0.3 -o {}"),
    ("store.sqlite", "sweep sweep.yaml --workers 1 -o {}"),
)


@dataclass(frozen=True)
class Read:
    """A kind of file and a command line that reads one.

    Attributes:
        seed: Name of a good file.
        words: The command line; ``{}`` is the file.
        slow: It may take long with good input, so that only an orderly end is asked of it.
    """

    seed: str
    words: str
    slow: bool = False


READS = (
    Read("mlp.graph.json", "simulate {} --method bp:1f1b --units 2 -m 2"),
    Read("mlp.graph.json", "compare {} --units 2 -m 2 --out out"),
    Read("mlp.graph.json", "plan {} --hardware h100 --units 2 --search effort=0.05"),
    Read("mlp.graph.json", "graph {}"),
    Read("mlp.onnx", "graph {}"),
    Read("mlp.onnx", "stages {} --units 2"),
    Read("schedule.json", "simulate {} --durations f=1,b=1,w=1 --out out"),
    Read("schedule.json", "explain {} mlp.graph.json"),
    Read("schedule.csv", "simulate {} --durations f=1,b=1,w=1"),
    Read("schedule.csv", "simulate {} mlp.graph.json --json -"),
    Read("lanes.json", "simulate {} --durations f=1,b=1,w=1 --json -"),
    Read("profile.yaml", "hardware validate {}"),
    Read("profile.yaml", "hardware show {}"),
    Read("profile.yaml", "compare mlp.graph.json --hardware {} --units 2 -m 2"),
    Read("calibrated.yaml", "compare mlp.graph.json --hardware {} --units 2 -m 2"),
    Read("calibrated.yaml", "hardware show {}"),
    Read("sweep.yaml", "sweep {} --workers 1 -o fresh.sqlite", slow=True),
    Read("store.sqlite", "sweep sweep.yaml --workers 1 -o {}", slow=True),
    Read("checkpoint.pt", "train mlp --option hidden=8 --steps 3 --resume --checkpoint {}"),
    Read("estimators.json", "simulate mlp.graph.json --estimators {} --method lr:lr-free --units 2 -m 2"),
    Read("trace.json.gz", "replay {}"),
    Read("timeline.json", "load {}"),
    Read("compare.json", "load {}"),
    Read("plan.json", "load {}"),
    Read("schedule.json", "load {}"),
)
"""``load`` is no verb: the file goes to ``alrsim.load``."""

VERBS = (
    Read("", "simulate mlp.graph.json --method bp:1f1b --units 2"),
    Read("", "simulate --method bp:gpipe --units 2 --durations f=1,b=1,w=1"),
    Read("", "compare mlp.graph.json --units 2"),
    Read("", "schedule mlp.graph.json --units 2"),
    Read("", "stages mlp.graph.json --units 2"),
    Read("", "graph mlp"),
    Read("", "explain mlp.graph.json --method bp:1f1b --units 2"),
    Read("", "plan mlp.graph.json --hardware h100 --units 2"),
    Read("", "plan --durations f=1,b=1,w=1 --units 2"),
    Read("", "execute mlp --units 2 --executor threads", slow=True),
    Read("", "gradcheck mlp --option hidden=8 --copies 4 --draws 2", slow=True),
    Read("", "train mlp --option hidden=8 --steps 2", slow=True),
    Read("", "calibrate mlp --methods bp:gpipe --units 2 --repeats 2 -o here.yaml", slow=True),
    Read("", "trajectory", slow=True),
    Read("", "sweep sweep.yaml --workers 1", slow=True),
    Read("", "validate --list", slow=True),
    Read("", "hardware list"),
    Read("", "figure2"),
)
"""Command lines that hostile options are added to."""


def make_seeds(folder: Path) -> None:
    """Write the good files; what is there already stays."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.yaml").write_text(SWEEP)
    (folder / "lanes.json").write_text(LANES)
    shutil.copy(next(iter(sorted((ROOT / "hardware_profiles").glob("cpu*.yaml")))), folder / "profile.yaml")
    shutil.copy(min((ROOT / "traces").rglob("*.json.gz"), key=lambda one: one.stat().st_size), folder / "trace.json.gz")
    for name, words in MADE:
        if not (folder / name).exists():
            done = subprocess.run(
                [sys.executable, "-m", "alrsim", *words.format(name).split()],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode or not (folder / name).exists():
                raise SystemExit(f"the seed {name} cannot be made: {done.stderr}")
