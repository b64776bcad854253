"""A validation run: per model calibrate, predict and write down, then measure in turns and write down."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from alrsim.cost.calibrated import calibrated_problem
from alrsim.execution.executor import Scheduled
from alrsim.execution.measuring.calibrate import calibrate_all
from alrsim.execution.session import Limits
from alrsim.execution.workers.agreement import same_on_all_ranks
from alrsim.schedulers import solve
from alrsim.validation.bench import calibration_note, open_runner
from alrsim.validation.cells import MODELS, Cell, Grid, ModelSpec
from alrsim.validation.draft import (
    Draft,
    JobKey,
    Opened,
    calibration_draft,
    draft,
    find_host,
    open_model,
    prepare_draft,
    require_disjoint,
)
from alrsim.validation.journal import CLOCK, Journal, plain_predictions, predictions_from
from alrsim.validation.records import Prediction, blank_prediction, now, predicted, problem_again, step_of


@dataclass(frozen=True)
class Plan:
    """What to do.

    Attributes:
        cells: Of the grid, those that are asked for.
        check_gradients: Compare every cell's gradients with the reference order's.
        tell: Says what is going on, one line at a time.
        models: Sizes by the name that cells give.
    """

    grid: Grid
    cells: tuple[Cell, ...]
    executor: str
    limits: Limits = field(default_factory=Limits)
    seed: int = 0
    check_gradients: bool = False
    tell: Callable[[str], None] = lambda _text: None
    calibration_repeats: int = 7
    models: Mapping[str, ModelSpec] = field(default_factory=lambda: MODELS)


def run_validation(plan: Plan, journal: Journal) -> None:
    """Do whatever the journal lacks, model by model.

    Raises:
        AlrsimError: a cell cannot be built or run; what was done before is in the journal.
    """
    if plan.executor == "torchrun":  # every rank runs this; the first one has the journal
        journal.load(same_on_all_ranks(journal.dump()))
    models = list(dict.fromkeys(cell.model for cell in plan.cells))
    for number, model in enumerate(models, 1):
        cells = [cell for cell in plan.cells if cell.model == model]
        left = journal.left(cells)
        if not left:
            continue
        plan.tell(
            f"[{number}/{len(models)}] {model}: {len(cells)} cell{'s' * (len(cells) != 1)}, {left} steps to measure"
        )
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
    plan.tell(f"  calibrate: {len(calibrations)} kind{'s' * (len(calibrations) != 1)} of step")
    jobs = [prepare_draft(opened, one) for one in calibrations.values()]
    units = max(one.cell.units for one in drafts)
    costs = calibrate_all(
        jobs, executor=plan.executor, limits=plan.limits, units=units, repeats=plan.calibration_repeats
    )
    table = dict(zip(calibrations, costs, strict=True))
    journal.note(f"calibration of {opened.spec.name}", calibration_note(costs))
    found = []
    for one in drafts:
        machine = find_host(one.cell.units)
        problem = calibrated_problem(one.tasks, machine, one.options, table[one.key])
        schedule = solve(problem, one.cell.scheduler).schedule
        blank = blank_prediction(
            one.cell,
            now(),
            one.options,
            opened.spec.options,
            one.stages,
            schedule,
            problem,
            table[one.key].semantics,
            calibrations[one.key].reference.digest,
        )
        found.append(predicted(blank, problem))
    require_disjoint(calibrations.values(), drafts, {one.cell.name: one.schedule for one in found})
    if plan.executor == "torchrun":  # ranks have measured other costs, and must run the same schedules
        found = predictions_from(same_on_all_ranks(plain_predictions(found)))
    for prediction in found:
        journal.predict(prediction)
    plan.tell(f"  predicted and written down: {len(found)} cell{'s' * (len(found) != 1)}")


def _measure_all(plan: Plan, journal: Journal, opened: Opened, drafts: Sequence[Draft]) -> None:
    """All cells of a model in turn, A B C A B C; every step is on disk before the next begins."""
    jobs = [_scheduled(opened, one, journal.predictions[one.cell.name]) for one in drafts]
    header = journal.header
    with open_runner(jobs, plan.executor, plan.limits, header.warmup) as runner:
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
                journal.measure(cell, step_of(turn, job.schedule, job.problem.tasks, runner.run(index)))
            plan.tell(f"  turn {turn + 1} of {header.repeats}")
        journal.note(f"peak resident memory of {opened.spec.name}", runner.resident)
        if plan.check_gradients:
            for index, one in enumerate(drafts):
                wrong = runner.differing_gradients(index)
                journal.note(f"gradients of {one.cell.name}", wrong)
                if wrong:
                    plan.tell(f"  {one.cell.name}: the gradient of {wrong[0]} is not that of the reference order")


def _scheduled(opened: Opened, one: Draft, prediction: Prediction) -> Scheduled:
    """The job exactly as it was predicted."""
    return Scheduled(prepare_draft(opened, one), problem_again(prediction), prediction.schedule)
