"""From a cell to tasks, by the same steps as every other verb takes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from alrsim.errors import OptionError
from alrsim.execution.executor import Batch, Prepared
from alrsim.execution.session import Limits
from alrsim.hardware.profile import load_machine
from alrsim.schedule.schedule import Lane, Schedule
from alrsim.steps.draft import Draft as StepDraft
from alrsim.steps.draft import Workload, draft_step
from alrsim.steps.measuring import Bench, JobKey, Running, job_key, open_bench
from alrsim.steps.measuring import prepare_draft as prepare_step
from alrsim.steps.method import parse_method
from alrsim.steps.model import load_model
from alrsim.steps.options import StepOptions
from alrsim.validation.cells import CALIBRATION_MICROBATCHES, FORMATS, Cell, ModelSpec

PROFILE = "cpu-2core"


@dataclass(frozen=True)
class Opened:
    """A model with data for the largest step.

    Attributes:
        bench: With one batch that is long enough for every step.
    """

    spec: ModelSpec
    bench: Bench


@dataclass(frozen=True)
class Draft:
    """A cell with its tasks, before there are costs to schedule them by."""

    cell: Cell
    step: StepDraft

    @property
    def key(self) -> JobKey:
        """What the costs of tasks depend on: stages, rule, and its options for one micro-batch."""
        cut, rule, options = job_key(self.step)
        return cut, rule, replace(options, microbatches=1)

    @cached_property
    def reference(self) -> Schedule:
        """The tasks in reference order on the first unit: what a calibration runs
        (:func:`alrsim.execution.measuring.calibrate.calibration_job`)."""
        tasks = tuple(task.id for task in self.step.tasks.tasks)
        idle = tuple(Lane(f"u{unit}", ()) for unit in range(1, self.cell.units))
        return Schedule((Lane("u0", tasks), *idle), "reference order")


def open_model(spec: ModelSpec, microbatches: int, seed: int) -> Opened:
    """Load a model and draw data for steps of up to so many micro-batches (digits where they fit, else random)."""
    model = load_model(spec.name, option=dict(spec.options))
    most = max(microbatches, CALIBRATION_MICROBATCHES)
    work = Workload(model, load_machine(PROFILE, 1), StepOptions(microbatches=most, batch=spec.samples * most))
    return Opened(spec, open_bench(work, Running("threads", Limits(), 1, seed)))


def draft(opened: Opened, cell: Cell) -> Draft:
    """Cut the model (BP: into one stage per unit of equal predicted time; LR: into layers) and settle the options."""
    asked = StepOptions.take(
        {
            "microbatches": cell.microbatches,
            "batch": opened.spec.samples * cell.microbatches,
            **({} if cell.copies is None else {"copies": cell.copies}),
            **({"precision": FORMATS[cell.formats]} if cell.formats else {}),
        }
    )
    work = Workload(opened.bench.work.model, load_machine(PROFILE, cell.units), asked)
    return Draft(cell, draft_step(work, parse_method(cell.method)))


def calibration_draft(opened: Opened, one: Draft) -> Draft:
    """The same tasks in a step of another size, whose tasks are timed for those of the cell."""
    return draft(opened, replace(one.cell, microbatches=CALIBRATION_MICROBATCHES))


def prepare_draft(opened: Opened, one: Draft) -> Prepared:
    """Ready to be run: the program, the tasks and as many samples as they take."""
    work, whole = one.step.work, opened.bench.batch
    batch = Batch(tuple(value[: work.samples] for value in whole.inputs), whole.targets[: work.samples])
    return prepare_step(replace(opened.bench, work=work, batch=batch, prepared={}, costs={}), one.step)


def require_disjoint(calibrations: Iterable[Draft], cells: Iterable[Draft], schedules: Mapping[str, Schedule]) -> None:
    """No cell may be predicted from a measurement of itself.

    Args:
        schedules: Of cells that have one, by cell name.

    Raises:
        OptionError: a calibration runs the step, or the schedule, of a cell.
    """
    steps = {(one.key, one.step.options.microbatches): one.cell.name for one in cells}
    digests = {schedule.digest: name for name, schedule in schedules.items()}
    for one in calibrations:
        name = steps.get((one.key, one.step.options.microbatches)) or digests.get(one.reference.digest)
        if name is not None:
            raise OptionError(
                f"its costs would be measured on the very step that they shall predict ({one.cell.name})",
                where=f"cell {name}",
                fix=f"choose micro-batches other than {CALIBRATION_MICROBATCHES}",
            )
