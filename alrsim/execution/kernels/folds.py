"""How a term is added to a sum, by kind of sum."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

Fold = Callable[[Any, Any], Any]
"""``fold(sum so far, term) -> sum``; the sum so far is ``None`` before the first term."""


def add_named(total: dict[str, Tensor], terms: dict[str, Tensor]) -> dict[str, Tensor]:
    """Fold of gradients by parameter."""
    for name, term in terms.items():
        total[name].add_(term)
    return total


def add_lists(total: list[Tensor] | None, terms: list[Tensor]) -> list[Tensor]:
    """Fold of cotangents; the first term becomes the sum."""
    if total is None:
        return terms
    for value, term in zip(total, terms, strict=True):
        value.add_(term)
    return total


def add_tensors(total: Tensor | None, term: Tensor) -> Tensor:
    """Fold of numbers."""
    return term if total is None else total + term


FOLDS: Mapping[str | int, Fold] = {"grad": add_named, "cotangent": add_lists, "sigma": add_tensors}
"""By kind of sum: how a term that another process made is added. (Running statistics are moved by the forwards of one
stage, which one unit runs.)"""
