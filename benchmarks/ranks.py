"""Start a benchmark's own program on two ranks with torchrun, on this host."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def on_two_ranks(module: str, arguments: Sequence[str]) -> Any:
    """Run ``python -m MODULE REPORT ARGUMENTS...`` on two ranks; what rank 0 wrote to ``REPORT``, as JSON.

    Raises:
        SystemExit: the program failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        command = [*torchrun, "--module", module, str(report), *arguments]
        done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
        if done.returncode:
            raise SystemExit(f"{module} failed on its ranks")
        return json.loads(report.read_text(encoding="utf-8"))
