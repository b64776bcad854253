"""Custom torch operators (``torch.library.custom_op``) as ONNX nodes of their own domain.

ONNX knows nothing of them, so that the node carries what the rest of the program needs: the operator's name
(``quantise::ternary`` becomes a ``ternary`` of the domain ``quantise``), its plain arguments as attributes, and whether
it has a derivative. Its shapes come from the operator's own ``register_fake``.
"""

from collections.abc import Callable, Mapping
from typing import Any

import onnx_ir
import torch
from onnxscript import evaluator
from torch.export import ExportedProgram
from torch.fx import Node

from alrsim.frontend.inject import INJECT
from alrsim.graph.graph import DIFFERENTIABLE

_STANDARD = {"aten", "prim", "prims", "onnx", "onnx_symbolic", "torchvision", "quantized", "higher_order"}


def is_custom(node: Node) -> bool:
    """Whether a torch graph node calls an operator that torch itself does not define."""
    target = node.target
    return isinstance(target, torch._ops.OpOverload) and target.namespace not in _STANDARD


def is_differentiable(target: torch._ops.OpOverload) -> bool:
    """Whether a custom operator has a derivative (``register_autograd``)."""
    name = target._schema.name
    defined = torch._library.custom_ops.OPDEFS.get(name)
    if defined is not None:
        return defined._backward_fn is not None
    return torch._C._dispatch_has_kernel_for_dispatch_key(name, "Autograd")


def translations(program: ExportedProgram) -> dict[Any, Callable[..., Any]]:
    """An ONNX translation for every custom operator of a program, as ``custom_translation_table`` wants them."""
    targets = {node.target for node in program.graph.nodes if node.op == "call_function" and is_custom(node)}
    return {target: _translation(target) for target in targets}


def _translation(target: torch._ops.OpOverload) -> Callable[..., Any]:
    schema = target._schema
    domain, name = schema.name.split("::")
    kind = "Inject" if schema.name == INJECT else name
    arguments = [argument.name for argument in schema.arguments]

    def translate(*args: Any, **kwargs: Any) -> Any:
        given = {**dict(zip(arguments, args, strict=False)), **kwargs}
        inputs, plain = _divide(given)
        attributes = {**plain, DIFFERENTIABLE: int(is_differentiable(target))}
        node = onnx_ir.Node(
            domain,
            kind,
            inputs,
            onnx_ir.convenience.convert_attributes(attributes),
            num_outputs=len(schema.returns),
            version=1,
        )
        evaluator.default().nodes.append(node)  # type: ignore[attr-defined]  # the exporter's recorder
        return node.outputs[0] if len(node.outputs) == 1 else node.outputs

    return translate


def _divide(given: Mapping[str, Any]) -> tuple[list[onnx_ir.Value | None], dict[str, Any]]:
    """Tensors in order of appearance, and everything that fits in an ONNX attribute."""
    inputs: list[onnx_ir.Value | None] = []
    plain: dict[str, Any] = {}
    for name, value in given.items():
        items = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(item, onnx_ir.Value) for item in items):
            inputs.extend(items)
        elif isinstance(value, bool | int | float | str):
            plain[name] = int(value) if isinstance(value, bool) else value
        elif items and all(isinstance(item, int | float) for item in items) and isinstance(value, list | tuple):
            plain[name] = list(value)
    return inputs, plain
