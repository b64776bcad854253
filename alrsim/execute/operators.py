"""The torch operators that the executor runs, and what it must know of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from alrsim.errors import ExecutionError
from alrsim.estimators.vjp import convolution_vjp, linear_vjp
from alrsim.frontend.fx_map import module_path

_NAMES = """
conv1d conv2d conv3d convolution linear addmm mm matmul
_native_batch_norm_legit_functional _native_batch_norm_legit_no_training batch_norm group_norm native_group_norm
layer_norm native_layer_norm instance_norm
relu leaky_relu elu gelu silu sigmoid tanh hardtanh hardswish hardsigmoid softplus relu6 mish softmax _softmax
log_softmax _log_softmax
max_pool1d max_pool2d max_pool3d max_pool2d_with_indices avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d
adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d mean
view _unsafe_view reshape flatten squeeze unsqueeze permute transpose t expand clone alias contiguous
constant_pad_nd pad cat
add sub mul div neg getitem
"""
SUPPORTED = frozenset(_NAMES.split())
"""Operator names (without overload) of the linear, conv, norm, activation, pool, reshape and residual families."""

BATCH_NORM = "_native_batch_norm_legit_functional"
SIZED = frozenset({"view", "_unsafe_view", "reshape", "expand"})
"""Operators with a literal list of sizes, whose leading one is the batch."""

_CONVOLUTIONS = {"conv1d": 1, "conv2d": 2, "conv3d": 3}


def operator_name(node: Node) -> str:
    """``conv2d`` for ``aten.conv2d.default``; ``getitem`` for Python's own."""
    target = node.target
    packet = getattr(target, "overloadpacket", None)
    return str(packet.__name__) if packet is not None else str(getattr(target, "__name__", target))


def refuse_unsupported(nodes: Sequence[Node], model: str) -> None:
    """Raise if there are operators that have no kernel here.

    Raises:
        ExecutionError: names every such operator once, with the first module that it came from.
    """
    missing: dict[str, str] = {}
    for node in nodes:
        if operator_name(node) not in SUPPORTED:
            missing.setdefault(str(node.target), f"{module_path(node) or 'the model itself'}, node {node.name}")
    if missing:
        named = "; ".join(f"{operator} (first in {place})" for operator, place in missing.items())
        what = "operator" if len(missing) == 1 else f"{len(missing)} operators"
        raise ExecutionError(
            f"{what} cannot be executed: {named}",
            where=model,
            fix="simulate this model, or execute one of linear, conv, norm, activation, pool, reshape and residual "
            "operators",
        )


@dataclass(frozen=True, slots=True)
class LinearMap:
    """A stage that ends in its only parametrised operator, a convolution or a matrix product.

    Attributes:
        value: The value that the operator multiplies (a node's name).
        weight: Name of its weight.
        bias: Name of its bias, if any.
        convolution: Stride, padding, dilation and groups; ``None`` for a matrix product.
    """

    value: str
    weight: str
    bias: str | None
    convolution: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int] | None = None

    def gradients(self, value: Tensor, cotangent: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """Gradients by parameter name, from the operator's input and output cotangent alone."""
        if self.convolution is None:
            first, second = linear_vjp(value, cotangent)
        else:
            first, second = convolution_vjp(value, cotangent, weight, *self.convolution)
        return {self.weight: first} if self.bias is None else {self.weight: first, self.bias: second}


def linear_map(node: Node, parameters: dict[Node, str]) -> LinearMap | None:
    """The linear map that a node computes, or ``None`` if the direct product does not know its form."""
    name, args = operator_name(node), node.args
    dims = _CONVOLUTIONS.get(name)
    if dims is None and name != "linear":
        return None
    value, weight, bias = args[0], args[1], args[2] if len(args) > 2 else None
    if not isinstance(value, Node) or weight not in parameters or (bias is not None and bias not in parameters):
        return None
    found_bias = None if bias is None else parameters[bias]  # type: ignore[index]
    if dims is None:
        return LinearMap(value.name, parameters[weight], found_bias)  # type: ignore[index]
    stride, padding, dilation = (
        _spread(_argument(args, at, default), dims) for at, default in ((3, 1), (4, 0), (5, 1))
    )
    if stride is None or padding is None or dilation is None:
        return None
    groups = _argument(args, 6, 1)
    return LinearMap(value.name, parameters[weight], found_bias, (stride, padding, dilation, groups))  # type: ignore[index]


def batch_momentum(node: Node) -> float:
    """Momentum of a training-mode batch norm node."""
    return float(node.args[6])  # type: ignore[arg-type]


def aten(name: str) -> Any:
    """``torch.ops.aten.<name>``, for tests and scripts."""
    return getattr(torch.ops.aten, name)


def _argument(args: Sequence[Any], at: int, default: Any) -> Any:
    return args[at] if len(args) > at else default


def _spread(value: Any, dims: int) -> tuple[int, ...] | None:
    if isinstance(value, int):
        return (value,) * dims
    if isinstance(value, str):
        return None
    items = tuple(value)
    return items * dims if len(items) == 1 else items
