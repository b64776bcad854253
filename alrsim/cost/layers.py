"""One stage per layer, such that as many stages as possible are a single linear map behind cheap operators.

A stage is ``[operators without parameters ..., convolution or matrix product]``: its output is the layer's
pre-activation, where the likelihood-ratio papers inject their noise. Normalisations and other operators with
parameters stay with the layer before them, trailing operators join the last stage. Where a value inside the leading
operators is also read elsewhere (the shortcut of a residual block), the operators up to it become a stage without
parameters, so that the layer behind them keeps one output. Operators up to a mark (``alrsim::inject``) stay with the
layer before it, whose noise it places.

The other cut turns the stages around: ``[layer, operators without parameters ...]``. Noise then lands behind the
activation, the pooling or the sum with a shortcut, where values are fewer (a sum belongs to the last layer before it),
and the gradient repeats the stage from its input.
"""

import itertools
from collections.abc import Collection

from alrsim.cost.injection_points import is_mark
from alrsim.cost.pieces import Atoms, prepares_weights
from alrsim.graph.graph import DIFFERENTIABLE, Graph, Op

LAYERS = ("Conv", "ConvTranspose", "Einsum", "GRU", "Gather", "Gemm", "LSTM", "MatMul", "RNN")
LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def cut_layers(graph: Graph, atoms: Atoms) -> list[int]:
    """First atom of every stage."""
    trained = [index for index, run in enumerate(atoms.runs) if any(_reads(op, atoms.roots) for op in run)]
    layers = [index for index in trained if any(_is_layer(op, atoms.roots) for op in atoms.runs[index])]
    starts = [0]
    for layer, following in itertools.pairwise(layers):
        marks = [index for index in range(layer, following) if any(is_mark(op) for op in atoms.runs[index])]
        starts.append(max(marks + [index for index in trained if layer <= index < following]) + 1)
    for start, layer in zip(tuple(starts), layers, strict=False):
        shared = _last_shared(graph, atoms, start, layer)
        if shared is not None:
            starts.append(shared + 1)
    return sorted({*starts, *_behind_parameters(atoms, starts, trained)})


def _behind_parameters(atoms: Atoms, starts: Collection[int], trained: Collection[int]) -> list[int]:
    """Where a stage ends in front of a black box without a derivative: behind the last parameter before it."""
    found: list[int] = []
    for index, run in enumerate(atoms.runs):
        start = max(other for other in (*starts, *found) if other <= index)
        before = [at for at in trained if start <= at < index]
        if before and any(op.attributes.get(DIFFERENTIABLE) == 0 for op in run):
            found.append(before[-1] + 1)
    return found


def cut_blocks(atoms: Atoms) -> list[int]:
    """First atom of every stage that begins with a layer; operators before the first layer join the first stage."""
    layers = [index for index, run in enumerate(atoms.runs) if any(_is_layer(op, atoms.roots) for op in run)]
    return [0, *layers[1:]]


def is_linear(ops: Collection[Op], roots: Collection[str], outputs: Collection[str]) -> Op | None:
    """The convolution or matrix product of a linear-map stage, ``None`` if it is not one.

    It is one if that operator (with its bias) is the only one that reads parameters, and the stage's only output is
    its output.

    Args:
        roots: Values that depend on parameters only.
        outputs: Values that the stage hands to others.
    """
    trained = [op for op in ops if _reads(op, roots) and not prepares_weights(op, roots)]
    if not trained or not _is_layer(trained[0], roots) or trained[0].kind not in LINEAR:
        return None
    first = trained[0]
    reads = [position for position, value in enumerate(first.inputs[:2]) if value in roots]
    end = first
    if len(trained) == 2 and trained[1].kind == "Add" and first.outputs[0] in trained[1].inputs:
        end = trained[1]
    elif len(trained) > 1:
        return None
    return first if len(reads) == 1 and set(outputs) == {end.outputs[0]} else None


def _reads(op: Op, roots: Collection[str]) -> bool:
    return any(value in roots for value in op.inputs)


def _is_layer(op: Op, roots: Collection[str]) -> bool:
    return op.kind in LAYERS and _reads(op, roots) and not prepares_weights(op, roots)


def _last_shared(graph: Graph, atoms: Atoms, start: int, layer: int) -> int | None:
    """The last atom in front of the layer with a value that is read behind the layer, too."""
    inside = {op.name for run in atoms.runs[start : layer + 1] for op in run}
    outside = {value for op in graph.ops if op.name not in inside for value in op.inputs} | set(graph.outputs)
    found = [
        index
        for index in range(start, layer)
        if any(value in outside for op in atoms.runs[index] for value in op.outputs)
    ]
    return found[-1] if found else None
