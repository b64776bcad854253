"""``python -m benchmarks sweep``: 1,000 configurations on this host's cores, killed twice on the way and resumed."""

import argparse
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import say

SPEC = """\
verb: compare
fixed: {{model: {model}, hardware: h100, batch: 64, option: [norm=group]}}
grid:
  method: ["bp:gpipe", "bp:1f1b", "bp:zb-h1", "lr:lr-fixed", "alr:lr-free"]
  units: [2, 3, 4, 8]
  microbatches: [4, 8, 16]
  copies: [1, 2, 4, 8, 16, 32, 64, 128, 256]
  precision: [fp32, bf16]
  transfer_semantics: [latency, link]
quality: {{noise_to_signal: 900}}
"""


def main(arguments: Sequence[str]) -> None:
    """Parse the options and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks sweep", description=__doc__)
    parser.add_argument("--model", default="resnet5")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep results and picture there")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.out or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        spec = folder / "spec.yaml"
        spec.write_text(SPEC.format(model=options.model), encoding="utf-8")
        whole, killed = folder / "whole.sqlite", folder / "killed.sqlite"
        for path in (whole, killed):
            path.unlink(missing_ok=True)
        seconds = _run(spec, whole, options.workers)
        rows = _rows(whole)
        parts = [_run(spec, killed, options.workers, until=len(rows) * part // 3) for part in (1, 2)]
        parts.append(_run(spec, killed, options.workers))
        same = {digest: row[:2] for digest, row in rows.items()} == {d: r[:2] for d, r in _rows(killed).items()}
        work = sum(row[2] for row in rows.values())
    print("| configurations | workers | wall clock | evaluation alone | killed twice and resumed | same results |")
    print("|--:|--:|--:|--:|--:|---|")
    print(
        f"| {len(rows):,} | {options.workers} | {seconds:.1f} s | {work:.1f} s | "
        f"{sum(parts):.1f} s ({' + '.join(f'{part:.1f}' for part in parts)}) | {'yes' if same else 'NO'} |"
    )


def _run(spec: Path, target: Path, workers: int, *, until: int | None = None) -> float:
    """Seconds of one run, start of the program included; killed once so many results are recorded."""
    say(f"sweep: {target.name}{'' if until is None else f', killed at {until}'}")
    line = [sys.executable, "-m", "alrsim", "sweep", str(spec), "-o", str(target), "--workers", str(workers)]
    begun = time.perf_counter()
    out = ["--out", str(target.parent)] if until is None else []
    process = subprocess.Popen([*line, *out], stdout=subprocess.DEVNULL, start_new_session=True)
    while until is not None and process.poll() is None and len(_rows(target)) < until:
        time.sleep(0.1)
    if until is not None and process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
    status = process.wait()
    if status not in (0, -signal.SIGKILL):
        raise SystemExit(f"alrsim sweep ended with {status}")
    return time.perf_counter() - begun


def _rows(target: Path) -> dict[str, tuple[str, str, float]]:
    try:
        connection = sqlite3.connect(f"file:{target}?mode=ro", uri=True)
        found = connection.execute("SELECT digest, outcome, error, seconds FROM results").fetchall()
        connection.close()
    except sqlite3.Error:
        return {}
    return {digest: (outcome, error, seconds) for digest, outcome, error, seconds in found}
