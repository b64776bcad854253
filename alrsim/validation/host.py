"""Where a run is made, for its records."""

import os
import subprocess
from pathlib import Path

from alrsim.validation.records import Host
from alrsim.version import __version__


def find_host_facts(executor: str, seed: int, threads: int = 1) -> Host:
    """This host, with what measures on it."""
    import torch

    from alrsim.execution.measuring.timelines import device_name
    from alrsim.execution.workers.thread_workers import core_count

    kind = "cuda" if executor == "cuda" else "cpu"
    device = torch.cuda.get_device_name() if kind == "cuda" else device_name()
    return Host(kind, device, core_count(), torch.__version__, __version__, find_commit(), executor, threads, seed)


def find_commit() -> str:
    """The commit of the source tree, with ``-dirty`` where files differ; empty for an installed package."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return ""
    try:
        found = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()
