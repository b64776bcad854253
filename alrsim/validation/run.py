"""A validation run: per model calibrate, predict and write down, then measure in turns and write down."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from alrsim.cost.calibrated import calibrated_problem
from alrsim.execution.executor import Scheduled, sequential
from alrsim.execution.executors import find_executor
from alrsim.execution.measuring.calibrate import calibrate_all
from alrsim.execution.measuring.timelines import measured_facts, measured_timeline
from alrsim.execution.measuring.tracking import measure_scratch
from alrsim.execution.session import Limits, Session
from alrsim.execution.workers.agreement import same_on_all_ranks
from alrsim.progress import stretch
from alrsim.steps.chain import build_schedule
from alrsim.steps.measuring import JobKey
from alrsim.timeline.timeline import Timeline
from alrsim.validation.cells import MODELS, Cell, Grid, ModelSpec
from alrsim.validation.draft import (
    Draft,
    Opened,
    calibration_draft,
    draft,
    open_model,
    prepare_draft,
    require_disjoint,
)
from alrsim.validation.journal import CLOCK, PREDICTIONS, Journal
from alrsim.validation.records import Prediction, blank_prediction, now, predicted, problem_again, step_of
from alrsim.warning import warn


@dataclass(frozen=True)
class Plan:
    """What to do.

    Attributes:
        cells: Of the grid, those that are asked for.
        check_gradients: Compare every cell's gradients with the reference order's.
        models: Sizes by the name that cells give.
    """

    grid: Grid
    cells: tuple[Cell, ...]
    executor: str
    limits: Limits = field(default_factory=Limits)
    seed: int = 0
    check_gradients: bool = False
    calibration_repeats: int = 7
    models: Mapping[str, ModelSpec] = field(default_factory=lambda: MODELS)


@dataclass(frozen=True)
class Runner:
    """Runs jobs, one step at a time, and gives a timeline of each."""

    jobs: Sequence[Scheduled]
    session: Session
    overhead: int
    warmup: int

    @property
    def clock(self) -> str:
        """How the units' clocks are aligned, and what is left of their difference."""
        facts = self.session.facts
        left = f", residual {facts.clock_skew_ns} ns" if facts.clock_skew_ns else ""
        return f"{facts.clock or 'unknown'}{left}"

    @property
    def resident(self) -> dict[str, Any]:
        """What the system says of the processes' memory, by the executor's own names."""
        return {name: value for name, value in self.session.facts.to_json().items() if "rss" in name}

    def run(self, index: int) -> Timeline:
        """One step of a job.

        Raises:
            RunError, InterruptedRun: as the executor's session.
        """
        job = self.jobs[index]
        record = self.session.run(index)
        prepared = job.prepared
        times = record.times
        facts = measured_facts(prepared.job, job.schedule, times, [max(times.end)], self.warmup, self.overhead)
        return measured_timeline(
            prepared.job,
            prepared.ledger,
            job.problem,
            job.schedule,
            times,
            facts.joined(self.session.facts),
            record.transfers,
        )

    def differing_gradients(self, index: int) -> list[str]:
        """Parameters whose gradient in the job's last run is not, bit for bit, that of the reference order."""
        prepared = self.jobs[index].prepared
        job = prepared.job
        expected = sequential(job.program, job.graph, prepared.batch, job.options, job.settings).gradients
        found = self.session.results(index).gradients
        return [name for name, value in expected.items() if name not in found or not torch.equal(found[name], value)]


@contextmanager
def open_runner(jobs: Sequence[Scheduled], executor: str, limits: Limits, warmup: int) -> Iterator[Runner]:
    """Workers for all jobs, gone at the end whatever happens."""
    for job in jobs:
        measure_scratch(job.prepared)  # not timed; what a measured timeline says of memory needs it
    with find_executor(executor)(jobs, limits) as session:
        yield Runner(jobs, session, session.overhead(400), warmup)


def run_validation(plan: Plan, journal: Journal) -> None:
    """Do whatever the journal lacks, model by model.

    Raises:
        AlrsimError: a cell cannot be built or run; what was done before is in the journal.
    """
    if plan.executor == "torchrun":  # every rank runs this; the first one has the journal
        journal.load(same_on_all_ranks(journal.dump()))
    models = list(dict.fromkeys(cell.model for cell in plan.cells))
    for model in models:
        cells = [cell for cell in plan.cells if cell.model == model]
        left = journal.left(cells)
        if not left:
            continue
        opened = open_model(plan.models[model], max(cell.microbatches for cell in cells), plan.seed)
        drafts = {cell.name: draft(opened, cell) for cell in cells}
        _predict_all(plan, journal, opened, [one for name, one in drafts.items() if name not in journal.predictions])
        _measure_all(plan, journal, opened, [drafts[cell.name] for cell in cells if journal.left([cell])])


def _predict_all(plan: Plan, journal: Journal, opened: Opened, drafts: Sequence[Draft]) -> None:
    """Calibrate on other steps than the cells'; nothing of a cell itself runs before its prediction is on disk."""
    if not drafts:
        return
    calibrations: dict[JobKey, Draft] = {}
    for one in drafts:
        if one.key not in calibrations:
            calibrations[one.key] = calibration_draft(opened, one)
    require_disjoint(calibrations.values(), drafts, {})
    jobs = [prepare_draft(opened, one) for one in calibrations.values()]
    units = max(one.cell.units for one in drafts)
    with stretch(2 * len(jobs) * (plan.calibration_repeats + 1), f"calibrate {opened.spec.name}") as advance:
        costs = calibrate_all(
            jobs,
            executor=plan.executor,
            limits=plan.limits,
            units=units,
            repeats=plan.calibration_repeats,
            progress=lambda count, _all: advance(f"step {count}"),
        )
    table = dict(zip(calibrations, costs, strict=True))
    note = {"busy": costs[0].host.busy, "host": costs[0].host.words, "summary": costs[0].summary}
    journal.note(f"calibration of {opened.spec.name}", note | {"slowdown": [round(one.slowdown, 4) for one in costs]})
    found = []
    for one in drafts:
        step = one.step
        problem = calibrated_problem(step.tasks, step.work.machine, step.options.precision, table[one.key])
        schedule = build_schedule(problem, step.method.scheduler, step.work.asked).schedule
        blank = blank_prediction(
            one.cell,
            now(),
            step.options,
            opened.spec.options,
            step.stages,
            schedule,
            problem,
            table[one.key].semantics,
            calibrations[one.key].reference.digest,
        )
        found.append(predicted(blank, problem))
    require_disjoint(calibrations.values(), drafts, {one.cell.name: one.schedule for one in found})
    if plan.executor == "torchrun":  # ranks have measured other costs, and must run the same schedules
        found = PREDICTIONS.validate_python(same_on_all_ranks(PREDICTIONS.dump_python(found, mode="json")))
    for prediction in found:
        journal.predict(prediction)


def _measure_all(plan: Plan, journal: Journal, opened: Opened, drafts: Sequence[Draft]) -> None:
    """All cells of a model in turn, A B C A B C; every step is on disk before the next begins."""
    jobs = [_scheduled(opened, one, journal.predictions[one.cell.name]) for one in drafts]
    header = journal.header
    total = header.repeats * len(jobs)
    runners = open_runner(jobs, plan.executor, plan.limits, header.warmup)
    with runners as runner, stretch(total, f"measure {opened.spec.name}") as advance:
        journal.note(CLOCK, runner.clock)
        for _ in range(header.warmup):
            for index in range(len(jobs)):
                runner.run(index)
        for turn in range(header.repeats):
            for index, one in enumerate(drafts):
                cell = one.cell
                if len(journal.steps.get(cell.name, ())) != turn:
                    continue  # measured before an interruption
                job = jobs[index]
                advance(f"{cell.name}, step {turn + 1}")
                journal.measure(cell, step_of(turn, job.schedule, job.problem.tasks, runner.run(index)))
        journal.note(f"peak resident memory of {opened.spec.name}", runner.resident)
        if plan.check_gradients:
            for index, one in enumerate(drafts):
                wrong = runner.differing_gradients(index)
                journal.note(f"gradients of {one.cell.name}", wrong)
                if wrong:
                    warn(f"{one.cell.name}: the gradient of {wrong[0]} is not that of the reference order")


def _scheduled(opened: Opened, one: Draft, prediction: Prediction) -> Scheduled:
    """The job exactly as it was predicted."""
    return Scheduled(prepare_draft(opened, one), problem_again(prediction), prediction.schedule)
