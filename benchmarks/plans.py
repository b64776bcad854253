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

from alrsim.cli.measuring import Bench, open_bench, program_of
from alrsim.cli.model import load, request
from alrsim.cli.pipeline import Settings
from alrsim.cli.plan_asked import Asked
from alrsim.cli.plan_model import Answer, plan_model
from alrsim.cli.planning import Setup
from alrsim.cli.running import check_running
from alrsim.cost.calibrated import calibrated_problem
from alrsim.cost.costs import MeasuredCosts
from alrsim.execution.executor import Prepared, Scheduled, execute_all, prepare
from alrsim.execution.job import Settings as RunSettings
from alrsim.execution.measuring.calibrate import calibrate_all
from alrsim.files import write_atomically
from alrsim.planner.candidate import DEFAULT_MODES
from alrsim.planner.evaluate import DEFAULT_SEARCH, Evaluated
from alrsim.simulation.engine import simulate
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

    plan: Evaluated
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
    answer = plan_model(question(options))
    chosen = [*answer.outcome.ranked[: options.plans], answer.outcome.ranked[-1]]
    rows = compare(answer, list({id(one): one for one in chosen}.values()), options)
    print(*table(rows), sep="\n", flush=True)
    if options.json is not None:
        write_atomically(options.json, (json.dumps(rows, indent=1) + "\n").encode())


def question(options: argparse.Namespace) -> Asked:
    """What is asked of the planner."""
    return Asked(
        model=options.model,
        cosine=None,
        target="step-time",
        hardware="cpu-2core",
        units=options.units,
        batch=options.batch,
        rules=tuple(options.rules.split(",")),
        microbatches=None,
        copies=None,
        modes=DEFAULT_MODES,
        cut=None,
        noise_per_dim=None,
        quality=None,
        idle_power=0.0,
        option=options.option,
        bind=None,
        precision=None,
        optimizer="sgd",
        update=True,
        loss=True,
        semantics="link",
        search=DEFAULT_SEARCH,
        what_if=False,
        durations=None,
        stages=None,
        loss_unit=None,
        loss_row=False,
        typed=frozenset(),
    )


def compare(answer: Answer, plans: Sequence[Evaluated], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Calibrate all, choose two, run them in turn."""
    benches: dict[int, Bench] = {}
    drafts = [(plan, _prepare(answer, plan, options, benches)) for plan in plans]
    running = check_running(options.executor, None)
    say("plans: calibrate")
    costs = calibrate_all(
        [prepared for _, prepared in drafts],
        executor=running.executor,
        limits=running.limits,
        units=options.units,
        repeats=options.repeats,
    )
    ready = [_predict(answer, plan, prepared, one) for (plan, prepared), one in zip(drafts, costs, strict=True)]
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
                "plan": one.plan.candidate.label,
                "roofline_ns": one.plan.timeline.makespan,
                "predicted_ns": one.predicted.makespan,
                "measured_ns": measured,
                "error": one.predicted.makespan / measured - 1,
                "iqr_ns": run.timeline.facts.makespan_iqr_ns,
            }
        )
    return rows


def _prepare(answer: Answer, plan: Evaluated, options: argparse.Namespace, benches: dict[int, Bench]) -> Prepared:
    """The plan's tasks on real tensors; plans with as many micro-batches share a program per cut."""
    count = plan.candidate.microbatches
    if count not in benches:
        loaded = load(request(options.model, options.option, None, options.batch, count))
        setup = Setup(loaded, Settings(microbatches=count), answer.profile, answer.setting.machine)
        benches[count] = open_bench(setup, 0)
    bench = benches[count]
    stages = answer.setting.source.stages(plan.candidate.cut, count)
    program = program_of(bench, stages)
    return prepare(program, plan.problem.tasks, bench.batch, plan.options, RunSettings(seed=0))


def _predict(answer: Answer, plan: Evaluated, prepared: Prepared, costs: MeasuredCosts) -> Real:
    problem = calibrated_problem(plan.problem.tasks, answer.setting.machine, plan.options, costs)
    problem = replace(problem, loss_unit=plan.problem.loss_unit)
    return Real(plan, prepared, problem, simulate(problem, plan.schedule, semantics=costs.semantics))


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
