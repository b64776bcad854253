"""Atoms: the runs of operators that no cut separates."""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import accumulate, pairwise

from alrsim.graph.graph import Graph, Op


@dataclass(frozen=True)
class Atoms:
    """A topological order of the operators, in runs that stay together.

    Attributes:
        runs: Operators of each atom.
        shared: Parameters with more than one reader (operators that only prepare weights aside); each forces its
            readers into one atom.
        roots: Parameters behind every value that depends on parameters only.
    """

    runs: tuple[tuple[Op, ...], ...]
    shared: tuple[str, ...]
    roots: dict[str, frozenset[str]]


def find_atoms(graph: Graph) -> Atoms:
    """Group operators that come from one torch graph node, or that read one parameter.

    Operators that only prepare weights (slices, transposes) are moved to the first reader of the result. A group
    whose members are not neighbours takes what lies between them along, so that an atom is always a run.
    """
    roots = weight_roots(graph)
    order = _weights_beside_readers(graph, roots)
    spans: dict[tuple[str, str], list[int]] = {}
    readers: dict[str, int] = {}
    for index, op in enumerate(order):
        held = frozenset[str]().union(*(roots[value] for value in op.inputs if value in roots))
        for name in held:
            spans.setdefault(("parameter", name), []).append(index)
            readers[name] = readers.get(name, 0) + (not prepares_weights(op, roots))
        for node in op.fx_nodes:
            spans.setdefault(("node", node), []).append(index)
    last = list(range(len(order)))
    for members in spans.values():
        last[members[0]] = max(last[members[0]], members[-1])
    shared = tuple(name for name, count in readers.items() if count > 1)
    return Atoms(_runs(order, last), shared, roots)


def weight_roots(graph: Graph) -> dict[str, frozenset[str]]:
    """Every value that depends on parameters only (and constants), with the parameters behind it."""
    roots = {name: frozenset((name,)) for name in graph.parameters}
    constants = set(graph.constants)
    for op in graph.ops:
        held = [value for value in op.inputs if value and value not in constants]
        if held and all(value in roots for value in held):
            behind = frozenset[str]().union(*(roots[value] for value in held))
            roots.update((value, behind) for value in op.outputs if value)
    return roots


def prepares_weights(op: Op, roots: Collection[str]) -> bool:
    """Whether all that an operator makes depends on parameters only.

    Args:
        roots: Values that do.
    """
    return all(value in roots for value in op.outputs if value)


def _weights_beside_readers(graph: Graph, roots: dict[str, frozenset[str]]) -> list[Op]:
    """The operators in topological order, those that prepare weights right before their first reader."""
    waiting = {value: op for op in graph.ops if prepares_weights(op, roots) for value in op.outputs if value}
    done: set[str] = set()
    order: list[Op] = []

    def place(op: Op) -> None:
        for value in op.inputs:
            if value in waiting and waiting[value].name not in done:
                place(waiting[value])
        done.add(op.name)
        order.append(op)

    for op in graph.ops:
        if not prepares_weights(op, roots):
            place(op)
    for op in graph.ops:  # a model whose output depends on parameters only
        if op.name not in done:
            place(op)
    return order


def _runs(order: list[Op], last: list[int]) -> tuple[tuple[Op, ...], ...]:
    """Cut the order wherever no group reaches across."""
    ends = [index + 1 for index, far in enumerate(accumulate(last, max)) if far == index]
    return tuple(tuple(order[start:end]) for start, end in pairwise([0, *ends]))
