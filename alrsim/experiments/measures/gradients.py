"""Gradient quality: what the papers say of cosines with the true gradient."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from alrsim.estimators.policy import HYBRID_STAGES
from alrsim.estimators.variance_law import Array
from alrsim.execution.job import Settings
from alrsim.experiments.context import Context
from alrsim.experiments.measures.site import (
    Changes,
    Site,
    cosines_of,
    curves,
    layer_of,
    mlp_site,
    open_site,
    options_of,
    sign_ceilings,
    table_site,
)
from alrsim.experiments.rules import Measured
from alrsim.quality.curves import OVERALL
from alrsim.quality.metrics import accuracy, copy_weights, fit_law, stability
from alrsim.quality.paper import METHODS
from alrsim.quality.sampler import Sampler
from alrsim.training.job import TrainJob

FULL_RANGE = (10, 20, 50, 100, 200, 500, 1000, 2000)
"""Copies of the paper's Table 4 and Figure 5; a quick run goes less far and follows the variance law from there."""

CODED = ("ALR", "A-Hybrid")
"""Columns whose LR layers see signs of their inputs."""


def _of_table(context: Context, column: str, changes: Changes | None = None) -> dict[str, Any]:
    return curves(context, table_site(context), METHODS[column], changes)


def _ceilings(context: Context, column: str) -> list[float]:
    """``c_x`` of every layer of a column: 1 where its input is kept as it is (ES keeps none)."""
    measured = sign_ceilings(context, table_site(context))
    front = HYBRID_STAGES if column == "A-Hybrid" else 0
    return [value if column in CODED and at >= front else 1.0 for at, value in enumerate(measured)]


def _at_full_range(copies: Sequence[int], cosines: Array, ceiling: float) -> Array:
    """A layer's cosines with :data:`FULL_RANGE` copies by the variance law ``c / sqrt(1 + R / n)``, R fitted."""
    fitted = fit_law(copies, np.asarray(cosines / ceiling))
    return np.asarray(ceiling * fitted.at(np.array(FULL_RANGE, float)))


def table_acc(context: Context, column: str) -> Measured:
    """Acc (eq. 7) of a column of Table 4, mean over layers; the whole gradient's in the detail."""
    site, plain = table_site(context), _of_table(context, column)
    values = accuracy(site.copies, cosines_of(plain))
    whole = float(accuracy(site.copies, cosines_of(plain, OVERALL)).mean())
    how, measured = site.words(), float(values.mean())
    if site.copies[-1] < FULL_RANGE[-1]:
        limits = _ceilings(context, column)
        laws = [_at_full_range(site.copies, layer_of(plain, at)[1], limit) for at, limit in enumerate(limits)]
        values = values * float(np.mean(laws, axis=0) @ copy_weights(FULL_RANGE)) / measured
        how += f"; from there to {FULL_RANGE[-1]} by the variance law"
    reason = f"the whole gradient as one vector has {whole:.2f}; data, copies and state of training are not the paper's"
    detail = {"measured range alone": measured, "whole gradient, measured range": whole}
    return Measured.mean(values, how, reason, detail)


def table_order(context: Context, first: str, second: str, changes: Changes | None = None) -> Measured:
    """Acc of one column minus that of another, paired by draw.

    Args:
        changes: Of both estimators.
    """
    site = table_site(context)
    plain = _of_table(context, first, changes), _of_table(context, second, changes)
    values = [accuracy(site.copies, cosines_of(one)) for one in plain]
    gaps = []
    for index in range(plain[0]["kinds"].count("layer")):
        name, one = layer_of(plain[0], index)
        gaps.append(
            (float((accuracy(site.copies, one) - accuracy(site.copies, layer_of(plain[1], index)[1])).mean()), name)
        )
    worst = min(gaps)
    reason = f"Acc {values[0].mean():.2f} ({first}) and {values[1].mean():.2f} ({second})"
    if worst[0] < 0:
        reason += f"; layer {worst[1]} speaks most against it, by {-worst[0]:.2f}"
    detail = {first: float(values[0].mean()), second: float(values[1].mean()), **{name: gap for gap, name in gaps}}
    how = site.words() + "".join(f", {key} {value}" for key, value in (changes or {}).items())
    return Measured.mean(values[0] - values[1], how, reason, detail)


def table_drop(context: Context) -> Measured:
    """Mean over LR, ES and Hybrid of what sign encoding takes off Acc."""
    return _over_pairs(context, lambda site, plain: accuracy(site.copies, cosines_of(plain)))


def table_stability(context: Context) -> Measured:
    """Mean over LR, ES and Hybrid of what sign encoding takes off Sta (eq. 8)."""
    return _over_pairs(context, lambda site, plain: stability(site.copies, cosines_of(plain)))


def _over_pairs(context: Context, read: Callable[[Site, dict[str, Any]], Array]) -> Measured:
    site, pairs = table_site(context), (("LR", "ALR"), ("ES", "AES"), ("Hybrid", "A-Hybrid"))
    detail: dict[str, Any] = {}
    drops = []
    for plain, coded in pairs:
        values = read(site, _of_table(context, plain)), read(site, _of_table(context, coded))
        drops.append(values[0] - values[1])
        detail |= {plain: float(values[0].mean()), coded: float(values[1].mean())}
    limits = ", ".join(f"{value:.2f}" for value in sign_ceilings(context, site))
    listed = ", ".join(f"{name} {value:.3f}" for name, value in detail.items())
    reason = (
        f"{listed}; measured ceilings c_x of signs of inputs, layer by layer: {limits}; the sign of Gaussian noise has "
        "pi/2 of its variance"
    )
    return Measured.mean(np.mean(drops, axis=0), site.words(), reason, detail)


def last_layer(context: Context, column: str) -> Measured:
    """Cosine of the fully connected layer with 2,000 copies."""
    site, plain = table_site(context), _of_table(context, column)
    name, cosines = layer_of(plain, -1)
    limit, measured = _ceilings(context, column)[-1], float(cosines[:, -1].mean())
    how, values = f"{site.words()}: layer {name}", cosines[:, -1]
    if site.copies[-1] < FULL_RANGE[-1]:
        values = values * float(_at_full_range(site.copies, cosines, limit)[-1]) / measured
        how += f"; from there to {FULL_RANGE[-1]} by the variance law"
    detail = {"layer": name, f"with {site.copies[-1]} copies": measured, "ceiling c_x": limit}
    reason = f"measured ceiling of the layer's code c_x = {limit:.2f}; {measured:.2f} with {site.copies[-1]} copies"
    return Measured.mean(values, how, reason, detail)


def thinner(context: Context, first: str, second: str) -> Measured:
    """Spread of the cosine over draws, mean over layers and copies: of one column minus the other's."""
    site = table_site(context)

    def widths(column: str) -> Array:
        plain = _of_table(context, column)
        stacked = [layer_of(plain, index)[1] for index in range(plain["kinds"].count("layer"))]
        return np.array([layer.std(0, ddof=1) for layer in stacked]).ravel()

    one, other = widths(first), widths(second)
    detail = {first: float(one.mean()), second: float(other.mean())}
    reason = f"spread {one.mean():.3f} ({first}) and {other.mean():.3f} ({second})"
    how = f"{site.words()}: standard deviation over draws, paired by layer and number of copies"
    return Measured.mean(one - other, how, reason, detail)


def more_copies(context: Context) -> Measured:
    """Cosine of LR with five times the copies over that with one times."""
    site, plain = table_site(context), _of_table(context, "LR")
    few = context.pick(20, 100)
    cosines = cosines_of(plain)
    small, large = cosines[:, site.copies.index(few)], cosines[:, site.copies.index(5 * few)]
    detail = {f"{few} copies": float(small.mean()), f"{5 * few} copies": float(large.mean())}
    how = f"{site.words()}: mean over layers at {5 * few} over {few} copies"
    reason = f"cosines {small.mean():.2f} and {large.mean():.2f}; the law cos = 1/sqrt(1 + rho/n) allows 1 to sqrt(5)"
    return Measured.mean(large / small.mean(), how, reason, detail)


def unbiased(context: Context) -> Measured:
    """Mean of <estimate, true gradient> / |true gradient|^2 over draws of LR: 1 for an unbiased estimate."""
    site = replace(mlp_site(context, (context.pick(200, 1000),)), draws=context.pick(20, 60))

    def measure() -> list[float]:
        opened = open_site(site)
        options = options_of(opened.subject, "lr", {"baseline": "antithetic"})
        sampler = Sampler(opened.subject, options, Settings(sigma=site.sigma, seed=site.seed))
        square = float(opened.truth @ opened.truth)
        return [
            float(estimate.gradient @ opened.truth) / square
            for draw in range(site.draws)
            for estimate in sampler.curve(site.copies, draw, fresh=False)
        ]

    values = np.array(
        context.once({"part": "unbiased", "site": repr(site)}, measure, words=f"projections of LR: {site.words()}")
    )
    how = f"{site.words()}: antithetic LR projected on the gradient of the loss without noise"
    return Measured.mean(values, how, detail={"standard deviation": float(values.std(ddof=1))})


def ablation(
    context: Context,
    first: Sequence[Any],
    second: Sequence[Any],
    copies: int = 40,
    more: Mapping[str, Sequence[Any]] | None = None,
) -> Measured:
    """Cosine, mean over layers, of one way to estimate minus another's.

    Args:
        first: Method, changes, and factor on the copies.
        more: Others for the detail.
    """

    def cosines(method: str, changes: Changes, factor: float) -> Array:
        site = mlp_site(context, (round(copies * factor),))
        return cosines_of(curves(context, site, method, changes))[:, -1]

    one, other = cosines(*first), cosines(*second)
    named = {"first": first, "second": second, **(more or {})}
    detail = {
        f"{method} {' '.join(changes.values())} x{round(copies * factor)}".replace("  ", " "): round(float(c.mean()), 4)
        for method, changes, factor in named.values()
        for c in [cosines(method, changes, factor)]
    }
    reason = ", ".join(f"{key}: {value:.2f}" for key, value in detail.items())
    return Measured.mean(one - other, mlp_site(context, (copies,)).words(), reason, detail)


def front_and_back(context: Context, layer: int) -> Measured:
    """Cosine of ES minus that of LR in one layer of ResNet-5 (0 the first, -1 the last), mean over copies; noise in one
    layer at a time, as in that paper."""
    site, changes = table_site(context), {"scope": "layerwise"}
    es, lr = _of_table(context, "ES", changes), _of_table(context, "LR", changes)
    name, first = layer_of(es, layer)
    second = layer_of(lr, layer)[1]
    values = accuracy(site.copies, first), accuracy(site.copies, second)
    reason = f"layer {name}: ES {values[0].mean():.2f}, LR {values[1].mean():.2f}"
    return Measured.mean(values[0] - values[1], f"{site.words()}, layer-wise: layer {name}", reason)


def front_layers(context: Context, job: TrainJob) -> dict[str, float]:
    """Cosines of ES and LR in the first layers (those where Hybrid has noise on weights) of a training job's model."""
    site = job_site(context, job)
    found = {}
    for method in ("es", "lr"):
        plain = curves(context, site, method)
        layers = [layer_of(plain, at)[1][:, 1].mean() for at in range(HYBRID_STAGES)]
        found[method.upper()] = float(np.mean(layers))
    return found


def job_site(context: Context, job: TrainJob) -> Site:
    """The model and data of a training job; its copies are the middle of three."""
    options = {key: value for key, value in job.model_options.items() if key != "seed"}
    copies = (max(2, job.copies // 2), job.copies, 4 * job.copies)
    return Site(job.model, options, job.data, job.data_folder, 20, 100, copies, 4, context.seed)


def encoded_against_plain(context: Context, job: TrainJob) -> tuple[float, float, float]:
    """Cosines of LR and ALR, mean over layers, on a training job's model, and the mean ceiling of signs of inputs."""
    site = job_site(context, job)
    plain, coded = curves(context, site, "lr"), curves(context, site, "alr")
    return (
        float(cosines_of(plain)[:, 1].mean()),
        float(cosines_of(coded)[:, 1].mean()),
        float(np.mean(sign_ceilings(context, site))),
    )
