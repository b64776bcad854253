"""The result of a training run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from alrsim.documents import Document, Live
from alrsim.training.auto import plan_lines
from alrsim.training.learner import Cost
from alrsim.training.log import Row
from alrsim.training.optimize import plain_state
from alrsim.training.place import Placement
from alrsim.training.setup import Training
from alrsim.training.state import TrainState, weights_of


@dataclass(frozen=True)
class DataUsed:
    """What was learned from, and what was held out.

    Attributes:
        train: Samples to learn from.
        test: Samples to judge by; none of them is learned from.
    """

    name: str
    description: str
    train: int
    test: int


@dataclass(frozen=True)
class TrainResult(Document):
    """What was asked, what it cost and the whole log.

    Attributes:
        job: Everything that decides the numbers.
        digest: Of the job.
        schedule: Where the tasks ran; ``None``: in sequence.
        parameters: Trainable elements.
        noisy: Whether the method has noise and copies.
        sigma: Noise scale of every stage, at the end.
        mask: Which losses weigh a noise element.
        resumed_at: Step that a checkpoint held.
        decisions: What the monitor decided, in words.
        text: The run in a few sentences.
        weights: Live: trained parameters and buffers by name, as ``module.load_state_dict`` takes them.
    """

    kind: ClassVar[str] = "train"
    version: ClassVar[int] = 2

    model: str
    dataset: DataUsed
    method: str
    job: Mapping[str, Any]
    digest: str
    schedule: Placement | None
    parameters: int
    noisy: bool
    sigma: tuple[float, ...] | None
    mask: str
    cost_per_step: Cost
    resumed_at: int | None
    steps_done: int
    best_accuracy: float
    final_accuracy: float
    rows: tuple[Row, ...]
    decisions: tuple[str, ...]
    text: tuple[str, ...]
    weights: Live = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        return f"TrainResult({self.text[0]}: {100 * self.final_accuracy:.1f} % after {self.steps_done} steps)"


def train_result(
    training: Training, state: TrainState, placement: Placement | None, resumed: int | None
) -> TrainResult:
    """The result of a run as it stands."""
    job, method, splits = training.job, training.method, training.splits
    accuracies = [row.test_accuracy for row in state.rows]
    return TrainResult(
        model=job.model,
        dataset=DataUsed(splits.name, splits.description, len(splits.train), len(splits.test)),
        method=job.method,
        job=plain_state({**job.identity, "steps": job.steps, "eval_every": job.eval_every}),
        digest=job.digest,
        schedule=placement,
        parameters=training.model.parameter_count,
        noisy=method.noisy,
        sigma=None if method.sigma is None else state.sigma or method.sigma,
        mask=method.mask,
        cost_per_step=method.cost(state.copies),
        resumed_at=resumed,
        steps_done=state.step,
        best_accuracy=max(accuracies),
        final_accuracy=accuracies[-1],
        rows=tuple(state.rows),
        decisions=tuple(state.decisions),
        text=_text(training, state, placement, resumed),
        weights=weights_of(training.model.module, state),
    )


def _text(training: Training, state: TrainState, placement: Placement | None, resumed: int | None) -> tuple[str, ...]:
    job, method = training.job, training.method
    cost = method.cost(state.copies)
    best, last = max(row.test_accuracy for row in state.rows), state.rows[-1]
    used = sorted({job.copies, *(row.copies for row in state.rows)})
    copies = f" with {used[0]}{f' to {used[-1]}' if len(used) > 1 else ''} copies" if method.noisy else ""
    in_the_end = " at the end" if len(used) > 1 else ""
    where = "in sequence" if placement is None else f"on {placement.units} units, {placement.scheduler}"
    direction = ", signs of the gradient" if job.direction == "sign" else ""
    masked = ", losses masked by reach" if method.mask == "reach" else ""
    per_step = 1e3 * state.seconds / max(state.step, 1)
    return (
        f"{job.model} on {job.data}: {job.method}{copies}",
        f"batch {job.batch}, {job.optimizer} {job.rate:g}{direction}, cut {job.cut}{masked}, seed {job.seed}, {where}; "
        f"{cost.forwards:g} forwards and {cost.work:.3g} F per step{in_the_end} (F: one forward of the batch)",
        f"test accuracy {100 * last.test_accuracy:.1f} % after {state.step} steps, best {100 * best:.1f} %; "
        f"{last.work:,.0f} F and {last.forwards:,.0f} forwards in all, {per_step:.1f} ms per step on this host",
        training.splits.description,
        *(plan_lines(job.plan, tuple(stage.name for stage in training.stages.stages)) if job.plan else ()),
        *([] if resumed is None else [f"resumed at step {resumed} of {job.steps}"]),
    )
