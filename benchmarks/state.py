"""Bytes that a step keeps from forward to gradient, and its peak: recorded by the executor, predicted from buffers."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from alrsim.execution.executor import execute_prepared
from alrsim.execution.measuring.tracking import measure_scratch
from alrsim.experiments.measures.memory import predicted_state, recorded_state
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.schedulers import schedule
from alrsim.simulation.engine import simulate
from alrsim.tasks.problem import with_scratch
from alrsim.timeline.memory import peak_memory
from benchmarks.measure import say
from benchmarks.stepbench import Model, Variant, draft_of, open_bench, prepared_of, serial_problem

BITS = PrecisionPlan(saved=Precision.SIGN1, noise=Precision.SIGN1)
AGAIN = PrecisionPlan(saved=Precision.SIGN1, noise=Precision.REGENERATED)
COPIES, GROWING, GROUP = (50, 200), (10, 100, 1_000, 10_000), 10
SMALL, TINY = Model("resnet5", (("width", "8"),), samples=8), Model("resnet5", (("width", "8"),), samples=2)
SCHEMES = (
    Variant("fp32, stacked (lr)", "lr"),
    Variant("int8 signs, stacked (alr)", "alr"),
    Variant("packed bits, stacked (alr)", "alr", precision=BITS),
    Variant("packed bits, noise drawn again (lr-rademacher, stack)", "lr-rademacher", changes={"reduce": "stack"}),
    Variant("accumulated (lr-rademacher)", "lr-rademacher"),
)


def state_table() -> tuple[list[str], Any]:
    """Every way to keep state, at every number of copies; peaks of the tasks run one after the other."""
    rows: list[dict[str, Any]] = []
    for copies in COPIES:
        for scheme in SCHEMES:
            say(f"state: {scheme.label}, {copies} copies")
            one = Variant(scheme.label, scheme.method, copies, None, scheme.changes, scheme.precision)
            rows.append({"scheme": scheme.label, **measured(SMALL, one)})
    lines = ["", f"## State and peak, {SMALL.about}", ""]
    lines += ["| scheme | copies | state | predicted | smaller than fp32 | peak live | predicted |"]
    lines += ["|---|--:|--:|--:|--:|--:|--:|"]
    for row in rows:
        base = next(other for other in rows if other["copies"] == row["copies"])
        cells = [row["scheme"], f"{row['copies']:,}", *_pair(row, "state"), f"{base['state'] / row['state']:.1f}x"]
        lines.append(f"| {' | '.join([*cells, *_pair(row, 'peak')])} |")
    return lines, rows


def growth_table() -> tuple[list[str], Any]:
    """Accumulated copies in groups: a process of its own for every number of them."""
    rows: list[dict[str, Any]] = []
    for copies in GROWING:
        say(f"state: {copies} copies accumulated in a process of its own")
        rows.append(_alone(copies))
    lines = ["", f"## lr-rademacher accumulated in groups of {GROUP}, {TINY.about}, each in a fresh process", ""]
    lines += ["| copies | state | predicted | peak live | predicted | peak RSS | before the step |"]
    lines += ["|--:|--:|--:|--:|--:|--:|--:|"]
    for row in rows:
        cells = [f"{row['copies']:,}", *_pair(row, "state"), *_pair(row, "peak")]
        lines.append(f"| {' | '.join(cells)} | {_mega(row['rss'])} | {_mega(row['rss_before'])} |")
    return lines, rows


def measured(model: Model, variant: Variant) -> dict[str, int]:
    """State and peak live bytes of one step on one worker, and what the simulator says of both: from the rules, with
    the scratch of every kind of task as it was measured."""
    bench = open_bench(model)
    tasks, prepared = draft_of(bench, variant).tasks, prepared_of(bench, variant)
    guess = serial_problem(tasks)
    told = replace(guess, tasks=with_scratch(tasks, measure_scratch(prepared)))
    expected = simulate(told, schedule(told, "serial"))
    found = execute_prepared(prepared, guess, schedule(guess, "serial"), repeats=1, warmup=0, dispatch_overhead_ns=0)
    return {
        "copies": variant.copies,
        "state": recorded_state(prepared),
        "state_predicted": predicted_state(tasks),
        "peak": max(peak_memory(found.timeline).values()),
        "peak_predicted": max(peak_memory(expected).values()),
    }


def _alone(copies: int) -> dict[str, int]:
    command = [sys.executable, "-m", "benchmarks.state", str(copies)]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def _pair(row: dict[str, Any], what: str) -> Sequence[str]:
    error = 100 * (row[f"{what}_predicted"] / row[what] - 1)
    return _mega(row[what]), f"{_mega(row[f'{what}_predicted'])} ({error:+.1f} %)"


def _mega(size: int) -> str:
    return f"{size / 2**20:,.2f} MiB"


def _rss() -> int:
    """Most memory that the process ever had, in bytes (Linux counts KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _main(copies: int) -> None:
    few = Variant("", "lr-rademacher", GROUP, GROUP)
    measured(TINY, few)  # what compiling kernels takes is there before
    before = _rss()
    found = measured(TINY, Variant("", "lr-rademacher", copies, GROUP))
    print(json.dumps({**found, "rss_before": before, "rss": _rss()}))


if __name__ == "__main__":
    _main(int(sys.argv[1]))
