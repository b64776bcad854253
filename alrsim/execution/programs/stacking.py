"""Which literal sizes of a stage grow when copies are stacked in the batch dimension, and whether stacking is exact.

An exported graph holds the batch size as plain numbers: in views, in ``expand``, in fresh zeros. Stacking inserts the
copies as the outermost factor of the batch. This module follows that factor through the stage on shapes alone (torch's
meta device) and finds the sizes that it multiplies. A fresh tensor (``zeros(4, 8)``) may or may not have the batch in
front; the assumption under which the whole stage fits is taken, the plausible one first. Shapes can fit by accident,
so that :func:`same_numbers` holds two stacked copies of different data to two single runs.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from alrsim.execution.programs.operators import SIZED, aten, is_filled, operator_name

_GUESSES = 6
"""Shapes of fresh tensors that are tried both ways; further ones keep the plausible assumption."""


class CannotStackError(Exception):
    """Why a stage does not run on stacked copies."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the copies are in a value.

    Attributes:
        dim: The dimension that they multiply.
        outer: Elements of that dimension in front of them (a merged ``time x batch`` has ``outer = time``).
    """

    dim: int
    outer: int = 1


Sizes = Mapping[Node, tuple[int, ...]]


def stacked_sizes(
    nodes: Sequence[Node], inputs: Sequence[Node], held: Sequence[Node], outputs: Sequence[Node], copies: int
) -> Sizes:
    """New sizes of the nodes with literal ones, for ``copies`` copies.

    Args:
        nodes: The stage's nodes in order, those that depend on parameters alone included.
        inputs: Values that it reads; each has the copies in front of its first dimension.
        held: Parameters and buffers, which are not stacked.
        outputs: Values that it hands on; they must have the copies in front, too.

    Raises:
        CannotStackError: no assumption about the fresh tensors makes the shapes fit.
    """
    batch = {int(value.meta["val"].shape[0]) for value in inputs if value.meta["val"].dim()}
    fresh = list(dict.fromkeys(_shape(node) for node in nodes if is_filled(node) and _shape(node)))
    reason: CannotStackError | None = None
    for stacked in _assumptions(fresh, batch):
        try:
            return _Follow(copies, stacked).run(nodes, inputs, held, outputs)
        except CannotStackError as error:
            reason = reason or error
    assert reason is not None
    raise reason


def _assumptions(fresh: Sequence[tuple[int, ...]], batch: set[int]) -> Iterator[frozenset[tuple[int, ...]]]:
    """Sets of fresh shapes that are taken to be batched, from the most plausible one outwards."""
    likely = frozenset(shape for shape in fresh if shape[0] in batch)
    for flips in range(min(len(fresh), _GUESSES) + 1):
        for changed in itertools.combinations(fresh[:_GUESSES], flips):
            yield likely ^ frozenset(changed)


def stackable(node: Node) -> Any:
    """The operator that stands for a node in a stacked stage: a view of more rows may need a copy."""
    return aten("reshape").default if operator_name(node) in ("view", "_unsafe_view") else node.target


class _Follow:
    """Runs a stage's nodes on tensors without data, one after the other."""

    def __init__(self, copies: int, stacked: frozenset[tuple[int, ...]]) -> None:
        self.copies, self.stacked = copies, stacked
        self.values: dict[Node, Any] = {}
        self.places: dict[Node, Place | None] = {}
        self.sizes: dict[Node, tuple[int, ...]] = {}

    def run(
        self, nodes: Sequence[Node], inputs: Sequence[Node], held: Sequence[Node], outputs: Sequence[Node]
    ) -> Sizes:
        with torch.device("meta"), torch.no_grad():
            for value in (*inputs, *held):
                shape = list(value.meta["val"].shape)
                front = value in inputs and bool(shape)
                if front:
                    shape[0] *= self.copies
                self.values[value] = torch.empty(shape, dtype=value.meta["val"].dtype)
                self.places[value] = Place(0) if front else None
            for node in nodes:
                self._step(node)
        for node in outputs:
            if self.places[node] != Place(0):
                raise CannotStackError(
                    f"{node.name} has shape {tuple(self.values[node].shape)}, not the batch in front"
                )
        return self.sizes

    def _step(self, node: Node) -> None:
        if is_filled(node):
            shape = _shape(node)
            if shape in self.stacked:
                shape = (shape[0] * self.copies, *shape[1:])
            self.sizes[node] = shape
            self.values[node] = torch.empty(shape, dtype=node.meta["val"].dtype)
            self.places[node] = Place(0) if shape != _shape(node) else None
            return
        before = next((place for value in node.all_input_nodes if (place := self.places[value]) is not None), None)
        args, options = list(node.args), dict(node.kwargs)
        if "device" in options:
            options["device"] = "meta"
        if operator_name(node) in SIZED and before is not None:
            self.sizes[node] = args[1] = self._literal(node, before)
        try:
            called = torch.fx.map_arg((tuple(args), options), self.values.__getitem__)
            result = stackable(node)(*called[0], **called[1])
        except (RuntimeError, IndexError, ValueError, TypeError) as error:
            raise CannotStackError(f"{node.name} ({node.target}): {str(error).splitlines()[0]}") from None
        self.values[node] = result
        self.places[node] = self._place(node, result, before)

    def _literal(self, node: Node, before: Place) -> tuple[int, ...]:
        source = node.all_input_nodes[0]
        old, sizes = _shape(source), [int(size) for size in node.args[1]]  # type: ignore[union-attr, arg-type]
        new = _shape(node)
        if operator_name(node) == "expand":
            dim = before.dim + len(new) - len(old)
        else:
            found = _same_position(prod(old[: before.dim]) * before.outer, old[before.dim] // before.outer, new)
            if found is None:
                raise CannotStackError(f"{node.name} ({node.target}) tears the batch apart")
            dim = found.dim
            before = found
        self.places[node] = Place(dim, before.outer)
        if sizes[dim] > 0:
            sizes[dim] *= self.copies
        return tuple(sizes)

    def _place(self, node: Node, result: Any, before: Place | None) -> Place | None:
        if not isinstance(result, Tensor):
            items = result if isinstance(result, tuple | list) else ()
            exported = node.meta["val"]
            places = [self._changed(node, item, old, before) for item, old in zip(items, exported, strict=False)]
            return next((place for place in places if place is not None), None)
        if node in self.sizes:
            before = self.places[node]
        return self._changed(node, result, node.meta["val"], before)

    def _changed(self, node: Node, result: Any, exported: Any, before: Place | None) -> Place | None:
        """Where a result differs from the exported one: there, and by the factor of the copies, or not at all."""
        if not isinstance(result, Tensor):
            return None
        old, new = tuple(exported.shape), tuple(result.shape)
        changed = [dim for dim, (a, b) in enumerate(zip(old, new, strict=False)) if a != b]
        fits = len(old) == len(new) and all(old[dim] * self.copies == new[dim] for dim in changed)
        if not fits or len(changed) > 1:
            raise CannotStackError(f"{node.name} ({node.target}) has shape {new} where one copy has {old}")
        return Place(changed[0], before.outer if before is not None else 1) if changed else None


def _shape(node: Node) -> tuple[int, ...]:
    return tuple(int(size) for size in node.meta["val"].shape)


def _same_position(front: int, batch: int, shape: Sequence[int]) -> Place | None:
    """The dimension of a view behind whose first ``front`` elements (of all dimensions before it) the copies lie.

    Args:
        batch: Size of what is behind the copies in the dimension that they come from.
    """
    found = []
    for dim, size in enumerate(shape):
        before = prod(shape[:dim])
        if before <= front and front % before == 0 and size % (front // before) == 0:
            found.append(Place(dim, front // before))
    roomy = [place for place in found if batch == 1 or shape[place.dim] // place.outer > 1]

    def oddness(place: Place) -> tuple[bool, bool]:  # sizes of 1 leave a choice that only sizes can suggest
        return shape[place.dim] // place.outer != batch, place.outer > 1

    return min(roomy, key=oddness, default=None)


def same_numbers(single: Sequence[Tensor], stacked: Tensor) -> bool:
    """Whether a stacked value holds the single ones, one after the other, up to the order of sums."""
    expected = torch.cat(list(single))
    if stacked.shape != expected.shape or not expected.is_floating_point():
        return torch.equal(stacked, expected)
    scale = float(expected[expected.isfinite()].abs().max()) if bool(expected.isfinite().any()) else 1.0
    return torch.allclose(stacked, expected, rtol=1e-3, atol=1e-5 * max(scale, 1e-6), equal_nan=True)
