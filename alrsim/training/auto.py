"""Method ``auto``: a plan by measurement, without a single backpropagation, before the first step."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import groupby
from typing import Any

from pydantic import TypeAdapter, ValidationError

from alrsim.errors import OptionError
from alrsim.estimators.policy import Estimator, Plan, preset
from alrsim.execution.executor import Batch
from alrsim.execution.job import Settings
from alrsim.execution.workers.thread_workers import one_thread
from alrsim.quality.choose import suggest_plan
from alrsim.quality.sampler import subject_of
from alrsim.steps.chain import trainable
from alrsim.steps.model import Model, cut_stages
from alrsim.training.job import TrainJob
from alrsim.training.methods import mask_of, most_copies, sigmas_of

TARGET = 0.7
"""Cosine that every layer shall reach, where the job does not say."""


def with_measured_plan(job: TrainJob, model: Model, batch: Batch) -> TrainJob:
    """The job with the plan that measurements on one whole batch suggest, and with its copies.

    The job's changes are those of ``lr``, the estimator of the layers that keep noise on their output; no layer gets
    more than ``copies_max`` copies.

    Raises:
        OptionError, ExecutionError: what cannot be measured.
    """
    sized = model.at(job.batch)
    stages = cut_stages(sized.graph, job.cut)
    program = model.program(sized, stages)
    whole = replace(job, method="lr", copies=2, microbatches=1, group=None, monitor=0, target_cosine=None)
    changes: dict[str, Any] = dict(job.changes)
    plan = preset("lr").plan(trainable(stages), **changes)
    settings = Settings(sigma=sigmas_of(whole, plan, program, batch), seed=job.seed, mask=mask_of(whole, plan, program))
    with one_thread():
        found = suggest_plan(
            subject_of(program, stages, batch),
            plan[0],
            settings,
            target=job.target_cosine or TARGET,
            most=job.copies_max,
        )
    return with_plan(job, found.plan)


def with_plan(job: TrainJob, plan: Plan) -> TrainJob:
    """The job with a plan and its largest number of copies, or one more where the monitor needs an even number."""
    return replace(job, plan=plan, copies=most_copies(plan, even=job.monitor > 0))


def with_stored_plan(job: TrainJob, stored: Mapping[str, Any]) -> TrainJob:
    """The job with the plan of a checkpoint's job: a run goes on with what it measured when it began."""
    if not stored.get("plan"):
        raise OptionError("the checkpoint holds no plan", field="resume", fix="begin anew")
    try:
        plan = TypeAdapter(tuple[Estimator, ...]).validate_python(stored["plan"])
        return replace(job, plan=plan, copies=int(stored["copies"]))
    except (ValidationError, ValueError, KeyError, TypeError):
        raise OptionError(
            "the checkpoint's job.plan or job.copies is damaged", field="resume", fix="begin anew"
        ) from None


def plan_lines(plan: Plan, names: tuple[str, ...]) -> list[str]:
    """A plan in words, a line per run of stages that are alike."""
    found = []
    for one, group in groupby(range(len(plan)), plan.__getitem__):
        stages = list(group)
        first, last = stages[0], stages[-1]
        where = f"stage {first} ({names[first]})" if first == last else f"stages {first} to {last} ({names[first]}...)"
        draws = "1 copy" if one.copies == 1 else f"{one.copies} copies"
        what = "exact" if one.kind == "bp" else f"{one.kind}, {one.noise} noise, {draws}"
        found.append(f"plan: {where}: {what}")
    return found
