"""From a job to everything that its steps use: program, stages, data, learner."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from alrsim.datasets import Splits, load_splits, train_batch
from alrsim.errors import OptionError
from alrsim.execution.executor import Batch
from alrsim.execution.programs.program import Program
from alrsim.frontend.torch_model import TorchModel
from alrsim.graph.graph import Graph
from alrsim.graph.stages import StageGraph
from alrsim.models import ZOO
from alrsim.quality.data import Fed, feed
from alrsim.quality.options import DataOptions
from alrsim.showing import load_attribute
from alrsim.steps.model import Model, cut_stages, load_model
from alrsim.training.auto import with_measured_plan
from alrsim.training.job import TrainJob
from alrsim.training.learner import Maker, Method
from alrsim.training.place import Placement
from alrsim.training.table import learner_entry


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


def open_training(job: TrainJob, *, placement: Placement | None = None, fed: Fed | None = None) -> Training:
    """Load, export, cut and prepare.

    Args:
        placement: Where its tasks run; ``None``: in sequence.
        fed: The model on its data; default: as the job names them.

    Raises:
        OptionError, ModelError, FileError, ExecutionError: whatever does not fit together.
    """
    entry = learner_entry(job.method)
    fed = fed or feed_job(job)
    assert fed.splits is not None
    example = fed.batch(job.batch, 0, job.seed)
    if job.open:
        job = with_measured_plan(job, fed.model, example)
    sized = fed.model.at(job.batch, job.microbatches)
    stages = cut_stages(sized.graph, job.cut)
    if job.plan is not None and len(job.plan) != len(stages.stages):
        _refuse_cut(job, sized.graph, len(stages.stages), len(job.plan))
    program = fed.model.program(sized, stages)
    make: Maker = load_attribute(entry.make)
    method = make(job, program, stages, placement, example)
    return Training(job, fed.torch_model, program, stages, fed.splits, method)


def feed_job(job: TrainJob, model: Model | None = None, data: object = None) -> Fed:
    """A job's model with all samples of its data.

    Args:
        model: Default: by the job's name and options.
        data: Arrays in memory; ``None``: the data set that the job names.

    Raises:
        OptionError, ModelError, FileError: what cannot be loaded, or does not fit.
    """
    folder = None if job.data_folder is None else Path(job.data_folder)
    model = model or load_model(job.model, option=job.model_options)
    fed = feed(model, data, DataOptions(dataset=job.data or None, data_folder=folder))
    if fed.splits is not None:
        return fed
    return replace(fed, splits=load_splits(fed.dataset, fed.torch_model, folder=folder))


def _refuse_cut(job: TrainJob, graph: Graph, stages: int, wanted: int) -> NoReturn:
    """Say which cut would fit the plan, where one of the usual ones does."""
    usual = ("layer", "block", "operator", "module", "module:2", "module:3")
    fitting = [cut for cut in usual if cut != job.cut and len(cut_stages(graph, cut).stages) == wanted]
    known = f"{' or '.join(f'`cut={cut}`' for cut in fitting)} has {wanted}" if fitting else "no usual cut has so many"
    raise OptionError(
        f"there are estimators for {wanted} stages, cut {job.cut} of {job.model} has {stages}",
        field="estimators",
        fix=f"give the `cut` that they were made with: {known}",
    )


def default_cut(method: str, placement: Placement | None) -> str:
    """Where a method's noise goes by default; BP has as many stages as its scheduler wants."""
    if method == "bp" and placement is not None and placement.stages is not None:
        return f"balanced:{placement.stages}"
    return learner_entry(method).cut


def with_model_seed(job: TrainJob, given: Mapping[str, str]) -> TrainJob:
    """The job whose zoo model draws its first parameters from the job's seed, unless the model was given its own."""
    if job.model in ZOO and "seed" in ZOO[job.model].options and "seed" not in given:
        return replace(job, model_options={**given, "seed": str(job.seed)})
    return job
