"""ResNet-5 cut at its layers, prepared for the executor: what speed and memory claims run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from alrsim.cost.calibrated import calibrated_problem
from alrsim.cost.cut import cut_graph
from alrsim.cost.stages import build_stages
from alrsim.datasets import default_dataset, load_samples
from alrsim.estimators.policy import preset
from alrsim.execution.executor import Batch, Prepared, Scheduled, prepare
from alrsim.execution.job import Settings
from alrsim.execution.measuring.calibrate import calibrate_all
from alrsim.execution.programs.program import Program, build_program
from alrsim.frontend.torch_export import export_model
from alrsim.graph.stages import StageGraph
from alrsim.hardware.profile import load_profile, machine_from
from alrsim.models import build
from alrsim.rules import RULES
from alrsim.rules.options import RuleOptions
from alrsim.rules.policy import default_precision, plan_options, plan_rule
from alrsim.schedulers import schedule
from alrsim.tasks.taskgraph import TaskGraph

HOST = "cpu-2core"


@dataclass(frozen=True)
class Model:
    """A zoo model with its size in words.

    Attributes:
        options: Of the zoo, as pairs.
    """

    name: str
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Bench:
    """A model on one batch, cut at its layers, for one number of micro-batches."""

    program: Program
    stages: StageGraph
    batch: Batch
    microbatches: int


@lru_cache(maxsize=4)
def open_bench(model: Model, samples: int, microbatches: int, seed: int) -> Bench:
    """Export and cut; the batch is digits where they fit, else random data."""
    torch_model = build(model.name, **dict(model.options))
    exported = export_model(torch_model, samples // microbatches)
    stages = build_stages(exported.graph, cut_graph(exported.graph, "layer"))
    program = build_program(exported.graph, exported.program, stages)
    data = load_samples(default_dataset(torch_model), torch_model, samples, seed)
    return Bench(program, stages, Batch(data.inputs, data.labels), microbatches)


@dataclass(frozen=True)
class Variant:
    """One way to make the step.

    Attributes:
        changes: Fields of the estimator, as pairs.
        units: Worker threads; 1 runs the tasks in the reference order, un-pipelined.
        scheduler: For more than one.
    """

    method: str
    copies: int = 1
    changes: tuple[tuple[str, str], ...] = ()
    units: int = 1
    scheduler: str = "lr-fixed"


def tasks_of(bench: Bench, variant: Variant) -> tuple[TaskGraph, RuleOptions]:
    """The tasks of a step without updates, and their options."""
    flags = [stage.parameters > 0 for stage in bench.stages.stages]
    plan = preset(variant.method).plan(flags, copies=variant.copies, **dict(variant.changes))
    options = plan_options(plan, RuleOptions(microbatches=bench.microbatches, update=False))
    if variant.method != "bp":
        options = replace(options, precision=default_precision(options))
    return RULES[plan_rule(plan)](bench.stages, options), options


def prepared(bench: Bench, variant: Variant, seed: int) -> Prepared:
    """Recorded and ready to run."""
    tasks, options = tasks_of(bench, variant)
    return prepare(bench.program, tasks, bench.batch, options, Settings(seed=seed))


def scheduled(jobs: Sequence[tuple[Variant, Prepared]], repeats: int) -> list[Scheduled]:
    """Each job on as many workers as its variant has, ordered by task times calibrated on this host."""
    found = []
    for variant, job in jobs:
        (costs,) = calibrate_all([job], units=variant.units, repeats=repeats)
        machine = machine_from(load_profile(HOST), variant.units)
        problem = calibrated_problem(job.job.graph, machine, job.job.options, costs)
        order = schedule(problem, "serial" if variant.units == 1 else variant.scheduler)
        found.append(Scheduled(job, problem, order))
    return found
