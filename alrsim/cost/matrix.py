"""Matrix products and convolutions: the operators that are counted in multiply-accumulates (MACs).

Every one is a sum of products over an index space, and so are its two gradients, over the same index space: each has
as many MACs as the forward pass. Padding counts as if it were data, as in the published counts and in PyTorch's.
"""

from math import prod

from alrsim.cost.parts import CostFunction, Gradient, OpView, Parts
from alrsim.errors import ModelError


def convolution(view: OpView) -> Parts:
    """``Conv``: weights ``(out, in/group, *kernel)``; MACs = output elements x ``in/group`` x kernel elements."""
    return _product(view, view.out_size * prod(view.shape(1)[1:]))


def transposed_convolution(view: OpView) -> Parts:
    """``ConvTranspose``: weights ``(in, out/group, *kernel)``; MACs = inputs x ``out/group`` x kernel."""
    return _product(view, view.size(0) * prod(view.shape(1)[1:]))


def _product(view: OpView, macs: int, scaled: int = 0, folded: tuple[int, int] = (0, 0)) -> Parts:
    """A product of the first two inputs, and a third one that is added to it where it is there.

    Args:
        scaled: Further FLOPs per element of the result.
        folded: Additions that sum the gradients of the two over broadcast dimensions.
    """
    a, b = view.op.inputs[:2]
    gradients = {
        0: view.gradient(0, macs=macs, saves=(b,), elementwise=folded[0]),
        1: view.gradient(1, macs=macs, saves=(a,), elementwise=folded[1]),
    }
    if view.has(2):
        gradients[2] = view.gradient(2, elementwise=view.out_size)
    return Parts(view.forward(macs=macs, elementwise=view.out_size * (view.has(2) + scaled)), gradients)


def gemm(view: OpView) -> Parts:
    """``Gemm``: ``alpha A B + beta C``; MACs = M N K. Scales other than 1 and the addend count 1 FLOP per element."""
    rows = view.shape(0)
    macs = view.out_size * (rows[0] if view.number("transA", 0) else rows[1])
    return _product(view, macs, sum(view.number(name, 1.0) != 1.0 for name in ("alpha", "beta")))


def matmul(view: OpView) -> Parts:
    """``MatMul`` with numpy's broadcasting: MACs = output elements x contracted length."""
    return _product(view, view.out_size * view.shape(0)[-1], folded=(_folded_sum(view, 0), _folded_sum(view, 1)))


def _folded_sum(view: OpView, position: int) -> int:
    """Additions that sum a batched operand's gradient over broadcast dimensions; a plain matrix folds them into K."""
    own = view.shape(position)
    if len(own) <= 2:
        return 0
    batch = prod(view.out[:-2])
    return (batch - prod(own[:-2])) * prod(own[-2:])


def einsum(view: OpView) -> Parts:
    """``Einsum`` of one or two operands.

    Two operands that share a contracted index: MACs = product of all index sizes, after indices that only one operand
    has and nobody keeps are summed. Otherwise it is element-wise: 1 FLOP per point of the index space.

    Raises:
        ModelError: more than two operands, or an ellipsis.
    """
    inputs, output = _equation(view)
    sizes: dict[str, int] = {}
    for position, indices in enumerate(inputs):
        sizes.update(zip(indices, view.shape(position), strict=True))
    names = [view.op.inputs[position] for position in range(len(inputs))]
    if len(inputs) == 1:
        gradient = view.gradient(0, elementwise=view.size(0))
        return Parts(view.forward(elementwise=view.size(0) - view.out_size), {0: gradient})
    first, second = inputs
    lonely = [
        (position, index)
        for position, (own, other) in enumerate(((first, second), (second, first)))
        for index in own
        if index not in other and index not in output
    ]
    presummed = sum(view.size(position) for position in {position for position, _ in lonely})
    space = prod(size for index, size in sizes.items() if index not in {index for _, index in lonely})
    contracted = any(index in second and index not in output for index in first)
    gradients: dict[int, Gradient] = {}
    for position in (0, 1):
        spread = view.size(position) if any(where == position for where, _ in lonely) else 0
        gradients[position] = view.gradient(
            position,
            macs=space if contracted else 0,
            elementwise=spread + (0 if contracted else space),
            saves=(names[1 - position],),
        )
    work = view.forward(macs=space if contracted else 0, elementwise=presummed + (0 if contracted else space))
    return Parts(work, gradients)


def _equation(view: OpView) -> tuple[list[str], str]:
    equation = view.text("equation").replace(" ", "")
    left, arrow, output = equation.partition("->")
    inputs = left.split(",")
    if "." in equation or len(inputs) > 2 or any(len(set(indices)) != len(indices) for indices in inputs):
        raise ModelError(
            f"Einsum {equation!r} is not one or two operands with distinct plain indices",
            where=view.op.name,
            fix="split it into products of two",
        )
    if not arrow:
        joined = "".join(inputs)
        output = "".join(sorted(index for index in set(joined) if joined.count(index) == 1))
    return inputs, output


MATRIX: dict[str, CostFunction] = {
    "Conv": convolution,
    "ConvTranspose": transposed_convolution,
    "Einsum": einsum,
    "Gemm": gemm,
    "MatMul": matmul,
}
