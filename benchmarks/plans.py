"""``python -m benchmarks plans``: two plans of `plan`, run for real: do they land near their prediction, and is the one
that was predicted faster faster?

The planner ranks by the host's roofline. The best plans and the slowest of those it carried out are calibrated on this
host in turn, predicted again with those costs on the very lanes that the planner chose, and run in turn.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alrsim.execution.executor import Prepared, Scheduled, execute_all
from alrsim.execution.measuring.calibrate import calibrate_all
from alrsim.planner.planning import plan
from alrsim.reports.plan_result import PlanRow
from alrsim.steps.measuring import open_bench, prepare_draft, running_of
from alrsim.steps.options import RunOptions
from alrsim.tasks.problem import Problem
from alrsim.timeline.timeline import Timeline
from alrsim.writing import write_atomically
from benchmarks.measure import say

APART = 1.2
"""Two plans are compared whose calibrated predictions differ by at least this factor, if there are such."""


@dataclass(frozen=True)
class Real:
    """A plan ready to be run.

    Attributes:
        problem: With calibrated costs.
        predicted: The planner's lanes on them.
    """

    plan: PlanRow
    prepared: Prepared
    problem: Problem
    predicted: Timeline


def main(arguments: Sequence[str]) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks plans", description=__doc__)
    parser.add_argument("--model", default="resnet5")
    parser.add_argument("--option", action="append", default=None, metavar="KEY=VALUE", help="of the model")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--units", type=int, default=2)
    parser.add_argument("--rules", default="bp,bp-split,lr")
    parser.add_argument("--plans", type=int, default=4, help="of the best ones to calibrate")
    parser.add_argument("--executor", default="processes")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers to a file")
    options = parser.parse_args(arguments)
    say("plans: plan")
    wanted = {"units": options.units, "batch": options.batch, "rules": options.rules, "what_if": False}
    ranked = plan(options.model, option=options.option, **wanted).ranked
    chosen = {id(row): row for row in (*ranked[: options.plans], ranked[-1])}
    rows = compare(list(chosen.values()), options)
    print(*table(rows), sep="\n", flush=True)
    if options.json is not None:
        write_atomically(options.json, (json.dumps(rows, indent=1) + "\n").encode())


def compare(plans: Sequence[PlanRow], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Calibrate all, choose two, run them in turn."""
    running = running_of(RunOptions.take({"executor": options.executor}), options.repeats)
    prepared = [prepare_draft(open_bench(one.step.draft.work, running), one.step.draft) for one in plans]
    say("plans: calibrate")
    costs = calibrate_all(
        prepared, executor=running.executor, limits=running.limits, units=options.units, repeats=options.repeats
    )
    ready = []
    for one, job, cost in zip(plans, prepared, costs, strict=True):
        simulated = one.step.simulate(costs=cost)
        ready.append(Real(one, job, simulated.step.problem, simulated.timeline))
    ready.sort(key=lambda one: one.predicted.makespan)
    slower = [one for one in ready[1:] if one.predicted.makespan >= APART * ready[0].predicted.makespan]
    pair = [ready[0], slower[0] if slower else ready[-1]]
    say("plans: run")
    done = execute_all(
        [Scheduled(one.prepared, one.problem, one.plan.step.schedule) for one in pair],
        executor=running.executor,
        limits=running.limits,
        repeats=options.repeats,
    )
    rows = []
    for one, run in zip(pair, done, strict=True):
        measured, facts = run.timeline.makespan, run.timeline.facts
        slowest, fastest = facts.makespan_max_ns or measured, facts.makespan_min_ns or measured
        rows.append(
            {
                "plan": one.plan.label,
                "roofline_ns": one.plan.makespan,
                "predicted_ns": one.predicted.makespan,
                "measured_ns": measured,
                "error": one.predicted.makespan / measured - 1,
                "spread": (slowest - fastest) / measured,
            }
        )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Markdown, and the verdict."""
    lines = ["", "| plan | roofline | predicted | measured | predicted / measured - 1 |", "|---|--:|--:|--:|--:|"]
    for row in rows:
        times = " | ".join(f"{row[key] / 1e6:.2f} ms" for key in ("roofline_ns", "predicted_ns", "measured_ns"))
        lines.append(f"| {row['plan']} | {times} | {100 * row['error']:+.1f} % |")
    first, other = rows
    predicted = other["predicted_ns"] / first["predicted_ns"]
    measured = other["measured_ns"] / first["measured_ns"]
    verdict = "IS" if measured > 1 else "is NOT"
    lines += ["", f"Predicted {predicted:.2f}x faster, measured {measured:.2f}x: the plan predicted faster {verdict}."]
    return lines
