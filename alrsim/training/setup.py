"""From a job to everything that its steps use: program, stages, data, learner."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from alrsim.cost.cut import cut_graph
from alrsim.cost.stages import build_stages
from alrsim.datasets import Splits, load_splits, train_batch, with_graph_of
from alrsim.errors import OptionError
from alrsim.execution.executor import Batch
from alrsim.execution.programs.program import Program, build_program
from alrsim.frontend.torch_export import export_model
from alrsim.frontend.torch_model import TorchModel
from alrsim.graph.graph import Graph
from alrsim.graph.stages import StageGraph
from alrsim.models import ZOO, build
from alrsim.training.auto import with_measured_plan
from alrsim.training.job import TrainJob
from alrsim.training.learner import CUTS, LEARNERS, Method
from alrsim.training.place import Placement


@dataclass(frozen=True)
class Training:
    """A job, ready to run; that of ``auto`` has its plan."""

    job: TrainJob
    model: TorchModel
    program: Program
    stages: StageGraph
    splits: Splits
    method: Method

    def batch(self, step: int) -> Batch:
        """The samples of a step: a function of the seed and the step alone."""
        samples = train_batch(self.splits, self.job.batch, step, self.job.seed)
        return Batch(samples.inputs, samples.labels)


def open_training(
    job: TrainJob,
    *,
    placement: Placement | None = None,
    model: TorchModel | None = None,
    splits: Splits | None = None,
) -> Training:
    """Load, export, cut and prepare.

    Args:
        model: Default: the zoo's, by the job's name and options.
        splits: Default: the job's data; the model must hold their graph, if they have one.

    Raises:
        OptionError, ModelError, FileError, ExecutionError: whatever does not fit together.
    """
    if job.method not in LEARNERS:
        raise OptionError(f"there is no method {job.method!r}", field="method", fix=f"one of {', '.join(LEARNERS)}")
    model = model or build(job.model, **job.model_options)
    if splits is None:
        folder = None if job.data_folder is None else Path(job.data_folder)
        model = with_graph_of(job.data, model, folder)
        splits = load_splits(job.data, model, folder=folder)
    samples = train_batch(splits, job.batch, 0, job.seed)
    example = Batch(samples.inputs, samples.labels)
    if job.method == "auto" and job.plan is None:
        job = with_measured_plan(job, model, example)
    exported = export_model(model, job.batch // job.microbatches)
    stages = build_stages(exported.graph, cut_graph(exported.graph, job.cut))
    if job.plan is not None and len(job.plan) != len(stages.stages):
        _refuse_cut(job, exported.graph, len(stages.stages), len(job.plan))
    program = build_program(exported.graph, exported.program, stages)
    method = LEARNERS[job.method](job, program, stages, placement, example)
    return Training(job, model, program, stages, splits, method)


def _refuse_cut(job: TrainJob, graph: Graph, stages: int, wanted: int) -> NoReturn:
    """Say which cut would fit the plan, where one of the usual ones does."""
    usual = ("layer", "block", "operator", "module", "module:2", "module:3")
    fitting = [
        cut for cut in usual if cut != job.cut and len(build_stages(graph, cut_graph(graph, cut)).stages) == wanted
    ]
    known = f"{' or '.join(f'`cut={cut}`' for cut in fitting)} has {wanted}" if fitting else "no usual cut has so many"
    raise OptionError(
        f"the plan has {wanted} stages, cut {job.cut} of {job.model} has {stages}",
        field="plan",
        fix=f"give the `cut` that the plan was made with: {known}",
    )


def default_cut(method: str, placement: Placement | None) -> str:
    """Where a method's noise goes by default; BP has as many stages as its scheduler wants."""
    if method == "bp" and placement is not None and placement.stages is not None:
        return f"balanced:{placement.stages}"
    return CUTS.get(method, "layer")


def with_model_seed(job: TrainJob, given: Mapping[str, str]) -> TrainJob:
    """The job whose zoo model draws its first parameters from the job's seed, unless the model was given its own."""
    if job.model in ZOO and "seed" in ZOO[job.model].options and "seed" not in given:
        return replace(job, model_options={**given, "seed": str(job.seed)})
    return job
