"""How good an LR gradient is: noise-to-signal of one copy, and the copies that a cosine takes.

The variance law (:mod:`alrsim.estimators.variance_law`) needs r, the variance of one copy over the squared norm of the
gradient. For a stage whose signal enters at values of m
elements per sample (the end of its segment), one copy with noise there alone has ``r = per_dim x m``: every dimension
of noise adds the same, and a stage's own factor ``per_dim`` is the inverse of the coherence of its samples. With noise
at S places at once, balanced so that each moves the loss alike, the losses carry S times the noise: ``r = S per_dim
m``. Over the whole gradient r is the mean of the stages' weighted by their share of its squared norm; an exact stage
has 0.

Where the numbers come from. On a ResNet-5 trained for 400 steps, sampled in the linear regime, the four convolutions
have per_dim 0.5 to 1.9 with the noise on their own output and 1.1 to 2.4 with the noise behind the last pooling, so
that m explains a factor of 16 and the factor itself stays within 5: the default is 1. Whole gradients measured with
``python -m benchmarks economics`` and ``gradcheck``: MLP 541 at 266 dimensions (2.0 each), ResNet-5 of width 8
995 at 10,250 (0.10, noise on pre-activations) and 629 at 5,258 (0.12, behind pooling and sum). A factor between 0.1 and
2 is a factor of 20 in copies: measure the model that you plan for.
"""

from collections import Counter
from collections.abc import Mapping
from math import isfinite
from typing import Any

from alrsim.errors import FileError
from alrsim.estimators import variance_law
from alrsim.estimators.variance_law import noise_to_signal
from alrsim.graph.stages import StageGraph
from alrsim.planner.candidate import NoiseMode
from alrsim.rules.options import RuleOptions
from alrsim.rules.segmentation import Segmentation, segmentation_of

DEFAULT_PER_DIM = 1.0
SOURCE = "default: 1 per noise dimension, as in a trained ResNet-5 (0.5 to 2.4 there); measure with gradcheck"


def shares(graph: StageGraph) -> list[float]:
    """Share of every stage in the squared norm of the gradient: equal for those with parameters; sums to 1."""
    trained = [stage.parameters > 0 for stage in graph.stages]
    return [flag / max(1, sum(trained)) for flag in trained]


def noise_of(graph: StageGraph, segmentation: Segmentation, per_dim: float = DEFAULT_PER_DIM) -> float:
    """r of one copy on the whole gradient, with joint noise at the end of every estimated segment.

    Args:
        per_dim: Noise-to-signal of one copy per noise dimension, of every stage.
    """
    ends: Counter[int] = Counter()
    for segment, noised in zip(segmentation.segment, segmentation.noised, strict=True):
        ends[segment] += sum(elements for _, elements in noised)
    rows = zip(shares(graph), segmentation.segment, strict=True)
    total = sum(share * per_dim * ends[segment] for share, segment in rows if segment in segmentation.ranks)
    return len(segmentation.ranks) * total


def cosine(noise: float, copies: int, mode: NoiseMode) -> float:
    """Expected cosine with the true gradient."""
    return variance_law.cosine(mode.k * noise, copies, mode.ceiling)


def most_noise(copies: int, target: float, mode: NoiseMode) -> float:
    """The largest r with which so many copies reach a cosine; negative where the mode's ceiling is below it."""
    return noise_to_signal(target, copies / mode.k, mode.ceiling)


def measured_per_dim(document: Mapping[str, Any], graph: StageGraph, where: str) -> tuple[float, str]:
    """The factor of a model from the JSON of ``gradcheck``: r of the whole gradient over its noise dimensions.

    Args:
        document: The JSON; its first method of kind LR without codes counts.
        graph: The model cut as there.

    Raises:
        FileError: it holds no such number.
    """
    segmentation = segmentation_of("lr", graph, RuleOptions())
    dims = sum(elements for row in segmentation.noised for _, elements in row) // max(1, graph.batch)
    for method in document.get("methods", ()):
        if method.get("input_code") != "plain" or method.get("weight_noise"):
            continue
        whole = next((curve for curve in method.get("curves", ()) if curve.get("kind") == "whole"), None)
        found = _one_copy(whole)
        if found is not None and dims:
            joint = method.get("scope") == "joint"
            per_dim = found / dims if joint else found * len(segmentation.ranks) / dims
            return per_dim, f"{where}: {found:.4g} for one copy of {method.get('method')} at {dims} noise dimensions"
    raise FileError(
        "holds no noise of one copy of the whole gradient for a method with noise on values and plain inputs",
        where=where,
        fix="save what gradcheck finds with `methods=lr`",
    )


def _one_copy(curve: Mapping[str, Any] | None) -> float | None:
    if curve is None:
        return None
    for row in (curve.get("noise_of_one_copy"), (curve.get("law") or {}).get("rho")):
        value = None if row is None else row.get("value")
        if value is not None and isfinite(value) and value > 0:
            return float(value)
    return None
