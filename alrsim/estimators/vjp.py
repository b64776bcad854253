"""Local vector-Jacobian products: from a cotangent on a stage's output to the gradients of its parameters."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Function = Callable[[Sequence[Tensor], Sequence[Tensor]], Sequence[Tensor]]


def local_vjp(
    function: Function,
    inputs: Sequence[Tensor],
    parameters: Sequence[Tensor],
    cotangents: Sequence[Tensor],
    wanted: Sequence[bool] = (),
) -> tuple[list[Tensor], list[Tensor | None]]:
    """Run ``function(inputs, parameters)`` again and pull the cotangents of its outputs back.

    Args:
        wanted: For each input, whether its gradient is wanted; default none.

    Returns:
        Gradients of the parameters and of the inputs; zeros where no derivative leads to them (spikes, whole numbers),
        ``None`` for inputs that are not wanted.
    """
    ask = list(wanted) or [False] * len(inputs)
    flags = [flag and value.is_floating_point() for value, flag in zip(inputs, ask, strict=True)]
    leaves = [value.detach().requires_grad_(flag) for value, flag in zip(inputs, flags, strict=True)]
    weights = [value.detach().requires_grad_() for value in parameters]
    with torch.enable_grad():
        outputs = function(leaves, weights)
    sources = [*weights, *(leaf for leaf, flag in zip(leaves, flags, strict=True) if flag)]
    # An output that passes a value through unchanged depends on none of the sources.
    pairs = [(output, signal) for output, signal in zip(outputs, cotangents, strict=True) if output.requires_grad]
    results, signals = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    pulled = torch.autograd.grad(results, sources, signals, allow_unused=True) if results else [None] * len(sources)
    found = iter(pulled)
    gradients = [_or_zeros(next(found), weight) for weight in weights]
    inward = [_or_zeros(next(found) if flag else None, leaf) for leaf, flag in zip(leaves, flags, strict=True)]
    return gradients, [gradient if flag else None for gradient, flag in zip(inward, ask, strict=True)]


def linear_vjp(value: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of ``W`` (out, in) and ``b`` (out,) of ``y = x W' + b``, from the input and cotangent alone."""
    rows, signal = value.reshape(-1, value.shape[-1]), cotangent.reshape(-1, cotangent.shape[-1])
    return signal.T @ rows, signal.sum(0)


def convolution_vjp(
    value: Tensor,
    cotangent: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> tuple[Tensor, Tensor]:
    """Gradients of a convolution's weight and bias, from its input and cotangent alone."""
    _, gradient, bias = torch.ops.aten.convolution_backward.default(
        cotangent,
        value,
        weight,
        [weight.shape[0]],
        list(stride),
        list(padding),
        list(dilation),
        False,
        [0] * len(stride),
        groups,
        [False, True, True],
    )
    return gradient, bias


def _or_zeros(gradient: Tensor | None, like: Tensor) -> Tensor:
    if gradient is not None:
        return gradient
    return torch.zeros_like(like, dtype=like.dtype if like.is_floating_point() else torch.get_default_dtype())
