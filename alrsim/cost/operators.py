"""The registry of operator costs, and the cost of every operator of a graph."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from alrsim.cost.elementwise import ELEMENTWISE
from alrsim.cost.matrix import MATRIX
from alrsim.cost.movement import LAYOUTS, MOVEMENT, OWN, black_box
from alrsim.cost.parts import FLOATS, CostFunction, Gradient, OpView, Parts
from alrsim.cost.pieces import prepares_weights, weight_roots
from alrsim.cost.recurrent import RECURRENT
from alrsim.cost.reduction import REDUCTION
from alrsim.errors import ModelError
from alrsim.graph.graph import DIFFERENTIABLE, Graph, Op
from alrsim.graph.work import NO_WORK, Work

OPERATORS: dict[str, CostFunction] = {
    **MATRIX,
    **RECURRENT,
    **REDUCTION,
    **ELEMENTWISE,
    **MOVEMENT,
}
"""Cost function by ONNX operator type (standard domain)."""


@dataclass(frozen=True, slots=True)
class OpCost:
    """What one operator costs for the graph's batch.

    Attributes:
        forward: The forward pass.
        input_gradient: Gradients of the activations that it reads and that depend on a parameter, interior work
            (such as a recursion over time) and sums over several readers of its outputs included.
        weight_gradient: Gradients of the parameters that it reads.
        parameters: Trainable elements that it is the first operator to read.
        output_elements: Elements that it writes.
        saved: Activations of the forward pass that its gradients read again.
        kept: Further elements that its gradients need: masks, indices, statistics, gates.
    """

    forward: Work = NO_WORK
    input_gradient: Work = NO_WORK
    weight_gradient: Work = NO_WORK
    parameters: int = 0
    output_elements: int = 0
    saved: tuple[str, ...] = ()
    kept: int = 0


@dataclass(frozen=True)
class GraphParts:
    """The parts of every operator, and which values depend on what.

    Attributes:
        weights: Values that depend on parameters only, parameters included.
        needs: Values that depend on a parameter and are differentiable (torch's ``requires_grad``).
    """

    graph: Graph
    parts: Mapping[str, Parts]
    weights: frozenset[str]
    needs: frozenset[str]


def cost_graph(graph: Graph) -> Mapping[str, OpCost]:
    """Cost of every operator by name; gradients as BP of the whole graph needs them.

    Raises:
        ModelError: an operator without a cost function (all of them are listed).
    """
    parts = graph_parts(graph)
    wanted = parts.needs & reached(parts, graph.ops, graph.outputs)
    readers = Counter(value for op in graph.ops for value, _ in gradients_of(parts, op, wanted))
    readers.update(value for value in graph.outputs if value in wanted)
    seen: set[str] = set()
    met: set[str] = set()
    costs: dict[str, OpCost] = {}
    for op in graph.ops:
        cost = gradient_cost(parts, op, wanted)
        handed = [value for value in op.outputs if value and value not in parts.weights]
        fan_out = sum((sum_of_gradients(graph.tensors[value].elements, readers[value]) for value in handed), NO_WORK)
        fresh = [value for value in dict.fromkeys(op.inputs) if value in graph.parameters and value not in seen]
        seen.update(fresh)
        again = NO_WORK
        if not prepares_weights(op, parts.weights):
            for value in (value for value in op.inputs if value in graph.parameters):
                again += sum_of_gradients(graph.tensors[value].elements, 2 if value in met else 1, parameter=True)
                met.add(value)
        costs[op.name] = replace(
            cost,
            input_gradient=cost.input_gradient + fan_out,
            weight_gradient=cost.weight_gradient + again,
            parameters=sum(graph.tensors[value].elements for value in fresh),
        )
    return costs


def cost_function(op: Op) -> CostFunction | None:
    """The cost of an operator, a torch model's custom ones included; ``None`` if nobody knows it."""
    if not op.domain:
        return OPERATORS.get(op.kind)
    return OWN.get(f"{op.domain}::{op.kind}", black_box if DIFFERENTIABLE in op.attributes else None)


def graph_parts(graph: Graph) -> GraphParts:
    """Ask every operator's cost function once.

    Raises:
        ModelError: an operator without a cost function (all of them are listed).
    """
    unpriced = [op for op in graph.ops if cost_function(op) is None]
    if unpriced:
        kinds = Counter(f"{op.domain}::{op.kind}" if op.domain else op.kind for op in unpriced)
        listed = ", ".join(f"{kind} ({count} times)" for kind, count in kinds.items())
        raise ModelError(
            f"operators without a known cost: {listed}; the first is {unpriced[0].name!r}",
            where=graph.name,
            fix="replace them by standard operators, or add a cost function to alrsim.cost.operators.OPERATORS",
        )
    weights = frozenset(weight_roots(graph))
    parts = {op.name: _parts(op, graph, weights) for op in graph.ops}
    without_needs = GraphParts(graph, parts, weights, frozenset())
    return replace(without_needs, needs=depending(without_needs, graph.ops, graph.parameters))


def _parts(op: Op, graph: Graph, weights: Collection[str]) -> Parts:
    """An operator's parts; laying out weights anew is done once, when the model is loaded, and costs no step time."""
    if op.kind in LAYOUTS and any(op.inputs) and prepares_weights(op, weights):
        return Parts(NO_WORK, {position: Gradient(NO_WORK) for position in range(len(op.inputs))})
    price = cost_function(op)
    assert price is not None, "operators without a cost were refused"
    try:
        return price(OpView(op, graph, weights))
    except (IndexError, KeyError, ValueError, ZeroDivisionError) as error:
        raise ModelError(
            f"operator {op.name!r} ({op.kind}) has inputs or attributes that its cost cannot be told from: {error}",
            where=graph.name,
            fix="check the model with onnx.checker",
        ) from None


def depending(parts: GraphParts, ops: Iterable[Op], sources: Iterable[str]) -> frozenset[str]:
    """The sources and every value that depends on one of them in a differentiable way."""
    found = set(sources)
    for op in ops:
        gradients = parts.parts[op.name].gradients
        if any(value in found for position, value in enumerate(op.inputs) if position in gradients):
            found.update(value for value in op.outputs if value and parts.graph.tensors[value].dtype in FLOATS)
    return frozenset(found)


def reached(parts: GraphParts, ops: Sequence[Op], outputs: Iterable[str]) -> frozenset[str]:
    """Values to which a gradient comes back from one of the outputs, the outputs included."""
    found = {value for value in outputs if parts.graph.tensors[value].dtype in FLOATS}
    for op in reversed(ops):
        if not found.isdisjoint(filter(None, op.outputs)):
            gradients = parts.parts[op.name].gradients
            found.update(value for position, value in enumerate(op.inputs) if value and position in gradients)
    return frozenset(found)


def gradients_of(parts: GraphParts, op: Op, wanted: Collection[str]) -> list[tuple[str, Gradient]]:
    """The inputs whose gradients the operator computes, in order; a value that is read twice is there twice."""
    if not any(value in wanted for value in op.outputs):
        return []
    own = parts.parts[op.name].gradients
    return [(value, own[position]) for position, value in enumerate(op.inputs) if value in wanted and position in own]


def gradient_cost(parts: GraphParts, op: Op, wanted: Collection[str]) -> OpCost:
    """The operator's cost if exactly the gradients of ``wanted`` are computed (without sums over readers)."""
    own, found = parts.parts[op.name], gradients_of(parts, op, wanted)
    interior, saved = (own.interior, own.interior_saves) if found else (NO_WORK, ())
    names = dict.fromkeys((*(name for _, gradient in found for name in gradient.saves), *saved))
    return OpCost(
        forward=own.forward,
        input_gradient=sum((gradient.work for value, gradient in found if value not in parts.weights), interior),
        weight_gradient=sum((gradient.work for value, gradient in found if value in parts.weights), NO_WORK),
        output_elements=sum(parts.graph.tensors[value].elements for value in op.outputs if value),
        saved=tuple(value for value in names if value and value not in parts.weights),
        kept=own.kept if found else 0,
    )


def sum_of_gradients(elements: int, readers: int, *, parameter: bool = False) -> Work:
    """Adding up the gradients that several readers send back for one value, or give one parameter."""
    if readers < 2:
        return NO_WORK
    more = (readers - 1) * elements
    if parameter:
        return Work(elementwise=more, param_reads=2 * more, param_writes=more, launches=readers - 1)
    return Work(elementwise=more, activation_reads=2 * more, activation_writes=more, launches=readers - 1)
