"""What a rule can be asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from alrsim.errors import OptionError
from alrsim.estimators.policy import Baseline, InputCode, NoiseCode, NoiseKind, NoiseScope, Reduction
from alrsim.graph.stages import MODEL_INPUT, Edge
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.rules.optimizers import Optimizer

__all__ = ["Baseline", "NoiseScope", "Optimizer", "Reduction", "RuleOptions", "is_coded"]


@dataclass(frozen=True)
class RuleOptions:
    """Options of every rule; BP rules ignore the LR ones.

    Attributes:
        microbatches: Micro-batches in a step.
        copies: LR: noise draws per sample (with ``antithetic``: pairs of them).
        group: LR: draws stacked in one task; ``None`` stacks all of them. Must divide ``copies``.
        baseline: LR: what is subtracted from a copy's loss.
        scope: LR: noise in all segments at once (``joint``) or one segment at a time with a shared clean prefix.
        reduction: LR: ``stack`` keeps state per copy until the loss is known and takes one product over all copies;
            ``accumulate`` regenerates or reads the noise once per group and adds it into the estimated cotangent.
        noise: LR: distribution; decides what drawing it costs.
        input_code: LR: how a stage's input is kept. A stage that reads the model's own input alone keeps it as it is
            (it carries no noise, so it is one tensor for all copies), except for ``sign``, which is the paper's ALR.
        noise_code: LR: ``sign`` as in ALR.
        weight_noise: ES: stages whose noise lies on their parameters instead of their output.
        stage_copies: Layer-wise: draws per sample of every stage, instead of ``copies`` for all; only those of stages
            that inject noise count.
        loss: Whether the loss is a task (L).
        loss_gradient: BP: whether the loss module's gradient is a task of its own (B of the loss stage).
        update: Whether parameter updates are tasks (U).
        loss_update: BP: whether the loss module has an update cell too (the paper's Figure 2 draws one).
        first_input_gradient: BP: stage 0 has an input gradient (textbook problems, PyTorch's schedules).
        optimizer: State kept per parameter.
        precision: Formats of parameters, activations, saved state and noise.
        segments: Rule ``segments``: first stage of every segment after the first, ascending; ``None`` elsewhere.
            The last segment reaches the loss (exact cotangent) if ``exact_head``.
        exact_head: Rule ``segments``: the last segment includes the loss, so its gradient is exact BP.
    """

    microbatches: int = 1
    copies: int = 1
    group: int | None = None
    baseline: Baseline = "clean"
    scope: NoiseScope = "joint"
    reduction: Reduction = "stack"
    noise: NoiseKind = "gauss"
    input_code: InputCode = "plain"
    noise_code: NoiseCode = "plain"
    weight_noise: tuple[int, ...] = ()
    stage_copies: tuple[int, ...] | None = None
    loss: bool = True
    loss_gradient: bool = False
    update: bool = True
    loss_update: bool = False
    first_input_gradient: bool = False
    optimizer: Optimizer = "sgd"
    precision: PrecisionPlan = field(default_factory=PrecisionPlan)
    segments: tuple[int, ...] | None = None
    exact_head: bool = True

    def __post_init__(self) -> None:
        if self.microbatches < 1:
            raise OptionError(f"microbatches is {self.microbatches}, must be at least 1", field="microbatches")
        self._check_copies()
        for what in ("parameters", "activations"):
            if (value := getattr(self.precision, what)) in (Precision.SIGN1, Precision.REGENERATED, Precision.INT4):
                raise OptionError(f"{what} cannot be {value}", field="precision", fix="use fp32, bf16, fp16 or int8")
        if self.precision.saved is Precision.REGENERATED:
            raise OptionError("saved state cannot be regenerated, only noise can", field="precision")

    def _check_copies(self) -> None:
        if self.stage_copies is not None and self.scope != "layerwise":
            raise OptionError(
                "with joint noise every copy carries the noise of all stages: they cannot have copies of their own",
                field="scope",
                fix="use `scope=layerwise`, or the same number of copies for all stages",
            )
        for copies in (self.copies,) if self.stage_copies is None else self.stage_copies:
            if copies < 1:
                raise OptionError(f"copies is {copies}, must be at least 1", field="copies")
            if self.group is not None and (self.group < 1 or copies % self.group):
                raise OptionError(
                    f"copy groups of {self.group} do not divide {copies} copies",
                    field="group",
                    fix=f"choose a divisor of {copies}",
                )
            if self.baseline == "copy-mean" and copies < 2:
                raise OptionError(
                    "baseline copy-mean needs at least 2 copies",
                    field="baseline",
                    fix="use clean or more copies",
                )

    def copies_of(self, stage: int) -> int:
        """Noise draws per sample (pairs, for antithetic) of a stage that injects noise.

        Raises:
            OptionError: ``stage_copies`` does not go so far.
        """
        if self.stage_copies is None:
            return self.copies
        if stage >= len(self.stage_copies):
            raise OptionError(
                f"copies are given for {len(self.stage_copies)} stages, but there is a stage {stage}",
                field="copies",
                fix="give a number for every stage",
            )
        return self.stage_copies[stage]

    @property
    def signs(self) -> bool:
        """Whether input or noise is kept as less than its value, as in ALR."""
        return self.input_code != "plain" or self.noise_code != "plain"

    def groups(self, copies: int) -> int:
        """Copy groups that so many draws (pairs, for antithetic) make."""
        return 1 if self.group is None else copies // self.group


def is_coded(options: RuleOptions, incoming: Sequence[Edge]) -> bool:
    """Whether a stage's input is kept as a code, in ``precision.saved``.

    A threshold or scaled-sign code leaves a stage that reads the model's own input alone as it is: that input carries
    no noise, so it is one tensor for all copies (of a linear map behind other operators, their result for one copy).

    Args:
        incoming: Edges that the stage reads.
    """
    if options.input_code in ("threshold", "sign-scaled") and all(edge.source == MODEL_INPUT for edge in incoming):
        return False
    return options.input_code != "plain" or options.precision.saved is not options.precision.activations
