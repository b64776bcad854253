"""From a cell to tasks: zoo model, export, cut, rule. The same public steps as `alrsim compare` takes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from alrsim.cost.cut import cut_graph, time_weights
from alrsim.cost.models import roofline
from alrsim.cost.stages import build_stages
from alrsim.datasets import default_dataset, load_samples
from alrsim.errors import OptionError
from alrsim.estimators.policy import preset
from alrsim.execution.executor import Batch, Prepared, prepare
from alrsim.execution.job import Settings
from alrsim.execution.programs.program import Program, build_program
from alrsim.frontend.torch_export import Exported, export_model
from alrsim.graph.stages import StageGraph
from alrsim.hardware.machine import Machine
from alrsim.hardware.precision import PrecisionPlan
from alrsim.hardware.profile import load_profile, machine_from
from alrsim.models import build
from alrsim.rules import RULES
from alrsim.rules.options import RuleOptions
from alrsim.rules.policy import default_precision, plan_options
from alrsim.schedule.schedule import Lane, Schedule
from alrsim.tasks.taskgraph import TaskGraph
from alrsim.validation.cells import CALIBRATION_MICROBATCHES, FORMATS, Cell, ModelSpec

PROFILE = "cpu-2core"

JobKey = tuple[tuple[tuple[str, ...], ...], str, RuleOptions]
"""What the costs of tasks depend on: the stages' operators, the rule, and its options for one micro-batch."""


@dataclass(frozen=True)
class Opened:
    """A model at the size of one micro-batch, with data for the largest step, and its programs by cut."""

    spec: ModelSpec
    exported: Exported
    batch: Batch
    dataset: str
    seed: int
    programs: dict[tuple[tuple[str, ...], ...], Program] = field(default_factory=dict)


@dataclass(frozen=True)
class Draft:
    """A cell with its tasks, before there are costs to schedule them by."""

    cell: Cell
    stages: StageGraph
    options: RuleOptions
    tasks: TaskGraph

    @property
    def cut(self) -> tuple[tuple[str, ...], ...]:
        return tuple(stage.ops for stage in self.stages.stages)

    @property
    def key(self) -> JobKey:
        return self.cut, self.cell.rule, replace(self.options, microbatches=1)

    @property
    def reference(self) -> Schedule:
        """The tasks in reference order on the first unit: what a calibration runs
        (:func:`alrsim.execution.measuring.calibrate.calibration_job`)."""
        tasks = tuple(task.id for task in self.tasks.tasks)
        idle = tuple(Lane(f"u{unit}", ()) for unit in range(1, self.cell.units))
        return Schedule((Lane("u0", tasks), *idle), "reference order")


def open_model(spec: ModelSpec, microbatches: int, seed: int) -> Opened:
    """Build, export, and draw data for steps of up to so many micro-batches (digits where they fit, else random)."""
    microbatches = max(microbatches, CALIBRATION_MICROBATCHES)
    model = build(spec.name, **dict(spec.options))
    exported = export_model(model, spec.samples)
    dataset = default_dataset(model)
    samples = load_samples(dataset, model, spec.samples * microbatches, seed)
    return Opened(spec, exported, Batch(samples.inputs, samples.labels), dataset, seed)


def find_host(units: int) -> Machine:
    """This host's units."""
    return machine_from(load_profile(PROFILE), units)


def draft(opened: Opened, cell: Cell) -> Draft:
    """Cut the model (BP: into one stage per unit of equal predicted time; LR: into layers) and build the tasks."""
    graph = opened.exported.graph
    if cell.word == "bp":
        weights = time_weights(graph, roofline, find_host(cell.units).units[0], PrecisionPlan())
        stages = build_stages(graph, cut_graph(graph, f"balanced:{cell.units}", weights=weights))
    else:
        stages = build_stages(graph, cut_graph(graph, "layer"))
    options = _options(cell, stages)
    return Draft(cell, stages, options, RULES[cell.rule](stages, options))


def _options(cell: Cell, stages: StageGraph) -> RuleOptions:
    base = RuleOptions(microbatches=cell.microbatches)
    if cell.word == "bp":
        return base
    trainable = [stage.parameters > 0 for stage in stages.stages]
    options = plan_options(preset(cell.word).plan(trainable, copies=cell.copies or 1), base)
    return replace(options, precision=FORMATS[cell.formats] if cell.formats else default_precision(options))


def calibration_draft(opened: Opened, one: Draft) -> Draft:
    """The same tasks in a step of another size, whose tasks are timed for those of the cell."""
    return draft(opened, replace(one.cell, microbatches=CALIBRATION_MICROBATCHES))


def prepare_draft(opened: Opened, one: Draft) -> Prepared:
    """Ready to be run: the program, the tasks and as many samples as they take."""
    if one.cut not in opened.programs:
        opened.programs[one.cut] = build_program(opened.exported.graph, opened.exported.program, one.stages)
    count = opened.spec.samples * one.cell.microbatches
    batch = Batch(tuple(value[:count] for value in opened.batch.inputs), opened.batch.targets[:count])
    return prepare(opened.programs[one.cut], one.tasks, batch, one.options, Settings(seed=opened.seed))


def require_disjoint(calibrations: Iterable[Draft], cells: Iterable[Draft], schedules: Mapping[str, Schedule]) -> None:
    """No cell may be predicted from a measurement of itself.

    Args:
        schedules: Of cells that have one, by cell name.

    Raises:
        OptionError: a calibration runs the step, or the schedule, of a cell.
    """
    steps = {(one.key, one.options.microbatches): one.cell.name for one in cells}
    digests = {schedule.digest: name for name, schedule in schedules.items()}
    for one in calibrations:
        name = steps.get((one.key, one.options.microbatches)) or digests.get(one.reference.digest)
        if name is not None:
            raise OptionError(
                f"its costs would be measured on the very step that they shall predict ({one.cell.name})",
                where=f"cell {name}",
                fix=f"choose micro-batches other than {CALIBRATION_MICROBATCHES}",
            )
