"""A gradient check as JSON (schema ``gradcheck.schema.json``)."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

from alrsim.quality.choose import Suggestion
from alrsim.quality.gradcheck import LAYER_MEAN, OVERALL, Curve, Quality
from alrsim.quality.metrics import Interval
from alrsim.quality.ordering import LayerCause, Ordering, orderings
from alrsim.quality.paper import ACC, COLUMNS, METHODS, SETUP, STA

BANDS = (
    "95 %: Student's t over the draws for cosine, acc, sta and noise; Student's t times the spread of a bootstrap over "
    "the draws for rho (in its logarithm) and ceiling"
)


READINGS = {"mean_over_layers": LAYER_MEAN, "whole_gradient": OVERALL}
"""Two readings of 'the' cosine of a gradient."""


def interval(value: Interval | None) -> dict[str, float | None] | None:
    """Value, low and high."""
    return None if value is None else {"value": value.value, "low": value.low, "high": value.high}


def quality_document(quality: Quality, stages: int) -> dict[str, Any]:
    """One method, on a model of so many stages."""
    options = quality.options
    return {
        "method": quality.method,
        "noise": options.noise,
        "baseline": options.baseline,
        "scope": options.scope,
        "reduction": options.reduction,
        "input_code": options.input_code,
        "noise_code": options.noise_code,
        "weight_noise": list(options.weight_noise),
        "weight_code": quality.settings.weight_code,
        "mask": quality.settings.mask,
        "sigmas": [quality.settings.sigma_of(stage) for stage in range(stages)],
        "formats": {"saved": options.precision.saved.value, "noise": options.precision.noise.value},
        "seconds": round(quality.seconds, 3),
        "curves": [curve_document(curve) for curve in quality.curves],
    }


def curve_document(curve: Curve) -> dict[str, Any]:
    """One layer, or all of them."""
    law = curve.law
    return {
        "kind": curve.kind,
        "name": curve.name,
        "stage": curve.index if curve.index >= 0 else None,
        "parameters": curve.parameters,
        "cosine": [interval(point) for point in curve.band()],
        "cosine_std": None if len(curve.cosines) < 2 else curve.cosines.std(0, ddof=1).tolist(),
        "relative_variance": None if curve.variance is None else curve.variance.tolist(),
        "acc": interval(curve.acc),
        "sta": interval(curve.sta),
        "noise_of_one_copy": interval(curve.noise),
        "law": None
        if law is None
        else {
            "rho": interval(law.rho),
            "ceiling": interval(law.ceiling),
            "k": law.k,
            "order": law.order,
            "determined": law.determined,
        },
        "expected_noise": curve.expected,
    }


def table4(qualities: Sequence[Quality]) -> dict[str, Any]:
    """The shape of the paper's Table 4, the paper's numbers beside ours, in both readings of 'the' cosine, and which of
    its orderings hold."""
    measured = {quality.method: quality for quality in qualities}
    columns = []
    for name in COLUMNS:
        ours = measured.get(METHODS[name])
        status = "measured" if ours is not None else "not asked for"
        column: dict[str, Any] = {"method": name, "paper": {"acc": ACC[name], "sta": STA[name]}, "status": status}
        for key, curve in READINGS.items():
            found = None if ours is None else ours.curve(curve)
            column[key] = None if found is None else {"acc": interval(found.acc), "sta": interval(found.sta)}
        columns.append(column)
    compared = {
        key: [_ordering_document(pair) for pair in orderings(measured, ACC, METHODS, curve)]
        for key, curve in READINGS.items()
    }
    return {"paper_setup": SETUP, "columns": columns, "orderings": compared}


def _ordering_document(pair: Ordering) -> dict[str, Any]:
    return {
        "first": pair.first,
        "second": pair.second,
        "paper": list(pair.paper),
        "difference": interval(pair.difference),
        "verdict": pair.verdict,
        "predicted": pair.predicted,
        "cause": None if pair.cause is None else _cause_document(pair.cause),
    }


def _cause_document(cause: LayerCause) -> dict[str, Any]:
    laws = {"first": cause.law_first, "second": cause.law_second}
    return {
        "layer": cause.label,
        "acc": [cause.first, cause.second],
        "laws": {key: None if one is None else {"k_rho": one[0], "ceiling": one[1]} for key, one in laws.items()},
    }


def suggestion_document(suggestion: Suggestion) -> dict[str, Any]:
    """What ``--suggest`` found."""
    layers = [
        {
            "stage": layer.stage,
            "name": layer.name,
            "parameters": layer.parameters,
            "noise_on_output": layer.lr if isfinite(layer.lr) else None,
            "noise_on_parameters": layer.es,
            "ceiling": layer.ceiling,
            "kind": layer.kind,
            "copies": layer.copies,
        }
        for layer in suggestion.layers
    ]
    return {"target": suggestion.target, "layers": layers, "copies": max(one.copies for one in suggestion.plan)}
