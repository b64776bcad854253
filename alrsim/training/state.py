"""What changes while training."""

from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from alrsim.estimators.monitor import NOTHING, SplitHalf
from alrsim.training.log import Row


@dataclass
class TrainState:
    """Everything that a step reads and changes; a checkpoint holds all of it.

    Attributes:
        step: Optimizer steps done.
        parameters: Leaves that the optimizer changes in place.
        forwards: So far, per sample of a batch.
        work: So far, in F.
        seconds: Spent in steps so far.
        loss_sum: Sum over the steps since the last row of the batch's mean loss.
        copies: Of the next step.
        split: Running mean of the monitor's inner products.
        cosine: By that mean.
        measured: Monitored steps since the number of copies changed.
        decisions: What the monitor decided, in words.
        log_sigma: ``(stages,)``: learned scales of the noise, in their logarithm, so that they stay positive.
    """

    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]
    optimizer: Optimizer
    scheduler: LRScheduler
    copies: int
    step: int = 0
    rows: list[Row] = field(default_factory=list)
    forwards: float = 0.0
    work: float = 0.0
    seconds: float = 0.0
    loss_sum: float = 0.0
    loss_count: int = 0
    split: SplitHalf = NOTHING
    cosine: float | None = None
    measured: int = 0
    decisions: list[str] = field(default_factory=list)
    log_sigma: Tensor | None = None
    sigma_optimizer: Optimizer | None = None

    @property
    def sigma(self) -> tuple[float, ...] | None:
        """Noise scale of every stage, where they are learned; else ``None``: they stay as they began."""
        return None if self.log_sigma is None else tuple(self.log_sigma.exp().tolist())


def weights_of(module: nn.Module, state: TrainState) -> dict[str, Tensor]:
    """Trained parameters and buffers by the names that ``module.state_dict()`` has; tied ones under each of theirs."""
    trained = {**state.parameters, **state.buffers}
    named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    same = {id(value): trained[name] for name, value in named if name in trained}
    known = module.state_dict()
    return {name: same.get(id(value), value).detach().clone() for name, value in named if name in known}
