"""Feedback alignment and the HSIC bottleneck as learners of ``train``; only the papers' tables need them."""

from collections.abc import Callable

from alrsim.errors import OptionError
from alrsim.execution.executor import Batch
from alrsim.execution.programs.program import Program
from alrsim.experiments.feedback import direct_feedback, sequential_feedback
from alrsim.experiments.hsic import bottleneck
from alrsim.experiments.staged import LocalRule, local_macs
from alrsim.graph.stages import StageGraph
from alrsim.training.job import TrainJob
from alrsim.training.learner import Cost, Maker, Method
from alrsim.training.methods import refuse_noise
from alrsim.training.place import Placement


def _local(make: Callable[[TrainJob, Program], LocalRule]) -> Maker:
    def build(
        job: TrainJob, program: Program, _stages: StageGraph, placement: Placement | None, _example: Batch
    ) -> Method:
        if placement is not None:
            raise OptionError(
                f"{job.method} has no task graph, so no schedule can run it", field="scheduler", fix="leave it out"
            )
        refuse_noise(job, f"{job.method} has no noise")
        step, once = local_macs(program)
        cost = Cost(1.0, step / max(once, 1))
        return Method(make(job, program), lambda _copies: cost, False)

    return build


fa = _local(lambda job, program: direct_feedback(program, job.microbatches, job.seed))
fa_sequential = _local(lambda job, program: sequential_feedback(program, job.microbatches, job.seed))
hsic = _local(lambda job, program: bottleneck(program, job.microbatches, job.learner_options))
