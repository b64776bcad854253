"""From operators to stages: what each stage computes, keeps and hands to others, for one micro-batch and one copy."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from alrsim.cost.injection_points import marked_points, uncut_path
from alrsim.cost.layers import is_linear
from alrsim.cost.movement import aliases
from alrsim.cost.operators import (
    GraphParts,
    OpCost,
    depending,
    gradient_cost,
    gradients_of,
    graph_parts,
    reached,
    sum_of_gradients,
)
from alrsim.cost.parts import FLOATS
from alrsim.cost.pieces import prepares_weights, weight_roots
from alrsim.cost.signs import nonnegative
from alrsim.cost.smooth import discontinuous_stages
from alrsim.errors import ModelError
from alrsim.graph.graph import Graph, Op
from alrsim.graph.stages import MODEL_INPUT, Edge, Stage, StageGraph
from alrsim.graph.work import NO_WORK, Work

LOSS_FORWARD = 6
"""FLOPs per logit: log-softmax 5 (maximum, subtract, exponential, sum, subtract), the label's term and mean 1."""
LOSS_GRADIENT = 3
"""FLOPs per logit: exponential of the kept log-probability, subtract the label, scale."""


@dataclass(frozen=True)
class _Region:
    """One stage before it is priced.

    Attributes:
        inputs: Values of the model's input or of other stages that it reads.
        outputs: Values that other stages or the loss read.
        external: How many other stages (and the loss) read each output.
        bases: The value whose memory a view is a view of.
    """

    ops: tuple[Op, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    external: Counter[str]
    bases: Mapping[str, str]

    def storage(self, value: str) -> str:
        """The value whose memory ``value`` is a view of, inside the stage."""
        while value in self.bases:
            value = self.bases[value]
        return value


def build_stages(graph: Graph, cut: Sequence[Sequence[str]], *, batch: int | None = None) -> StageGraph:
    """Price the stages of a cut.

    Inside a stage the gradient work is that of BP, as if a gradient came back to every output of the stage; sums of
    the gradients of a value with several readers are done where the value is written, or, for a value that comes
    from another stage, once per reading stage. The loss is softmax cross entropy on the model's outputs.

    Args:
        cut: Operator names per stage, as :func:`alrsim.cost.cut.cut_graph` gives them.
        batch: Samples in one micro-batch; default: the first dimension of the first input.

    Raises:
        ModelError: operators missing from the cut, unknown or in two stages; an edge that points backward; a
            parameter that two stages read; an operator without a cost.
    """
    stage_of = _check_cut(graph, cut)
    parts = graph_parts(graph)
    _check_shared_parameters(graph, stage_of)
    regions = _regions(graph, stage_of, len(cut))
    live = reached(parts, graph.ops, graph.outputs)
    unsigned, unsigned_noisy = nonnegative(graph.ops), nonnegative(graph.ops, _noised(graph, regions))
    stages: list[Stage] = []
    saved: list[frozenset[str]] = []
    jumps, jumps_inside = discontinuous_stages(graph, cut), discontinuous_stages(graph, cut, range(len(cut)))
    for index, region in enumerate(regions):
        stage, kept = _price(parts, region, index, (unsigned, unsigned_noisy))
        trained = [value for op in region.ops for value in op.inputs if value in graph.parameters]
        stages.append(
            replace(
                stage,
                unreached=bool(trained) and live.isdisjoint(trained),
                jumps=index in jumps,
                jumps_inside=index in jumps_inside,
            )
        )
        saved.append(kept)
    loss = _loss(graph, len(regions))
    edges = tuple(
        Edge(
            source,
            target,
            value,
            graph.tensors[value].elements,
            saved_by_source=source != MODEL_INPUT and _is_kept(graph, regions[source], saved[source], value),
            saved_by_target=target < len(regions) and _is_kept(graph, regions[target], saved[target], value),
        )
        for source, target, value in _crossings(graph, stage_of, len(regions))
    )
    if batch is None:
        shape = graph.tensors[graph.inputs[0]].shape if graph.inputs else ()
        batch = shape[0] if shape else 1
    return StageGraph(graph.name, tuple(stages), edges, loss, batch)


def _check_cut(graph: Graph, cut: Sequence[Sequence[str]]) -> dict[str, int]:
    stage_of: dict[str, int] = {}
    known = {op.name for op in graph.ops}
    for index, names in enumerate(cut):
        if not names:
            raise ModelError(f"stage {index} of the cut is empty", where=graph.name)
        for name in names:
            if name not in known or name in stage_of:
                problem = "is in two stages" if name in stage_of else "does not exist"
                raise ModelError(f"operator {name!r} of the cut {problem}", where=graph.name)
            stage_of[name] = index
    missing = [op.name for op in graph.ops if op.name not in stage_of]
    if missing:
        raise ModelError(f"the cut leaves out operators {', '.join(missing[:5])}", where=graph.name)
    nodes: dict[str, Op] = {}
    for op in graph.ops:
        for node in op.fx_nodes:
            other = nodes.setdefault(node, op)
            if stage_of[other.name] != stage_of[op.name]:
                raise ModelError(
                    f"operators {other.name!r} and {op.name!r} come from one torch node, {node!r}, but are in stages "
                    f"{stage_of[other.name]} and {stage_of[op.name]}",
                    where=graph.name,
                    fix="keep them in one stage",
                )
    return stage_of


def _check_shared_parameters(graph: Graph, stage_of: dict[str, int]) -> None:
    roots = weight_roots(graph)
    reader: dict[str, Op] = {}
    for op in graph.ops:
        for name in sorted(frozenset[str]().union(*(roots[value] for value in op.inputs if value in roots))):
            first = reader.setdefault(name, op)
            if stage_of[first.name] != stage_of[op.name]:
                raise ModelError(
                    f"parameter {name!r} is read in stages {stage_of[first.name]} ({first.name}) and "
                    f"{stage_of[op.name]} ({op.name}); a parameter must live in one stage",
                    where=graph.name,
                    fix="put its readers into one stage, or untie the weights",
                )


def _crossings(graph: Graph, stage_of: dict[str, int], loss: int) -> list[tuple[int, int, str]]:
    """``(source, target, value)`` of every value that crosses between stages, in topological order, each once."""
    written = {value: stage_of[op.name] for op in graph.ops for value in op.outputs if value}
    fed = set(graph.inputs)
    found: dict[tuple[int, int, str], None] = {}
    for op in graph.ops:
        for value in op.inputs:
            source = MODEL_INPUT if value in fed else written.get(value)
            if source is None or source == stage_of[op.name]:
                continue
            if source > stage_of[op.name]:
                raise ModelError(
                    f"operator {op.name!r} in stage {stage_of[op.name]} reads {value!r} of the later stage {source}",
                    where=graph.name,
                    fix="a stage may read only from stages before it",
                )
            found[source, stage_of[op.name], value] = None
    for value in graph.outputs:
        if value in written or value in fed:
            found[written.get(value, MODEL_INPUT), loss, value] = None
    return sorted(found, key=lambda item: item[:2])


def _regions(graph: Graph, stage_of: dict[str, int], count: int) -> list[_Region]:
    members: list[list[Op]] = [[] for _ in range(count)]
    for op in graph.ops:
        members[stage_of[op.name]].append(op)
    inputs: list[list[str]] = [[] for _ in range(count)]
    external: list[Counter[str]] = [Counter() for _ in range(count)]
    for source, target, value in _crossings(graph, stage_of, count):
        if target < count:
            inputs[target].append(value)
        if source != MODEL_INPUT:
            external[source][value] += 1
    return [
        _Region(tuple(ops), tuple(read), tuple(handed), handed, aliases(graph, ops))
        for ops, read, handed in zip(members, inputs, external, strict=True)
    ]


def _price(
    parts: GraphParts, region: _Region, index: int, unsigned: tuple[frozenset[str], ...]
) -> tuple[Stage, frozenset[str]]:
    """A stage, and the storage of the values that BP keeps for it."""
    graph = parts.graph
    trained = list(dict.fromkeys(value for op in region.ops for value in op.inputs if value in graph.parameters))
    floats = [value for value in region.inputs if graph.tensors[value].dtype in FLOATS]
    passed = [value for value in floats if value in parts.needs]
    back = reached(parts, region.ops, region.outputs)
    _, own = _costs(parts, region, depending(parts, region.ops, trained) & back)
    _, through = _costs(parts, region, depending(parts, region.ops, (*trained, *(passed or floats))) & back)
    step, _ = _costs(parts, region, depending(parts, region.ops, (*trained, *passed)) & back)
    kept = frozenset(region.storage(value) for cost in step for value in cost.saved)
    elsewhere = {region.storage(value) for value in (*region.inputs, *region.outputs) if _whole(graph, region, value)}
    elsewhere.update(graph.inputs, graph.constants, graph.buffers)
    named = [value for value in kept if value not in elsewhere]
    product = is_linear(region.ops, parts.weights, region.outputs)
    forward = sum((cost.forward for cost in step), NO_WORK)
    points = marked_points(graph, region.ops, trained)
    kept_inputs = _lr_inputs(parts, region, product)
    stage = Stage(
        index=index,
        name=_name(region.ops),
        ops=tuple(op.name for op in region.ops),
        forward=forward,
        input_gradient=through,
        interior_gradient=own,
        weight_gradient=sum((cost.weight_gradient for cost in step), _shared_sums(parts, region, trained)),
        recompute=NO_WORK if product else forward,
        parameters=sum(graph.tensors[value].elements for value in trained),
        saved=sum(graph.tensors[value].elements for value in named) + sum(cost.kept for cost in step),
        operators=len(region.ops),
        lr_saved=sum(graph.tensors[value].elements for value in kept_inputs),
        lr_scales=sum(_channels(graph.tensors[value].shape) for value in kept_inputs),
        lr_whole=any(graph.tensors[value].dtype not in FLOATS for value in kept_inputs),
        lr_unsigned=unsigned[0].issuperset(kept_inputs),
        lr_unsigned_noisy=unsigned[1].issuperset(kept_inputs),
        linear=product is not None,
        deltas=_deltas(parts, region),
        direct=product is not None and _data_input(parts, product) in region.inputs,
        points=points,
        uncut=uncut_path(region.ops, trained, [name for name, _ in points], region.outputs) if points else "",
    )
    return stage, kept


def _noised(graph: Graph, regions: Iterable[_Region]) -> frozenset[str]:
    """Values that LR adds noise to if every stage is a segment of its own."""
    trained = (one for one in regions if any(value in graph.parameters for op in one.ops for value in op.inputs))
    return frozenset(value for one in trained for value in one.outputs)


def _whole(graph: Graph, region: _Region, value: str) -> bool:
    """Whether a value fills the memory that it is in, so that one buffer can stand for both."""
    return graph.tensors[value].elements == graph.tensors[region.storage(value)].elements


def _is_kept(graph: Graph, region: _Region, kept: frozenset[str], value: str) -> bool:
    return _whole(graph, region, value) and region.storage(value) in kept


def _costs(parts: GraphParts, region: _Region, wanted: frozenset[str]) -> tuple[tuple[OpCost, ...], Work]:
    """Of every operator, and all gradients of inputs together with the sums over readers."""
    costs = tuple(gradient_cost(parts, op, wanted) for op in region.ops)
    readers = Counter(value for op in region.ops for value, _ in gradients_of(parts, op, wanted))
    for value, count in region.external.items():
        readers[value] += count if value in wanted else 0
    sums = (
        sum_of_gradients(parts.graph.tensors[value].elements, count)
        for value, count in readers.items()
        if value not in parts.weights
    )
    return costs, sum((*(cost.input_gradient for cost in costs), *sums), NO_WORK)


def _shared_sums(parts: GraphParts, region: _Region, trained: Iterable[str]) -> Work:
    """Additions for parameters with several readers in the stage (slices of one parameter fill disjoint parts)."""
    users = [op for op in region.ops if not prepares_weights(op, parts.weights)]
    readers = Counter(value for op in users for value in op.inputs if value in parts.graph.parameters)
    sizes = {value: parts.graph.tensors[value].elements for value in trained}
    return sum((sum_of_gradients(size, readers[value], parameter=True) for value, size in sizes.items()), NO_WORK)


def _lr_inputs(parts: GraphParts, region: _Region, product: Op | None) -> list[str]:
    """What an LR gradient keeps: what a product multiplies, else all that the stage reads."""
    return list(dict.fromkeys(region.inputs)) if product is None else [_data_input(parts, product)]


def _channels(shape: Sequence[int]) -> int:
    """Samples, times channels where there are positions behind them."""
    return prod(shape[:2] if len(shape) > 2 else shape[:1])


def _data_input(parts: GraphParts, product: Op) -> str:
    """What a product multiplies its weight with."""
    return next(value for value in product.inputs[:2] if value not in parts.weights)


def _deltas(parts: GraphParts, region: _Region) -> int:
    """Elements of the results of the operators that read a parameter."""
    trained = [op for op in region.ops if any(value in parts.weights for value in op.inputs)]
    results = [op.outputs[0] for op in trained if op.outputs[0] not in parts.weights]
    return sum(parts.graph.tensors[value].elements for value in results)


def _loss(graph: Graph, index: int) -> Stage:
    logits = sum(graph.tensors[value].elements for value in graph.outputs)
    forward = Work(elementwise=LOSS_FORWARD * logits, activation_reads=logits, activation_writes=logits, launches=2)
    gradient = Work(elementwise=LOSS_GRADIENT * logits, activation_reads=logits, activation_writes=logits, launches=1)
    return Stage(
        index, "loss", forward=forward, input_gradient=gradient, interior_gradient=gradient, saved=logits, operators=1
    )


def _name(ops: Sequence[Op]) -> str:
    """The modules of a stage, or its operators where no module is known."""
    names = list(dict.fromkeys(op.module for op in ops if op.module)) or [op.name for op in ops]
    return names[0] if len(names) == 1 else f"{names[0]}..{names[-1]}"
