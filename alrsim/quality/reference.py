"""The true gradient, by autograd through the uncut module, and a few steps of BP to leave the initial state."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.func import functional_call

from alrsim.execution.executor import Batch
from alrsim.execution.kernels.losses import sample_losses
from alrsim.execution.programs.program import Program
from alrsim.progress import stretch

Parameters = Mapping[str, Tensor]


def true_gradient(module: nn.Module, parameters: Parameters, batch: Batch) -> tuple[float, dict[str, Tensor]]:
    """Mean loss of the batch, and its gradient by parameter name. The executor has no part in this."""
    leaves = {name: value.detach().clone().requires_grad_() for name, value in parameters.items()}
    loss = _mean_loss(module, leaves, batch)
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    gradients = {
        name: torch.zeros_like(leaf) if gradient is None else gradient
        for (name, leaf), gradient in zip(leaves.items(), found, strict=True)
    }
    return float(loss.detach()), gradients


def warm_start(
    module: nn.Module,
    program: Program,
    batches: Callable[[int], Batch],
    steps: int,
    *,
    rate: float = 1e-3,
) -> Program:
    """The program after ``steps`` of Adam with exact gradients; step ``i`` trains on ``batches(i)``.

    The module's own parameters stay as they are.
    """
    if not steps:
        return program
    leaves = {name: value.detach().clone().requires_grad_() for name, value in program.parameters.items()}
    optimizer = torch.optim.Adam(leaves.values(), lr=rate)
    with stretch(steps, "train") as advance:
        for step in range(steps):
            advance(f"step {step + 1}")
            optimizer.zero_grad(set_to_none=True)
            _mean_loss(module, leaves, batches(step)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return replace(program, parameters={name: leaf.detach() for name, leaf in leaves.items()})


def _mean_loss(module: nn.Module, parameters: Parameters, batch: Batch) -> Tensor:
    logits = functional_call(module, dict(parameters), batch.inputs)
    return sample_losses(logits, batch.targets).mean()
