"""A training run as JSON (schema ``train.schema.json``)."""

from dataclasses import asdict
from typing import Any

from alrsim.training.auto import plan_lines
from alrsim.training.optimize import plain_state
from alrsim.training.place import Placement
from alrsim.training.setup import Training
from alrsim.training.state import TrainState


def train_document(
    training: Training, state: TrainState, placement: Placement | None, resumed: int | None
) -> dict[str, Any]:
    """What was asked, what it cost and the whole log."""
    job, method = training.job, training.method
    cost = method.cost(state.copies)
    accuracies = [row.test_accuracy for row in state.rows]
    return {
        "model": job.model,
        "dataset": {
            "name": training.splits.name,
            "description": training.splits.description,
            "train": len(training.splits.train),
            "test": len(training.splits.test),
        },
        "method": job.method,
        "job": plain_state({**job.identity, "steps": job.steps, "eval_every": job.eval_every}),
        "digest": job.digest,
        "schedule": None if placement is None else {"scheduler": placement.scheduler, "units": placement.units},
        "parameters": training.model.parameter_count,
        "noisy": method.noisy,
        "sigma": None if method.sigma is None else list(state.sigma or method.sigma),
        "mask": method.mask,
        "cost_per_step": {"forwards": cost.forwards, "work": cost.work},
        "resumed_at": resumed,
        "steps_done": state.step,
        "best_accuracy": max(accuracies),
        "final_accuracy": accuracies[-1],
        "rows": [asdict(row) for row in state.rows],
        "decisions": list(state.decisions),
        "text": _text(training, state, placement),
    }


def _text(training: Training, state: TrainState, placement: Placement | None) -> list[str]:
    job, method = training.job, training.method
    cost = method.cost(state.copies)
    best, last = max(row.test_accuracy for row in state.rows), state.rows[-1]
    used = sorted({job.copies, *(row.copies for row in state.rows)})
    copies = f" with {used[0]}{f' to {used[-1]}' if len(used) > 1 else ''} copies" if method.noisy else ""
    in_the_end = " at the end" if len(used) > 1 else ""
    where = "in sequence" if placement is None else f"on {placement.units} units, {placement.scheduler}"
    update = ", signs of the gradient" if job.update == "sign" else ""
    masked = ", losses masked by reach" if method.mask == "reach" else ""
    per_step = 1e3 * state.seconds / max(state.step, 1)
    return [
        f"{job.model} on {job.data}: {job.method}{copies}",
        f"batch {job.batch}, {job.optimizer} {job.rate:g}{update}, cut {job.cut}{masked}, seed {job.seed}, {where}; "
        f"{cost.forwards:g} forwards and {cost.work:.3g} F per step{in_the_end} (F: one forward of the batch)",
        f"test accuracy {100 * last.test_accuracy:.1f} % after {state.step} steps, best {100 * best:.1f} %; "
        f"{last.work:,.0f} F and {last.forwards:,.0f} forwards in all, {per_step:.1f} ms per step on this host",
        *(plan_lines(job.plan, tuple(stage.name for stage in training.stages.stages)) if job.plan else ()),
    ]
