"""Steps on measured costs: calibrate, schedule on that, run the very same schedules."""

from collections.abc import Sequence

from alrsim.cost.calibrated import calibrated_problem
from alrsim.cost.costs import MeasuredCosts
from alrsim.steps.draft import Draft, draft_step, warn_batch_statistics
from alrsim.steps.measuring import Bench, calibrate_drafts, job_key, run_steps
from alrsim.steps.method import Method
from alrsim.steps.pricing import Priced
from alrsim.steps.step import Step, schedule_draft
from alrsim.timeline.timeline import Timeline


def schedule_on(draft: Draft, costs: MeasuredCosts) -> Step:
    """A draft on costs that were measured on this host, task by task."""
    problem = calibrated_problem(draft.tasks, draft.work.machine, draft.options.precision, costs)
    return schedule_draft(draft, Priced(problem, semantics=costs.semantics))


def measure_methods(bench: Bench, methods: Sequence[Method]) -> tuple[list[Step], list[Timeline]]:
    """Calibrate, schedule, simulate and run every method, in turn.

    Raises:
        ExecutionError: what the executor cannot run; names the operator or the token.
    """
    warn_batch_statistics(bench.work, methods)
    drafts = [draft_step(bench.work, method) for method in methods]
    calibrate_drafts(bench, drafts)
    steps = [schedule_on(draft, bench.costs[job_key(draft)]) for draft in drafts]
    return steps, run_steps(bench, steps)
