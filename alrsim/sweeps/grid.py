"""From a specification to configurations: every combination, or a sample of the space."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from math import prod
from typing import Any

import numpy as np

from alrsim.sweeps.spec import Range, Sample, Spec, Value

Configuration = Mapping[str, Value]
Normalise = Callable[[Configuration], Configuration]
"""Drops what a configuration does not read, so that equal ones are equal."""


def points(spec: Spec) -> int:
    """How many points a specification asks for; equal ones are evaluated once."""
    return prod(map(len, spec.grid.values())) if spec.sample is None else spec.sample.count


def configurations(spec: Spec, normalise: Normalise = lambda one: one) -> list[Configuration]:
    """Every configuration once, in the order of the grid (the last option varies fastest) or of the sample."""
    found: dict[str, Configuration] = {}
    for point in _grid(spec) if spec.sample is None else _sampled(spec, spec.sample):
        one = normalise({**spec.fixed, **point})
        found.setdefault(canonical(one), one)
    return list(found.values())


def canonical(value: Any) -> str:
    """JSON that is equal for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(verb: str, configuration: Configuration, files: Mapping[str, str], version: str) -> str:
    """The key of a result.

    Args:
        files: Hash of the content of every file that the configuration names.
        version: Of the program: another one may give other results.
    """
    text = canonical({"verb": verb, "configuration": dict(configuration), "files": dict(files), "version": version})
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _grid(spec: Spec) -> Iterator[dict[str, Value]]:
    for values in product(*spec.grid.values()):
        yield dict(zip(spec.grid, values, strict=True))


def _sampled(spec: Spec, sample: Sample) -> Iterator[dict[str, Value]]:
    """Points of the unit cube, one coordinate per axis: first those of the grid, then the ranges."""
    axes: dict[str, tuple[Value, ...] | Range] = {**spec.grid, **spec.ranges}
    for row in _unit_cube(sample, len(axes)):
        yield {name: _at(axis, float(u)) for (name, axis), u in zip(axes.items(), row, strict=True)}


def _unit_cube(sample: Sample, dimensions: int) -> Any:
    if sample.method == "random" or not dimensions:
        return np.random.default_rng(sample.seed).random((sample.count, dimensions))
    from scipy.stats.qmc import LatinHypercube

    return LatinHypercube(d=dimensions, rng=np.random.default_rng(sample.seed)).random(sample.count)


def _at(axis: tuple[Value, ...] | Range, u: float) -> Value:
    """The value at a coordinate in [0, 1)."""
    if not isinstance(axis, Range):
        return axis[int(u * len(axis))]
    low, high = float(axis.low), float(axis.high)
    if axis.whole:  # every whole number has a stretch of its own
        if axis.scale == "log":
            return min(int(axis.high), int(low * ((high + 1) / low) ** u))
        return int(low + u * (high - low + 1))
    return low * (high / low) ** u if axis.scale == "log" else low + u * (high - low)
