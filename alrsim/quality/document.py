"""A gradient check as JSON (schema ``gradcheck.schema.json``)."""

from collections.abc import Sequence
from typing import Any

from alrsim.quality.gradcheck import LAYER_MEAN, OVERALL, Curve, Quality
from alrsim.quality.metrics import Interval
from alrsim.quality.paper import ACC, BUILT, COLUMNS, NOT_BUILT, SETUP, STA

BANDS = (
    "95 %: Student's t over the draws for cosine, acc, sta and noise; Student's t times the spread of a bootstrap over "
    "the draws for rho (in its logarithm) and ceiling"
)


def interval(value: Interval | None) -> dict[str, float | None] | None:
    """Value, low and high."""
    return None if value is None else {"value": value.value, "low": value.low, "high": value.high}


def quality_document(quality: Quality) -> dict[str, Any]:
    """One method."""
    options = quality.options
    return {
        "method": quality.method,
        "saved": options.precision.saved.value,
        "noise": options.precision.noise.value,
        "signs": options.signs,
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
        else {"rho": interval(law.rho), "ceiling": interval(law.ceiling), "k": law.k, "determined": law.determined},
    }


def table4(qualities: Sequence[Quality]) -> dict[str, Any]:
    """The shape of the paper's Table 4, the paper's numbers beside ours, in both readings of 'the' cosine."""
    measured = {quality.method: quality for quality in qualities}
    columns = []
    for name in COLUMNS:
        ours = measured.get(BUILT.get(name, ""))
        status = NOT_BUILT if name not in BUILT else "measured" if ours is not None else "not asked for"
        column: dict[str, Any] = {"method": name, "paper": {"acc": ACC[name], "sta": STA[name]}, "status": status}
        for key, curve in (("mean_over_layers", LAYER_MEAN), ("whole_gradient", OVERALL)):
            found = None if ours is None else ours.curve(curve)
            column[key] = None if found is None else {"acc": interval(found.acc), "sta": interval(found.sta)}
        columns.append(column)
    return {"paper_setup": SETUP, "columns": columns}
