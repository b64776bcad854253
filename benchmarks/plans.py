"""``python -m benchmarks plans``: two plans of `alrsim plan`, run for real: do they land near their prediction, and is
the one that was predicted faster faster?

The planner ranks by the host's roofline. The best plans and the slowest of those it carried out are calibrated on this
host in turn, predicted again with those costs on the very lanes that the planner chose, and run in turn.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alrsim.cost.calibrated import calibrated_problem
from alrsim.execution.executor import Prepared, Scheduled, execute_all
from alrsim.execution.measuring.calibrate import calibrate_all
from alrsim.files import write_atomically
from alrsim.hardware.profile import load_machine
from alrsim.planner.options import PlanOptions
from alrsim.planner.planning import step_of
from alrsim.planner.question import answer, open_question
from alrsim.simulation.engine import simulate
from alrsim.steps.measuring import open_bench, prepare_draft, running_of
from alrsim.steps.model import load_model
from alrsim.steps.options import RunOptions
from alrsim.steps.step import Step
from alrsim.tasks.problem import Problem
from alrsim.timeline.timeline import Timeline
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

    plan: Step
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
    keywords = {"option": options.option, "batch": options.batch, "units": options.units, "rules": options.rules}
    asked = PlanOptions.take({**keywords, "target": "step-time", "what_if": False})
    model = load_model(options.model, option=asked.option)
    question = open_question(model, load_machine("cpu-2core", options.units), asked)
    ranked = answer(question).ranked
    chosen = {id(one): one for one in (*ranked[: options.plans], ranked[-1])}
    rows = compare([step_of(question, one) for one in chosen.values()], options)
    print(*table(rows), sep="\n", flush=True)
    if options.json is not None:
        write_atomically(options.json, (json.dumps(rows, indent=1) + "\n").encode())


def compare(steps: Sequence[Step], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Calibrate all, choose two, run them in turn."""
    running = running_of(RunOptions.take({"executor": options.executor, "repeats": options.repeats}))
    works = {one.tasks.microbatches: one.draft.work for one in steps if one.draft is not None}
    benches = {count: open_bench(work, running) for count, work in works.items()}
    drafts = [
        (one, prepare_draft(benches[one.tasks.microbatches], one.draft)) for one in steps if one.draft is not None
    ]
    say("plans: calibrate")
    costs = calibrate_all(
        [prepared for _, prepared in drafts],
        executor=running.executor,
        limits=running.limits,
        units=options.units,
        repeats=options.repeats,
    )
    ready = []
    for (one, prepared), found in zip(drafts, costs, strict=True):
        problem = calibrated_problem(one.tasks, one.machine, prepared.job.options, found)
        problem = replace(problem, loss_unit=one.problem.loss_unit)
        ready.append(Real(one, prepared, problem, simulate(problem, one.schedule, semantics=found.semantics)))
    ready.sort(key=lambda one: one.predicted.makespan)
    slower = [one for one in ready[1:] if one.predicted.makespan >= APART * ready[0].predicted.makespan]
    pair = [ready[0], slower[0] if slower else ready[-1]]
    say("plans: run")
    done = execute_all(
        [Scheduled(one.prepared, one.problem, one.plan.schedule) for one in pair],
        executor=running.executor,
        limits=running.limits,
        repeats=options.repeats,
    )
    rows = []
    for one, run in zip(pair, done, strict=True):
        measured = run.timeline.makespan
        rows.append(
            {
                "plan": one.plan.name,
                "roofline_ns": one.plan.timeline.makespan,
                "predicted_ns": one.predicted.makespan,
                "measured_ns": measured,
                "error": one.predicted.makespan / measured - 1,
                "iqr_ns": run.timeline.facts.makespan_iqr_ns,
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
