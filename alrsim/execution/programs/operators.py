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

BATCH_NORM = "_native_batch_norm_legit_functional"
SIZED = frozenset({"view", "_unsafe_view", "reshape", "expand"})
"""Operators with a literal list of sizes, one of which holds the batch."""

FILLED = {
    "full": None,
    "zeros": 0,
    "ones": 1,
    "empty": 0,
    "new_full": None,
    "new_zeros": 0,
    "new_ones": 1,
    "new_empty": 0,
    "full_like": None,
    "zeros_like": 0,
    "ones_like": 1,
    "empty_like": 0,
}
"""Operators whose result depends on shapes only, with the value that they fill in (``None``: their second argument)."""

_NO_DROPOUT = {"scaled_dot_product_attention": 4, "dropout": 1, "native_dropout": 1}
"""Operators that are random only if this argument (a probability) is not 0."""

_CONVOLUTIONS = {"conv1d": 1, "conv2d": 2, "conv3d": 3}


def operator_name(node: Node) -> str:
    """``conv2d`` for ``aten.conv2d.default``; ``getitem`` for Python's own."""
    target = node.target
    packet = getattr(target, "overloadpacket", None)
    return str(packet.__name__) if packet is not None else str(getattr(target, "__name__", target))


def refuse_unsupported(nodes: Sequence[Node], model: str) -> None:
    """Raise if there are operators that the executor cannot run: those that would not give the same result twice, whose
    shapes depend on data, or that hold a graph of their own. Everything else runs as torch runs it.

    Raises:
        ExecutionError: names every such operator once, with the first module that it came from.
    """
    missing: dict[str, str] = {}
    for node in nodes:
        reason = _unsupported(node)
        if reason:
            place = f"first in {module_path(node) or 'the model itself'}, node {node.name}"
            missing.setdefault(str(node.target), f"{node.target} {reason} ({place})")
    if missing:
        what = "operator" if len(missing) == 1 else f"{len(missing)} operators"
        raise ExecutionError(
            f"{what} cannot be executed: {'; '.join(missing.values())}",
            where=model,
            fix="simulate this model, or replace the operators (dropout by p=0, control flow by torch.where)",
        )


def _unsupported(node: Node) -> str:
    """Why a node cannot run; empty if it can."""
    target, name = node.target, operator_name(node)
    if name == "getitem":
        return ""
    if not isinstance(target, torch._ops.OpOverload):
        return "is no plain operator"
    if torch.Tag.nondeterministic_seeded in target.tags and not _is_certain(node, name):
        return "is random: a forward could not be repeated"
    if torch.Tag.dynamic_output_shape in target.tags or torch.Tag.data_dependent_output in target.tags:
        return "has a shape that depends on data"
    return "writes over its input" if target._schema.is_mutable else ""


def _is_certain(node: Node, name: str) -> bool:
    """Whether a random operator's probability is 0."""
    if name not in _NO_DROPOUT:
        return False
    at = _NO_DROPOUT[name]
    default = 0.0 if name == "scaled_dot_product_attention" else 0.5
    return bool(node.kwargs.get("dropout_p", _argument(node.args, at, default)) == 0)


def is_filled(node: Node) -> bool:
    """Whether a node's value is one number everywhere, whatever its inputs hold."""
    return operator_name(node) in FILLED


def fill_value(node: Node) -> float | int | bool:
    """The number that fills the value of such a node."""
    value = FILLED[operator_name(node)]
    return node.args[1] if value is None else value  # type: ignore[return-value]


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
