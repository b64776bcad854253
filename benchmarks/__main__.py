"""``python -m benchmarks``: print the tables of speed and scale; write them as JSON only when asked."""

import argparse
import json
import platform
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from alrsim.writing import write_atomically
from benchmarks.economics import main as economics
from benchmarks.fast import main as fast
from benchmarks.measure import Row
from benchmarks.optimality import main as optimality
from benchmarks.pipelined import main as pipelined
from benchmarks.plans import main as plans
from benchmarks.runtimes import main as runtimes
from benchmarks.steps import main as steps
from benchmarks.suites import SUITES
from benchmarks.sweep import main as sweep
from benchmarks.training import main as training
from benchmarks.transports import main as transports

TARGETS = {"engine alone": 100_000, "evaluate, arrays ready": 1_000_000}
"""Tasks per second that the project wants to keep, by the start of the row's name."""

COMMANDS = {
    "training": training,
    "optimality": optimality,
    "steps": steps,
    "economics": economics,
    "fast": fast,
    "pipelined": pipelined,
    "plans": plans,
    "sweep": sweep,
    "runtimes": runtimes,
    "transports": transports,
}


def main() -> None:
    """Run the chosen suites; commands are other kinds of tables, with options of their own."""
    if sys.argv[1:2] and sys.argv[1] in COMMANDS:
        COMMANDS[sys.argv[1]](sys.argv[2:])
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"some of {', '.join(SUITES)}; all if none is named")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="tasks")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers to a file")
    options = parser.parse_args()
    unknown = [name for name in options.suites if name not in SUITES]
    if unknown:
        parser.error(f"unknown suite {unknown[0]!r}, choose some of {', '.join(SUITES)}")
    rows: list[Row] = []
    for name in options.suites or SUITES:
        rows += SUITES[name](sorted(options.sizes), options.repeats)
    facts = {
        "python": platform.python_version(),
        "machine": platform.processor() or platform.machine(),
        **{package: version(package) for package in ("simpy", "torch", "numba")},
        "clock": "CPU time of the process, median of repeats",
    }
    print(_markdown(rows, facts))
    if options.json is not None:
        lines = [{**asdict(row), "tasks_per_second": row.rate} for row in rows]
        write_atomically(options.json, (json.dumps({"facts": facts, "rows": lines}, indent=1) + "\n").encode())


def _markdown(rows: list[Row], facts: dict[str, str]) -> str:
    lines = [", ".join(f"{key} {value}" for key, value in facts.items())]
    section = ""
    for row in rows:
        if row.section != section:
            section = row.section
            lines += [
                "",
                f"## {section}",
                "",
                "| what | tasks | median | spread | tasks/s | |",
                "|---|--:|--:|--:|--:|---|",
            ]
        sample = row.sample
        spread = f"{sample.low * 1e3:.4g} to {sample.high * 1e3:.4g}"
        notes = [note for note in (row.note, _verdict(row)) if note]
        cells = (row.what, str(row.size), f"{sample.median * 1e3:.4g} ms", spread, f"{row.rate:,.0f}", "; ".join(notes))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _verdict(row: Row) -> str:
    for start, target in TARGETS.items():
        if row.what.startswith(start):
            return f"{'reaches' if row.rate >= target else 'MISSES'} {target:,}/s"
    return ""


if __name__ == "__main__":
    main()
