"""Data movement: bytes but no FLOPs. A view (another shape for the same memory) moves nothing at all."""

from collections.abc import Iterable

from alrsim.cost.parts import CostFunction, Gradient, OpView, Parts
from alrsim.graph.graph import DIFFERENTIABLE, Graph, Op
from alrsim.graph.work import NO_WORK, Work

VIEWS = ("Flatten", "Identity", "Inject", "Reshape", "Squeeze", "Unsqueeze")
SHARING = (*VIEWS, "Slice", "Split", "Transpose")
LAYOUTS = (*VIEWS, "Cast", "CastLike", "Concat", "Expand", "Pad", "Slice", "Split", "Tile", "Transpose")


def view_only(view: OpView) -> Parts:
    """A new shape for the same memory: no work, forward or backward."""
    return Parts(NO_WORK, {0: Gradient(NO_WORK)})


def move(view: OpView) -> Parts:
    """Every output element is read from one place and written to another; the gradient moves it back.

    Where an element is used several times (``Expand``, ``Tile``, up-sampling), or is gathered from a larger tensor,
    the gradient adds it up: 1 FLOP per output element. Indices of several elements are kept, 64 bits each: two
    elements.
    """
    repeats = view.out_size > view.size(0) or view.op.kind in ("Gather", "GatherElements", "GatherND")
    flops = view.out_size if repeats and view.op.kind != "Pad" else 0
    weight = view.is_weight(0)
    read = min(view.size(0), view.out_size) if not repeats or view.op.kind == "Pad" else view.out_size
    forward = Work(
        param_reads=read if weight else 0,
        activation_reads=0 if weight else read,
        activation_writes=view.out_size,
        launches=1,
    )
    gradients = {0: view.gradient(0, elementwise=flops)} if view.is_float(0) else {}
    chosen = view.op.kind.startswith("Gather") and view.size(1) > 1
    return Parts(forward, gradients, kept=2 * view.size(1) if chosen else 0)


def aliases(graph: Graph, ops: Iterable[Op]) -> dict[str, str]:
    """The value whose memory each view, slice or transpose shares in PyTorch: keeping one keeps the other."""
    found: dict[str, str] = {}
    for op in ops:
        one = op.kind == "Gather" and graph.tensors[op.inputs[1]].elements == 1 and op.inputs[1] in graph.constants
        if one or op.kind in SHARING:
            found.update((value, op.inputs[0]) for value in op.outputs if value)
    return found


def join(view: OpView) -> Parts:
    """``Concat``: each input's gradient is its own slice of the output's."""
    sizes = [(view.size(position), view.is_weight(position)) for position in range(len(view.op.inputs))]
    works = (
        Work(
            activation_reads=size,
            param_writes=size if weight else 0,
            activation_writes=0 if weight else size,
            launches=1,
        )
        for size, weight in sizes
    )
    return Parts(view.forward(), {position: Gradient(work) for position, work in enumerate(works)})


def scatter(view: OpView) -> Parts:
    """``ScatterND``, ``ScatterElements``: a copy of the data with updates written (or added) into it."""
    added = view.text("reduction", "none") != "none"
    moved = view.size(2)
    gradients = {0: view.gradient(0), 2: view.gradient(2)}
    return Parts(view.forward(elementwise=moved if added else 0), gradients)


def interpolate(view: OpView) -> Parts:
    """``Resize``, ``Upsample``: nearest moves data; linear takes 2, cubic 4 products and sums per output and axis."""
    taps = {"nearest": 0, "linear": 2, "cubic": 4}.get(view.text("mode", "nearest"), 4)
    axes = sum(a != b for a, b in zip(view.shape(0), view.out, strict=True))
    flops = 2 * view.out_size * taps * axes
    gradient = view.gradient(0, elementwise=flops or view.out_size)
    return Parts(view.forward(elementwise=flops), {0: gradient})


_MOVES = [
    "Cast",
    "CastLike",
    "Compress",
    "ConstantOfShape",
    "DepthToSpace",
    "Expand",
    "Gather",
    "GatherElements",
    "GatherND",
    "Pad",
    "ReverseSequence",
    "Shape",
    "Size",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Tile",
    "Transpose",
]

MOVEMENT: dict[str, CostFunction] = {
    **dict.fromkeys((kind for kind in VIEWS if kind != "Inject"), view_only),
    **dict.fromkeys(_MOVES, move),
    "Concat": join,
    **dict.fromkeys(("ScatterElements", "ScatterND", "Scatter"), scatter),
    **dict.fromkeys(("Resize", "Upsample"), interpolate),
}


def black_box(view: OpView) -> Parts:
    """A user's custom operator: nobody knows its FLOPs, so that only what it reads and writes is counted.

    Where the operator says that it has a derivative, so does every real input, at the same price.
    """
    smooth = view.number(DIFFERENTIABLE, 0) == 1
    inputs = range(len(view.op.inputs)) if smooth else ()
    saves = tuple(value for value in view.op.inputs if value)
    gradients = {position: view.gradient(position, saves=saves) for position in inputs if view.is_float(position)}
    return Parts(view.forward(), gradients)


OWN: dict[str, CostFunction] = {"alrsim::Inject": view_only}
"""Operators of our own domain, by ``domain::kind``."""
