"""What a run computes: the program, the task graph and the estimator's options, with everything derived from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from alrsim.errors import ExecutionError
from alrsim.estimators.policy import Mask, Plan, WeightCode
from alrsim.execution.kernels.products import StageProduct, stage_products
from alrsim.execution.kernels.store import Store
from alrsim.execution.programs.derivatives import refuse_without_derivative
from alrsim.execution.programs.operators import LinearMap
from alrsim.execution.programs.program import Program
from alrsim.graph.stages import MODEL_INPUT
from alrsim.hardware.precision import Precision
from alrsim.rules.instances import Instance, Instances, forward_instances, keeps_state
from alrsim.rules.optimizers import OPTIMIZERS, Optimizer
from alrsim.rules.options import RuleOptions, is_coded
from alrsim.rules.segmentation import Segmentation, segmentation_of, settle_options
from alrsim.tasks.taskgraph import TaskGraph
from alrsim.tasks.token import NONE, TaskId


@dataclass(frozen=True)
class Settings:
    """Numbers that a task graph does not hold.

    Attributes:
        sigma: Standard deviation of the noise (absolute; 1-5 % of the standard deviation of the values is usual): one
            for all stages, or one per stage.
        seed: Of the noise.
        step: Optimisation step; every step has noise of its own.
        learning_rate: Of the update, which changes a copy of the parameters.
        weight_code: Format of the loss weights in the gradient product.
        sigma_gradient: Estimate the gradient with respect to log sigma of every stage, too.
        mask: ``reach``: weigh a noise element with the losses that it can influence only (models that classify
            positions; see :mod:`alrsim.execution.programs.receptive_field`).
    """

    sigma: float | tuple[float, ...] = 0.02
    seed: int = 0
    step: int = 0
    learning_rate: float = 0.01
    weight_code: WeightCode = "fp32"
    sigma_gradient: bool = False
    mask: Mask = "none"

    def sigma_of(self, stage: int) -> float:
        return self.sigma[stage] if isinstance(self.sigma, tuple) else self.sigma

    def __post_init__(self) -> None:
        if not all(value > 0 for value in (self.sigma if isinstance(self.sigma, tuple) else (self.sigma,))):
            raise ExecutionError(f"sigma is {self.sigma}, must be positive", field="sigma")


def settings_of(plan: Plan, *, seed: int = 0, step: int = 0, sigmas: Sequence[float] | None = None) -> Settings:
    """The numbers of a plan.

    Args:
        sigmas: One per stage, for sigma rules other than ``fixed``: what the rule makes of the plan's numbers (see
            :mod:`alrsim.execution.kernels.noise_scales`), or what training has learned.

    Raises:
        ExecutionError: a relative or balanced sigma without ``sigmas``, or stages with loss weights of several formats.
    """
    open_ = [one.sigma_rule for one in plan if one.kind != "bp" and one.sigma_rule in ("relative", "balanced")]
    if open_ and sigmas is None:
        raise ExecutionError(
            f"a {open_[0]} sigma is a number only with data", field="sigma_rule", fix="give the sigmas of the data"
        )
    codes = sorted({one.weight_code for one in plan if one.kind != "bp"})
    if len(codes) > 1:
        raise ExecutionError(
            f"stages have loss weights in {' and '.join(codes)}, but share their losses",
            where="estimators",
            fix="give all stages one weight_code",
        )
    found = tuple(one.sigma for one in plan) if sigmas is None else tuple(sigmas)
    return Settings(
        sigma=found[0] if len(set(found)) == 1 else found,
        seed=seed,
        step=step,
        weight_code=codes[0] if codes else "fp32",
        sigma_gradient=any(one.kind != "bp" and one.sigma_rule == "learned" for one in plan),
    )


@dataclass(frozen=True)
class Job:
    """A program with a task graph.

    Raises (from :func:`build_job`):
        ExecutionError: what the executor cannot do: formats, a missing loss, batch norm under LR.
    """

    program: Program
    graph: TaskGraph
    options: RuleOptions
    settings: Settings
    segmentation: Segmentation
    instances: Instances
    by_group: Mapping[int, Instance]
    first_reader: Mapping[int, int]
    """Layer-wise noise: the first stage that reads a noised stage's leaving values; it stores the noise."""
    tokens: frozenset[TaskId] = field(repr=False)
    products: Mapping[int, StageProduct] = field(default_factory=dict)
    """Stages whose gradient multiplies codes as they are stored."""
    receptive_fields: Mapping[int, tuple[Tensor, ...]] = field(default_factory=dict, repr=False)
    """With a mask: which losses every noised value can influence, ``(positions, loss positions)``."""

    @property
    def loss_stage(self) -> int:
        return self.graph.stages

    @property
    def samples(self) -> int:
        """Samples in the step."""
        return self.program.batch * self.options.microbatches

    def exits(self, stage: int) -> bool:
        """Whether noise is added to the stage's values: leaving ones, or points inside it."""
        return self.segmentation.exits(stage)

    def leaves(self, stage: int) -> bool:
        """Whether noise is added to the stage's leaving values."""
        return self.segmentation.exits(stage) and not self.segmentation.inside(stage)

    def wanted(self, stage: int, source: int) -> bool:
        """Whether the gradient of a value from ``source`` is computed by the stage."""
        if source == MODEL_INPUT:
            return self.options.first_input_gradient
        return self.segmentation.joined(source, stage) and self.segmentation.trainable[source]

    def state_of(self, id_: TaskId) -> Instance:
        """The forward from whose state a gradient task is computed."""
        clean = self.instances.clean
        alone = self.segmentation.is_exact(id_.stage) or id_.group == NONE or self.options.scope == "layerwise"
        if clean is not None and alone:
            return clean
        return self.by_group[id_.group]

    def draws_for(self, stage: int) -> int:
        """Draws per sample of a stage's noise, over all copy groups."""
        return self.instances.draws(self.segmentation.segment[stage])

    def direct_map(self, stage: int) -> LinearMap | None:
        """The stage's linear map, if its gradient is one product and no input gradient is wanted."""
        inner = self.segmentation.passes[stage] or self.segmentation.inside(stage)
        return None if inner else self.program.at(1)[stage].direct

    def shares_input(self, stage: int) -> bool:
        """Whether a linear map multiplies the model's own input, which is one tensor for all copies, as it is."""
        incoming, edges = self.program.stages.incoming(stage), self.program.stages.outgoing(stage)
        alone = all(edge.source == MODEL_INPUT for edge in incoming)
        joined = any(self.segmentation.joined(stage, edge.target) for edge in edges)
        plain = self.options.input_code == "plain" or is_coded(self.options, incoming)
        return alone and not joined and not plain and self.direct_map(stage) is not None

    def is_unsigned(self, stage: int, one: Instance) -> bool:
        """Whether what the stage's gradient keeps cannot be negative: noise on its inputs makes them signed."""
        info = self.program.stages.stages[stage]
        return info.lr_unsigned_noisy if one.noisy else info.lr_unsigned

    def keeps(self, stage: int, one: Instance) -> bool:
        """Whether the stage's gradient is computed from the state of this forward."""
        return keeps_state(self.segmentation, self.options, stage, one)


@dataclass
class Run:
    """One execution of a job: its data, and the copy of the parameters that updates write.

    Updates leave ``parameters`` alone, so that runs can be repeated, and so that no forward of another copy group can
    see the weights of the next step, whatever the schedule.
    """

    job: Job
    store: Store
    targets: Sequence[Tensor]
    parameters: dict[str, Tensor]
    updated: dict[str, Tensor]
    buffers: dict[str, Tensor]
    optimizer: dict[str, list[Tensor]]


def build_job(program: Program, graph: TaskGraph, options: RuleOptions, settings: Settings) -> Job:
    """Derive what the kernels need to know.

    Raises:
        ExecutionError: if the executor cannot carry out these options.
    """
    rule = graph.rule.split(maxsplit=1)[0]
    count = len(program.stages.stages)
    if graph.stages != count or graph.microbatches != options.microbatches:
        raise ExecutionError(
            f"the tasks have {graph.stages} stages and {graph.microbatches} micro-batches, the program and options "
            f"{count} and {options.microbatches}",
            where=program.name,
        )
    segmentation = segmentation_of(rule, program.stages, options)
    options = settle_options(options, segmentation)
    _refuse(program, options, segmentation)
    instances = forward_instances(program.stages, segmentation, options)
    readers: dict[int, int] = {}
    for edge in program.stages.edges:
        if edge.source != MODEL_INPUT and not segmentation.joined(edge.source, edge.target):
            readers[edge.source] = min(edge.target, readers.get(edge.source, edge.target))
    return Job(
        program,
        graph,
        options,
        settings,
        segmentation,
        instances,
        {one.group: one for one in instances.ordered},
        readers,
        frozenset(graph.index),
        # A kernel takes one weight per sample; with a mask every position has its own.
        stage_products(program, options, segmentation, instances) if settings.mask == "none" else {},
    )


def _refuse(program: Program, options: RuleOptions, segmentation: Segmentation) -> None:
    plan = options.precision
    for what, value in (("parameters", plan.parameters), ("activations", plan.activations)):
        if value is not Precision.FP32:
            raise ExecutionError(
                f"{what} in {value} cannot be executed", field="precision", fix="use fp32, or simulate only"
            )
    refuse_without_derivative(program, options, segmentation)
    if not segmentation.has_lr:
        return
    if not options.loss:
        raise ExecutionError("LR gradients need the loss tasks", field="loss", fix="leave the loss on")
    if program.batch_statistics:
        raise ExecutionError(
            "batch norm in training mode mixes the samples of a batch, so the noise of one sample changes the losses "
            "of the others and a per-sample LR gradient is wrong",
            where=f"{program.name}, module {program.batch_statistics[0]}",
            fix="build the model with norm=group or norm=none",
        )


def optimizer_state(parameters: Mapping[str, Tensor], optimizer: Optimizer) -> dict[str, list[Tensor]]:
    """Zero optimizer state."""
    count = OPTIMIZERS[optimizer].states
    return {
        name: [torch.zeros_like(value, requires_grad=False) for _ in range(count)] for name, value in parameters.items()
    }
