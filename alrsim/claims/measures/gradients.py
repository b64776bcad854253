"""Gradient quality: cosines with the true gradient, by the same tools as ``alrsim gradcheck``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from alrsim.claims.context import Context
from alrsim.claims.measures.training import SETTINGS, found
from alrsim.claims.rules import Measured
from alrsim.cost.cut import cut_graph
from alrsim.cost.stages import build_stages
from alrsim.datasets import load_splits, train_batch
from alrsim.estimators.policy import preset
from alrsim.execute.executor import Batch
from alrsim.execute.job import Settings
from alrsim.execute.program import build_program
from alrsim.frontend.torch_export import export_model
from alrsim.models import build
from alrsim.quality.gradcheck import LAYER_MEAN, OVERALL, Quality, gradcheck
from alrsim.quality.metrics import Array, accuracy, mean_interval, stability
from alrsim.quality.ordering import constants
from alrsim.quality.paper import METHODS
from alrsim.quality.reference import true_gradient, warm_start
from alrsim.quality.sampler import Sampler, Subject, subject_of
from alrsim.rules.options import RuleOptions
from alrsim.rules.policy import default_precision, plan_options
from alrsim.train import TrainJob

Changes = Mapping[str, str]


@dataclass(frozen=True)
class Site:
    """Where gradients are compared.

    Attributes:
        warm: Steps of BP before.
        copies: Ascending.
        draws: Independent repetitions.
    """

    model: str
    options: Mapping[str, str]
    data: str
    folder: str | None
    batch: int
    warm: int
    copies: tuple[int, ...]
    draws: int
    seed: int
    sigma: float = 0.02

    def words(self) -> str:
        return (
            f"{self.model} on {self.data}, batch {self.batch}, after {self.warm} steps of BP, sigma {self.sigma:g}, "
            f"up to {self.copies[-1]} copies, {self.draws} draws"
        )


def table_site(context: Context) -> Site:
    """Table 4's: ResNet-5, on CIFAR-10 where it is there."""
    folder = found(context, "cifar10")
    small = {"width": "8", "in_channels": "1", "image_size": "16"}
    copies = context.pick((10, 20, 50, 100, 200), (10, 50, 100, 200, 500, 1000, 2000))
    warm, draws, batch = context.pick((100, 4, 10), (400, 10, 20))
    if folder is not None:
        setting = SETTINGS["cifar10"]
        return Site(setting.model, {}, "cifar10", folder, batch, warm, copies, draws, context.seed)
    return Site("resnet5", small, "digits", None, batch, warm, copies, draws, context.seed)


def mlp_site(context: Context, copies: tuple[int, ...]) -> Site:
    """A small one for ablations."""
    return Site("mlp", {}, "digits", None, 50, 100, copies, context.pick(6, 20), context.seed)


@dataclass(frozen=True)
class Opened:
    """A site with its true gradient."""

    subject: Subject
    truth: Array


_OPENED: dict[str, Opened] = {}


def _open(site: Site) -> Opened:
    key = repr((site.model, site.options, site.data, site.folder, site.batch, site.warm, site.seed))
    if key not in _OPENED:
        model = build(site.model, **{**site.options, "seed": str(site.seed)})
        folder = None if site.folder is None else Path(site.folder)
        splits = load_splits(site.data, model, folder=folder)
        exported = export_model(model, site.batch)
        stages = build_stages(exported.graph, cut_graph(exported.graph, "layer"))
        program = build_program(exported.graph, exported.program, stages)

        def batch(step: int) -> Batch:
            samples = train_batch(splits, site.batch, step, site.seed)
            return Batch(samples.inputs, samples.labels)

        program = warm_start(model.module, program, lambda at: batch(at + 1), site.warm)
        subject = subject_of(program, stages, batch(0))
        _, gradient = true_gradient(model.module, program.parameters, subject.batch)
        truth = np.concatenate([gradient[name].numpy().ravel() for name in subject.names]).astype(np.float64)
        _OPENED[key] = Opened(subject, truth)
    return _OPENED[key]


def options_of(subject: Subject, method: str, changes: Changes) -> RuleOptions:
    """A preset's options on the subject's stages."""
    flags = [stage.parameters > 0 for stage in subject.stages.stages]
    options = plan_options(preset(method).plan(flags, **changes), RuleOptions(update=False))
    return replace(options, precision=default_precision(options))


def curves(context: Context, site: Site, method: str, changes: Changes | None = None) -> dict[str, Any]:
    """Cosines by curve: ``{"names", "cosines" (curve, draw, copies), "ceilings", "noise"}``; done once."""
    changes = changes or {}

    def measure() -> dict[str, Any]:
        context.tell(f"gradients of {method}{''.join(f' {v}' for v in changes.values())}: {site.words()}")
        opened = _open(site)
        options = {method: options_of(opened.subject, method, changes)}
        settings = Settings(sigma=site.sigma, seed=site.seed)
        (quality,) = gradcheck(opened.subject, opened.truth, options, settings, site.copies, site.draws)
        return _as_plain(quality)

    what = {"part": "gradients", "site": repr(site), "method": method, "changes": dict(changes)}
    plain: dict[str, Any] = context.once(what, measure)
    return plain


def _as_plain(quality: Quality) -> dict[str, Any]:
    laws = [constants(curve) for curve in quality.curves]
    return {
        "names": [curve.name for curve in quality.curves],
        "kinds": [curve.kind for curve in quality.curves],
        "cosines": [curve.cosines.tolist() for curve in quality.curves],
        "ceilings": [None if law is None else law[1] for law in laws],
        "noise": [None if law is None else law[0] for law in laws],
    }


def _cosines(plain: Mapping[str, Any], name: str = LAYER_MEAN) -> Array:
    """``(draws, copies)`` of one curve; a number picks a layer, -1 the last."""
    return np.array(plain["cosines"][plain["names"].index(name)])


def _layer(plain: Mapping[str, Any], index: int) -> tuple[str, Array]:
    layers = [at for at, kind in enumerate(plain["kinds"]) if kind == "layer"]
    return plain["names"][layers[index]], np.array(plain["cosines"][layers[index]])


def ceiling(plain: Mapping[str, Any]) -> float:
    """Mean over layers of the cosine's fitted limit for many copies."""
    known = [
        value
        for value, kind in zip(plain["ceilings"], plain["kinds"], strict=True)
        if kind == "layer" and value is not None
    ]
    return float(np.mean(known))


def _of_table(context: Context, column: str) -> dict[str, Any]:
    return curves(context, table_site(context), METHODS[column])


def table_acc(context: Context, column: str) -> Measured:
    """Acc (eq. 7) of a column of Table 4, mean over layers; the whole gradient's in the detail."""
    site, plain = table_site(context), _of_table(context, column)
    band = mean_interval(accuracy(site.copies, _cosines(plain)))
    whole = float(accuracy(site.copies, _cosines(plain, OVERALL)).mean())
    reason = f"the whole gradient as one vector has {whole:.2f}; data, copies and state of training are not the paper's"
    detail = {"whole gradient": whole, "mean ceiling": ceiling(plain)}
    return Measured(band.value, band.low, band.high, site.words(), reason, detail)


def table_order(context: Context, first: str, second: str) -> Measured:
    """Acc of one column minus that of another, paired by draw."""
    site = table_site(context)
    plain = _of_table(context, first), _of_table(context, second)
    values = [accuracy(site.copies, _cosines(one)) for one in plain]
    band = mean_interval(values[0] - values[1])
    gaps = []
    for index in range(plain[0]["kinds"].count("layer")):
        name, one = _layer(plain[0], index)
        gaps.append(
            (float((accuracy(site.copies, one) - accuracy(site.copies, _layer(plain[1], index)[1])).mean()), name)
        )
    worst = min(gaps)
    reason = f"Acc {values[0].mean():.2f} ({first}) and {values[1].mean():.2f} ({second})"
    if worst[0] < 0:
        reason += f"; layer {worst[1]} speaks most against it, by {-worst[0]:.2f}"
    detail = {first: float(values[0].mean()), second: float(values[1].mean()), **{name: gap for gap, name in gaps}}
    return Measured(band.value, band.low, band.high, site.words(), reason, detail)


def table_drop(context: Context) -> Measured:
    """Mean over LR, ES and Hybrid of what sign encoding takes off Acc."""
    return _over_pairs(context, lambda site, plain: accuracy(site.copies, _cosines(plain)))


def table_stability(context: Context) -> Measured:
    """Mean over LR, ES and Hybrid of what sign encoding takes off Sta (eq. 8)."""
    return _over_pairs(context, lambda site, plain: stability(site.copies, _cosines(plain)))


def _over_pairs(context: Context, read: Any) -> Measured:
    site, pairs = table_site(context), (("LR", "ALR"), ("ES", "AES"), ("Hybrid", "A-Hybrid"))
    detail: dict[str, Any] = {}
    drops, limits = [], []
    for plain, coded in pairs:
        values = read(site, _of_table(context, plain)), read(site, _of_table(context, coded))
        drops.append(values[0] - values[1])
        detail |= {plain: float(values[0].mean()), coded: float(values[1].mean())}
        limits.append(f"{coded} {ceiling(_of_table(context, coded)):.2f}")
    band = mean_interval(np.mean(drops, axis=0))
    reason = (
        f"measured ceilings of the codes (mean over layers): {', '.join(limits)}; the sign of Gaussian noise has pi/2 "
        "times its variance"
    )
    return Measured(band.value, band.low, band.high, site.words(), reason, detail)


def last_layer(context: Context, column: str) -> Measured:
    """Cosine of the fully connected layer with the most copies."""
    site, plain = table_site(context), _of_table(context, column)
    name, cosines = _layer(plain, -1)
    band = mean_interval(cosines[:, -1])
    detail = {"layer": name, "ceiling": plain["ceilings"][plain["names"].index(name)]}
    how = f"{site.words()}: layer {name} with {site.copies[-1]} copies"
    return Measured(
        band.value, band.low, band.high, how, f"fitted ceiling of the layer {detail['ceiling']:.2f}", detail
    )


def thinner(context: Context, first: str, second: str) -> Measured:
    """Spread of the cosine over draws, mean over layers and copies: of one column minus the other's."""
    site = table_site(context)

    def widths(column: str) -> Array:
        plain = _of_table(context, column)
        stacked = [_layer(plain, index)[1] for index in range(plain["kinds"].count("layer"))]
        return np.array([layer.std(0, ddof=1) for layer in stacked]).ravel()

    one, other = widths(first), widths(second)
    band = mean_interval(one - other)
    detail = {first: float(one.mean()), second: float(other.mean()), "ceiling": ceiling(_of_table(context, second))}
    reason = f"spread {one.mean():.3f} ({first}) and {other.mean():.3f} ({second})"
    how = f"{site.words()}: standard deviation over draws, paired by layer and number of copies"
    return Measured(band.value, band.low, band.high, how, reason, detail)


def more_copies(context: Context) -> Measured:
    """Cosine of LR with five times the copies over that with one times."""
    site, plain = table_site(context), _of_table(context, "LR")
    few = context.pick(20, 100)
    cosines = _cosines(plain)
    small, large = cosines[:, site.copies.index(few)], cosines[:, site.copies.index(5 * few)]
    band = mean_interval(large / small.mean())
    detail = {f"{few} copies": float(small.mean()), f"{5 * few} copies": float(large.mean())}
    how = f"{site.words()}: mean over layers at {5 * few} over {few} copies"
    reason = f"cosines {small.mean():.2f} and {large.mean():.2f}; the law cos = 1/sqrt(1 + rho/n) allows 1 to sqrt(5)"
    return Measured(band.value, band.low, band.high, how, reason, detail)


def unbiased(context: Context) -> Measured:
    """Mean of <estimate, true gradient> / |true gradient|^2 over draws of LR: 1 for an unbiased estimate."""
    site = replace(mlp_site(context, (context.pick(200, 1000),)), draws=context.pick(20, 60))

    def measure() -> list[float]:
        context.tell(f"projections of LR: {site.words()}")
        opened = _open(site)
        options = options_of(opened.subject, "lr", {"baseline": "antithetic"})
        sampler = Sampler(opened.subject, options, Settings(sigma=site.sigma, seed=site.seed))
        square = float(opened.truth @ opened.truth)
        return [
            float(estimate.gradient @ opened.truth) / square
            for draw in range(site.draws)
            for estimate in sampler.curve(site.copies, draw, fresh=False)
        ]

    values = np.array(context.once({"part": "unbiased", "site": repr(site)}, measure))
    band = mean_interval(values)
    how = f"{site.words()}: antithetic LR projected on the gradient of the loss without noise"
    return Measured(band.value, band.low, band.high, how, detail={"standard deviation": float(values.std(ddof=1))})


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
        return _cosines(curves(context, site, method, changes))[:, -1]

    one, other = cosines(*first), cosines(*second)
    band = mean_interval(one - other)
    named = {"first": first, "second": second, **(more or {})}
    detail = {
        f"{method} {' '.join(changes.values())} x{round(copies * factor)}".replace("  ", " "): round(float(c.mean()), 4)
        for method, changes, factor in named.values()
        for c in [cosines(method, changes, factor)]
    }
    reason = ", ".join(f"{key}: {value:.2f}" for key, value in detail.items())
    return Measured(band.value, band.low, band.high, mlp_site(context, (copies,)).words(), reason, detail)


def front_and_back(context: Context, layer: int) -> Measured:
    """Cosine of ES minus that of LR in one layer of ResNet-5 (0 the first, -1 the last), mean over copies."""
    site = table_site(context)
    es, lr = _of_table(context, "ES"), _of_table(context, "LR")
    name, first = _layer(es, layer)
    second = _layer(lr, layer)[1]
    values = accuracy(site.copies, first), accuracy(site.copies, second)
    band = mean_interval(values[0] - values[1])
    reason = f"layer {name}: ES {values[0].mean():.2f}, LR {values[1].mean():.2f}"
    return Measured(band.value, band.low, band.high, f"{site.words()}: layer {name}", reason)


def encoded_against_plain(context: Context, job: TrainJob) -> tuple[float, float, float]:
    """Cosines of LR and ALR, mean over layers, on a training job's model, and the ceiling of ALR's codes."""
    options = {key: value for key, value in job.model_options.items() if key != "seed"}
    copies = (max(2, job.copies // 2), job.copies, 4 * job.copies)
    site = Site(job.model, options, job.data, job.data_folder, 20, 100, copies, 4, context.seed)
    plain, coded = curves(context, site, "lr"), curves(context, site, "alr")
    return float(_cosines(plain)[:, 1].mean()), float(_cosines(coded)[:, 1].mean()), ceiling(coded)
