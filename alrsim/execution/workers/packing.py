"""What a task hands to another process: the tensors of a value, and how to put the value together again.

The recording pass sees every value once, so its form is known before a run, on both sides: only bytes travel.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from itertools import accumulate
from math import prod
from typing import Any

import torch
from torch import Tensor

ALIGNMENT = 64
"""Tensors of a message start at multiples of a cache line."""

Build = Callable[[Iterator[Tensor]], Any]


@dataclass(frozen=True, slots=True)
class Leaf:
    """One tensor of a value: contiguous, of known shape and type."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def room(self) -> int:
        """Bytes in a message, padding included."""
        return -(-prod(self.shape) * self.dtype.itemsize // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True, slots=True)
class Template:
    """The form of a value.

    Attributes:
        leaves: Its tensors, in the order of :func:`flatten`.
        build: Takes tensors of that form and order and gives the value.
    """

    leaves: tuple[Leaf, ...]
    build: Build

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where each leaf starts in a message."""
        return tuple(accumulate((leaf.room for leaf in self.leaves[:-1]), initial=0))[: len(self.leaves)]

    @property
    def bytes(self) -> int:
        """Of a message, padding included."""
        return sum(leaf.room for leaf in self.leaves)


def template_of(value: Any) -> Template | None:
    """The form of tensors, ``None``, plain numbers and texts in lists, tuples, dicts and frozen dataclasses.

    ``None`` for anything else (what autograd saved cannot leave its process).
    """
    leaves: list[Leaf] = []
    build = _describe(value, leaves)
    return None if build is None else Template(tuple(leaves), build)


def flatten(value: Any) -> list[Tensor]:
    """The tensors of a value that has a template, in its order."""
    if isinstance(value, Tensor):
        return [value.detach()]
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in flatten(item)]
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in flatten(item)]
    if is_dataclass(value):
        return [tensor for one in fields(value) for tensor in flatten(getattr(value, one.name))]
    return []


def copied(value: Any) -> Any:
    """A value of its own tensors."""
    template = template_of(value)
    assert template is not None, "only values with a template are copied"
    return build(template, [tensor.clone() for tensor in flatten(value)])


def build(template: Template, tensors: Sequence[Tensor]) -> Any:
    """The value of received tensors."""
    return template.build(iter(tensors))


def _describe(value: Any, leaves: list[Leaf]) -> Build | None:
    if isinstance(value, Tensor):
        leaves.append(Leaf(tuple(value.shape), value.dtype))
        return next
    if value is None or isinstance(value, bool | int | float | str | torch.dtype):
        return lambda _: value
    if isinstance(value, list | tuple):
        kind = type(value)
        return _sequence(list(value), leaves, lambda items: kind(items))
    if isinstance(value, dict):
        names = list(value)
        return _sequence(list(value.values()), leaves, lambda items: dict(zip(names, items, strict=True)))
    if is_dataclass(value) and not isinstance(value, type) and type(value).__dataclass_params__.frozen:  # type: ignore[attr-defined]
        made = type(value)
        inner = [one.name for one in fields(value)]
        parts = [getattr(value, name) for name in inner]
        return _sequence(parts, leaves, lambda items: made(**dict(zip(inner, items, strict=True))))
    return None


def _sequence(parts: list[Any], leaves: list[Leaf], make: Callable[[list[Any]], Any]) -> Build | None:
    builds = [_describe(part, leaves) for part in parts]
    known = [one for one in builds if one is not None]
    if len(known) < len(builds):
        return None
    return lambda tensors: make([one(tensors) for one in known])
