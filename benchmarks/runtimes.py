"""``python -m benchmarks runtimes``: executor overhead per task, beside torch's own pipeline schedule runtime.

The same two stages, micro-batches and orders on two units with one thread each, over loopback; runtimes in turn. In
near-empty stages a step is nearly all overhead. Its time, less that of the busier unit's operators in a plain loop,
over the tasks of one unit (a forward and a backward per micro-batch; a loss counts with its forward) is what a
runtime takes for a task, hand-off included.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from alrsim.execution.measuring.timelines import device_name
from alrsim.writing import write_atomically
from benchmarks.measure import say
from benchmarks.ranks import on_two_ranks

TARGET = 1 / 3
"""Of torch's overhead per task that the project allows itself."""


def main(arguments: Sequence[str]) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks runtimes", description=__doc__)
    parser.add_argument("stages", nargs="*", default=["tiny", "resnet5"], metavar="STAGES", help="tiny, resnet5")
    parser.add_argument("--microbatches", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers to a file")
    options = parser.parse_args(arguments)
    document: dict[str, Any] = {"host": device_name(), "microbatches": options.microbatches}
    print(f"{device_name()}, {options.microbatches} micro-batches, {options.repeats} repeats in turn")
    for name in options.stages:
        say(f"runtimes: {name}")
        found = on_two_ranks("benchmarks.runtime_ranks", [name, str(options.microbatches), str(options.repeats)])
        document[name] = found
        print(*lines_of(name, found["times"], found["operators"], options.microbatches), sep="\n", flush=True)
    if options.json is not None:
        write_atomically(options.json, (json.dumps(document, indent=1) + "\n").encode())


def lines_of(name: str, times: dict[str, dict[str, list[int]]], operators: int, microbatches: int) -> list[str]:
    """The table of one pair of stages; ratios are taken within each turn."""
    lines = [
        "",
        f"## {name}",
        "",
        f"Operators of the busier unit in a plain loop: {operators / 1e6:.2f} ms a step.",
        "",
    ]
    lines.append("| order | runtime | step ms (quartiles) | overhead us per task | of torch's (quartiles) | |")
    lines.append("|---|---|--:|--:|--:|---|")
    for order, found in times.items():
        for runtime, taken in found.items():
            low, middle, high = spread([one / 1e6 for one in taken])
            pairs = zip(taken, found["torch"], strict=True)
            ratios = spread([(ours - operators) / max(1, theirs - operators) for ours, theirs in pairs])
            verdict = ""
            if runtime != "torch" and name == "tiny":
                verdict = "reached" if ratios[1] <= TARGET else "MISSED"
            each = (1e6 * middle - operators) / 1e3 / (2 * microbatches)
            step = f"{middle:.2f} ({low:.2f} to {high:.2f})"
            ratio = f"{ratios[1]:.2f} ({ratios[0]:.2f} to {ratios[2]:.2f})"
            lines.append(f"| {order} | {runtime} | {step} | {each:.0f} | {ratio} | {verdict} |")
    return lines


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    ordered = sorted(values)
    return ordered[len(ordered) // 4], median(ordered), ordered[-1 - len(ordered) // 4]
