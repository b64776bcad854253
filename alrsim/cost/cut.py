"""Cut a graph into stages: by module, by operator, by layer or block, by names, or into balanced parts."""

import difflib
from collections.abc import Callable, Mapping, Sequence

from alrsim.cost.layers import cut_blocks, cut_layers
from alrsim.cost.operators import cost_graph
from alrsim.cost.pieces import Atoms, find_atoms
from alrsim.cost.runs import even_runs, small_runs
from alrsim.errors import OptionError
from alrsim.graph.graph import Graph
from alrsim.graph.work import NO_WORK
from alrsim.hardware.machine import Unit
from alrsim.hardware.precision import PrecisionPlan
from alrsim.tasks.problem import CostModel
from alrsim.tasks.taskgraph import Task
from alrsim.tasks.token import TaskId

Cut = tuple[tuple[str, ...], ...]
Weights = Mapping[str, float] | Sequence[Mapping[str, float]]

_ANY = TaskId(0, "F", 0)
"""Cost models price work; which task it belongs to does not matter here."""

CUTS = ("balanced:K", "module[:DEPTH]", "operator", "layer", "block", "names:OP1,OP2")


def cut_graph(graph: Graph, spec: str, *, weights: Weights | None = None) -> Cut:
    """Operator names per stage. Stages are runs of a topological order, so no edge points backward.

    Args:
        spec: ``balanced:K`` minimises the slowest of K stages; ``module:DEPTH`` joins neighbours whose module paths
            agree in their first DEPTH parts (default 1); ``operator`` makes every operator a stage; ``layer`` ends a
            stage at every convolution, matrix product or recurrent operator, so that LR's noise lands on
            pre-activations; ``block`` starts one there, so that it lands behind activation, pooling and residual sum
            (see :mod:`alrsim.cost.layers`);
            ``names:a,b`` starts a new stage at each of the named operators (or torch graph nodes).
        weights: For ``balanced``: cost of every operator by name, or one such table for each of the K stages, where
            stages run on unlike units; default: FLOPs, forward and gradients.

    Operators that come from one torch graph node, or share a parameter, are never separated.

    Raises:
        OptionError: an unknown specification, or one that the graph cannot satisfy.
    """
    kind, _, argument = spec.partition(":")
    atoms = find_atoms(graph)
    if not atoms.runs:
        raise OptionError(f"model {graph.name!r} has no operators to cut", field="cut")
    if kind == "balanced":
        sizes = cut_weights(graph) if weights is None else weights
        return _join(atoms, _balanced(atoms, _positive(argument, spec), sizes))
    if kind == "module":
        return _join(atoms, _by_module(graph, atoms, _positive(argument or "1", spec)))
    if kind == "names":
        return _join(atoms, _by_names(graph, atoms, argument.split(",")))
    plain: dict[str, Callable[[], Sequence[int]]] = {
        "operator": lambda: range(len(atoms.runs)),
        "layer": lambda: cut_layers(graph, atoms),
        "block": lambda: cut_blocks(atoms),
    }
    if spec in plain:
        return _join(atoms, plain[spec]())
    raise OptionError(f"unknown cut {spec!r}", field="cut", fix=f"use one of {', '.join(CUTS)}")


def cut_weights(graph: Graph) -> dict[str, float]:
    """FLOPs of every operator: forward, input gradient and weight gradient."""
    return {
        name: float(cost.forward.flops + cost.input_gradient.flops + cost.weight_gradient.flops)
        for name, cost in cost_graph(graph).items()
    }


def time_weights(graph: Graph, model: CostModel, unit: Unit, plan: PrecisionPlan) -> dict[str, float]:
    """Time of every operator on a unit: forward, input gradient and weight gradient, as a cost model has it."""
    parts = {
        name: (cost.forward, cost.input_gradient, cost.weight_gradient) for name, cost in cost_graph(graph).items()
    }
    return {
        name: float(sum(model(Task(_ANY, work=work), unit, plan) for work in works if work != NO_WORK))
        for name, works in parts.items()
    }


def _balanced(atoms: Atoms, parts: int, weights: Weights) -> list[int]:
    if parts > len(atoms.runs):
        reason = f" (operators that share {', '.join(atoms.shared[:3])} stay together)" if atoms.shared else ""
        raise OptionError(
            f"cannot cut into {parts} stages: the model has {len(atoms.runs)} pieces that can be apart{reason}",
            field="cut",
            fix=f"use balanced:{len(atoms.runs)} or fewer stages, or a larger model",
        )
    tables = [weights] if isinstance(weights, Mapping) else list(weights)
    sizes = [[sum(table[op.name] for op in run) for run in atoms.runs] for table in tables]
    if len(sizes) == 1:
        return even_runs([[float(size) for size in sizes[0]]] * parts, empty=False)
    assert len(sizes) == parts, "one table of weights for each stage"
    return small_runs(sizes)


def _by_module(graph: Graph, atoms: Atoms, depth: int) -> list[int]:
    """Starts where the module path changes; operators outside any module stay with what comes before them."""
    starts, current = [0], ""
    for index, run in enumerate(atoms.runs):
        path = next((op.module for op in run if op.module), "")
        key = ".".join(path.split(".")[:depth])
        if not key:
            continue
        if current and key != current:
            starts.append(index)
        current = key
    if not current:
        raise OptionError(
            f"model {graph.name!r} does not say which module its operators came from",
            field="cut",
            fix="use layer, balanced:K or names:..., or give the torch model instead of a plain .onnx file",
        )
    return starts


def _by_names(graph: Graph, atoms: Atoms, names: Sequence[str]) -> list[int]:
    if not any(name.strip() for name in names):
        raise OptionError("names: needs at least one operator", field="cut", fix="names:OP1,OP2")
    where: dict[str, int] = {}
    for index, run in enumerate(atoms.runs):
        for op in run:
            for name in (op.name, *op.fx_nodes):
                where.setdefault(name, index)
    starts = {0}
    for name in (item.strip() for item in names):
        if name not in where:
            close = difflib.get_close_matches(name, where, n=3) or list(where)[:5]
            raise OptionError(
                f"model {graph.name!r} has no operator {name!r}",
                field="cut",
                fix=f"close names: {', '.join(close)}",
            )
        if where[name] in starts and where[name]:
            raise OptionError(
                f"operator {name!r} cannot start a stage of its own: it stays with one that another name starts",
                field="cut",
                fix=f"remove {name!r}",
            )
        starts.add(where[name])
    return sorted(starts)


def _positive(text: str, spec: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        kind = spec.partition(":")[0]
        raise OptionError(f"{spec!r} needs a positive whole number", field="cut", fix=f"for example {kind}:2")
    return int(text)


def _join(atoms: Atoms, starts: Sequence[int]) -> Cut:
    ends = [*starts[1:], len(atoms.runs)]
    return tuple(
        tuple(op.name for run in atoms.runs[start:end] for op in run) for start, end in zip(starts, ends, strict=True)
    )
