"""Which orderings of a published table hold in a measurement, how surely, and what the variance law says of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from alrsim.estimators.variance_law import Array, law
from alrsim.quality.curves import Curve, Quality
from alrsim.quality.metrics import Interval, accuracy, copy_weights, mean_interval

UNCODED = Interval(1.0)
"""Ceiling of a layer whose input is not coded: known, not fitted."""

Verdict = Literal["holds", "reversed", "undecided"]


@dataclass(frozen=True)
class Constants:
    """Of a layer's variance law.

    Attributes:
        k_rho: Variance of one copy as the gradient sees it, over the squared gradient.
        ceiling: Cosine of infinitely many copies.
    """

    k_rho: float
    ceiling: float


@dataclass(frozen=True)
class LayerCause:
    """The layer that speaks most against an ordering.

    Attributes:
        acc: Of the method that the paper has in front, here, and of the other.
        laws: Constants of both in this layer, ``first`` and ``second``; ``None`` if not known.
    """

    layer: str
    acc: tuple[float, float]
    laws: Mapping[str, Constants | None]


@dataclass(frozen=True)
class Ordering:
    """One pair of methods.

    Attributes:
        first: The method whose Acc is larger in the paper.
        paper: Its Acc there, and the other's.
        difference: Acc of ``first`` minus that of ``second`` here, paired by draws.
        predicted: The same difference from the fitted laws; ``None`` if a layer has none.
        cause: Unless the ordering holds.
    """

    first: str
    second: str
    paper: tuple[float, float]
    difference: Interval
    verdict: Verdict
    predicted: float | None
    cause: LayerCause | None


def orderings(
    qualities: Mapping[str, Quality], paper: Mapping[str, float], built: Mapping[str, str], reading: str
) -> list[Ordering]:
    """Every pair of measured methods that a table orders, largest gaps of the table first.

    Args:
        qualities: By method's name here.
        paper: Acc by the table's own names.
        built: The method's name here, by that of the table.
        reading: Name of the curve to compare: all layers as one vector, or the mean over them.
    """
    found = []
    for one, other in combinations([name for name in paper if built[name] in qualities], 2):
        first, second = sorted((one, other), key=lambda name: -paper[name])
        pair = qualities[built[first]], qualities[built[second]]
        found.append(_compare(first, second, (paper[first], paper[second]), pair, reading))
    return sorted(found, key=lambda pair: pair.paper[1] - pair.paper[0])


def _compare(
    first: str, second: str, paper: tuple[float, float], pair: tuple[Quality, Quality], reading: str
) -> Ordering:
    copies = pair[0].copies
    values = [accuracy(copies, quality.curve(reading).cosines) for quality in pair]
    difference = mean_interval(values[0] - values[1])
    verdict: Verdict = "undecided"
    if difference.low is not None and difference.low > 0:
        verdict = "holds"
    elif difference.high is not None and difference.high < 0:
        verdict = "reversed"
    layers = pair[0].curve(reading).kind == "mean"
    laws = [_predicted(quality, copies, layers=layers, reading=reading) for quality in pair]
    predicted = None if laws[0] is None or laws[1] is None else laws[0] - laws[1]
    cause = None if verdict == "holds" else _cause(pair, copies)
    return Ordering(first, second, paper, difference, verdict, predicted, cause)


def constants(curve: Curve) -> Constants | None:
    """Of a layer.

    Where no input is coded it is the measured noise of a copy, which no cosine had a part in. A coded input's ceiling
    can only be fitted to the cosines; with few copies the two constants are fixed together, not one by one.
    """
    if curve.law is None:
        return None
    if curve.noise_of_one_copy is not None and curve.law.ceiling == UNCODED:
        return Constants(curve.noise_of_one_copy.value, 1.0)
    return Constants(curve.law.k * curve.law.rho.value, curve.law.ceiling.value)


def _predicted(quality: Quality, copies: Sequence[int], *, layers: bool, reading: str) -> float | None:
    curves = quality.layers if layers else (quality.curve(reading),)
    found = [_acc(curve, copies) for curve in curves]
    return None if None in found else float(np.mean([value for value in found if value is not None]))


def _acc(curve: Curve, copies: Sequence[int]) -> float | None:
    known = constants(curve)
    if known is None or curve.law is None:
        return None
    shape: Array = law(np.asarray(copies, float), known.k_rho, known.ceiling, 1.0, curve.law.order)
    return float(shape @ copy_weights(copies))


def _cause(pair: tuple[Quality, Quality], copies: Sequence[int]) -> LayerCause:
    accs = [[accuracy(copies, curve.cosines).mean() for curve in quality.layers] for quality in pair]
    at = int(np.argmax(np.array(accs[1]) - np.array(accs[0])))
    curves = pair[0].layers[at], pair[1].layers[at]
    laws = {key: constants(curve) for key, curve in zip(("first", "second"), curves, strict=True)}
    return LayerCause(curves[0].label, (float(accs[0][at]), float(accs[1][at])), laws)
