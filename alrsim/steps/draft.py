"""Drafts: a method with its stages and tasks on a workload, before they have prices."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from alrsim.graph.stages import StageGraph
from alrsim.hardware.machine import Machine
from alrsim.hardware.precision import Precision
from alrsim.rules.options import RuleOptions
from alrsim.steps.chain import (
    build_tasks,
    cut_for,
    rule_options,
    trainable,
    usual_format,
)
from alrsim.steps.method import Method
from alrsim.steps.model import Model, SizedModel
from alrsim.steps.options import StepOptions, TaskOptions
from alrsim.steps.pricing import Priced, price_tasks
from alrsim.tasks.taskgraph import TaskGraph
from alrsim.warning import warn

BATCH_STATISTICS = ("BatchNormalization",)


@dataclass(frozen=True)
class Workload:
    """What all methods of a comparison share.

    Attributes:
        asked: The options of the step, checked.
    """

    model: Model
    machine: Machine
    asked: StepOptions

    @cached_property
    def sized(self) -> SizedModel:
        """The model at the size of one micro-batch."""
        return self.model.at(self.asked.batch, self.asked.microbatches)

    @property
    def samples(self) -> int:
        """Samples of the whole batch; 0 if the model's file does not tell."""
        return self.sized.samples * self.asked.microbatches


def workload(model: Model, machine: Machine, asked: StepOptions) -> Workload:
    """The model at the size that is asked for, on a machine."""
    warn_format(machine, asked)
    work = Workload(model, machine, asked)
    _ = work.sized  # what cannot be read is refused here
    return work


def warn_format(machine: Machine, asked: TaskOptions) -> None:
    """Say which format is taken where nobody chose one and the machine does not compute in fp32."""
    if asked.precision is None and (usual := usual_format(machine)) is not Precision.FP32:
        warn(f"{machine.name} does not compute in fp32: {usual.value} is taken; choose by `precision`")


@dataclass(frozen=True)
class Draft:
    """A method with its stages and tasks, before they have prices.

    Attributes:
        options: Of the method's rule.
    """

    work: Workload
    method: Method
    stages: StageGraph
    options: RuleOptions

    @cached_property
    def tasks(self) -> TaskGraph:
        """All tasks of the step under the method's rule."""
        return build_tasks(self.stages, self.method.rule, self.options)


def draft_step(work: Workload, method: Method) -> Draft:
    """Cut the model and settle the options of a method's rule.

    Raises:
        OptionError: options that contradict each other, or an impossible cut.
    """
    rule_options(work.asked, method, machine=work.machine)  # refuse what makes no sense before anything slow
    stages = cut_for(work.sized.graph, method, work.asked, work.machine)
    return Draft(work, method, stages, rule_options(work.asked, method, trainable(stages), work.machine))


def price_draft(draft: Draft, cost: str | None = None) -> Priced:
    """The draft's tasks with their durations.

    Args:
        cost: The cost model; default: what the workload asks for.
    """
    return price_tasks(
        draft.tasks,
        draft.work.machine,
        stages=draft.stages,
        rule=draft.method.rule,
        options=draft.options,
        cost=cost or draft.work.asked.cost,
    )


def about_of(work: Workload) -> dict[str, str]:
    """Model and hardware, by name."""
    return {"model": work.model.name, "hardware": work.machine.name}


def warn_batch_statistics(work: Workload, methods: Sequence[Method]) -> None:
    """LR copies that share a BatchNorm's statistics are not independent; say so once."""
    normed = any(op.kind in BATCH_STATISTICS for op in work.sized.graph.ops)
    if normed and any(method.is_lr for method in methods):
        warn("the model has batch normalisation, which mixes LR's copies; for LR use `option=norm=group` (or none)")
