"""Where gradients are compared: a model after some steps, its true gradient, and every method's cosines with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from alrsim.estimators.codes import decode, encode
from alrsim.estimators.variance_law import Array
from alrsim.execution.job import Settings
from alrsim.execution.kernels.losses import sample_losses
from alrsim.experiments.context import Context
from alrsim.experiments.measures.training import SETTINGS, found
from alrsim.hardware.precision import Precision
from alrsim.quality.curves import LAYER_MEAN, Quality, measure_quality
from alrsim.quality.metrics import cosine
from alrsim.quality.reference import true_gradient, warm_start
from alrsim.quality.sampler import Subject, flat, subject_of
from alrsim.rules.options import RuleOptions
from alrsim.steps.chain import rule_options, trainable
from alrsim.steps.method import parse_method
from alrsim.steps.model import cut_stages
from alrsim.steps.options import StepOptions
from alrsim.training.job import TrainJob
from alrsim.training.setup import feed_job

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

    module: nn.Module
    subject: Subject
    truth: Array


_OPENED: dict[str, Opened] = {}


def open_site(site: Site) -> Opened:
    key = repr((site.model, site.options, site.data, site.folder, site.batch, site.warm, site.seed))
    if key not in _OPENED:
        options = {**site.options, "seed": str(site.seed)}
        fed = feed_job(TrainJob(site.model, data=site.data, model_options=options, data_folder=site.folder))
        batch = partial(fed.batch, site.batch, seed=site.seed)
        module, sized = fed.torch_model.module, fed.model.at(site.batch)
        stages = cut_stages(sized.graph, "layer")
        program = fed.model.program(sized, stages)
        program = warm_start(module, program, lambda at: batch(step=at + 1), site.warm)
        subject = subject_of(program, stages, batch(step=0))
        _, gradient = true_gradient(module, program.parameters, subject.batch)
        _OPENED[key] = Opened(module, subject, flat(subject, gradient))
    return _OPENED[key]


def options_of(subject: Subject, method: str, changes: Changes) -> RuleOptions:
    """A preset's options on the subject's stages."""
    asked = StepOptions.take({"microbatches": 1, "update": False, **changes})
    return rule_options(asked, parse_method(method), trainable(subject.stages))


def curves(context: Context, site: Site, method: str, changes: Changes | None = None) -> dict[str, Any]:
    """Cosines by curve: ``{"names", "kinds", "cosines" (curve, draw, copies)}``; done once."""
    changes = changes or {}

    def measure() -> dict[str, Any]:
        opened = open_site(site)
        options = {method: options_of(opened.subject, method, changes)}
        settings = Settings(sigma=site.sigma, seed=site.seed)
        (quality,) = measure_quality(opened.subject, opened.truth, options, settings, site.copies, site.draws)
        return _as_plain(quality)

    what = {"part": "gradients", "site": repr(site), "method": method, "changes": dict(changes)}
    words = f"gradients of {method}{''.join(f' {v}' for v in changes.values())}: {site.words()}"
    plain: dict[str, Any] = context.once(what, measure, words=words)
    return plain


def _as_plain(quality: Quality) -> dict[str, Any]:
    return {
        "names": [curve.name for curve in quality.curves],
        "kinds": [curve.kind for curve in quality.curves],
        "cosines": [curve.cosines.tolist() for curve in quality.curves],
    }


def cosines_of(plain: Mapping[str, Any], name: str = LAYER_MEAN) -> Array:
    """``(draws, copies)`` of one curve; a number picks a layer, -1 the last."""
    return np.array(plain["cosines"][plain["names"].index(name)])


def layer_of(plain: Mapping[str, Any], index: int) -> tuple[str, Array]:
    layers = [at for at, kind in enumerate(plain["kinds"]) if kind == "layer"]
    return plain["names"][layers[index]], np.array(plain["cosines"][layers[index]])


def sign_ceilings(context: Context, site: Site) -> list[float]:
    """``c_x`` of every convolution and linear layer: cosine of the true gradient with that from signs of inputs.

    Exact: the layer's gradient is bilinear in its input and the true signal behind it, and only the input is coded. No
    number of copies takes a sign-coded estimate above it.
    """

    def measure() -> list[float]:
        opened = open_site(site)
        seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}

        def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            seen[layer] = inputs[0].detach(), output

        layers = [one for one in opened.module.modules() if isinstance(one, nn.Linear | nn.Conv1d | nn.Conv2d)]
        handles = [layer.register_forward_hook(note) for layer in layers]
        try:
            batch, parameters = opened.subject.batch, dict(opened.subject.program.parameters)
            leaves = {name: value.detach().clone().requires_grad_() for name, value in parameters.items()}
            loss = sample_losses(functional_call(opened.module, leaves, batch.inputs), batch.targets).mean()
            signals = torch.autograd.grad(loss, [output for _, output in seen.values()])
        finally:
            for handle in handles:
                handle.remove()
        return [
            _coded_cosine(layer, value, signal)
            for (layer, (value, _)), signal in zip(seen.items(), signals, strict=True)
        ]

    found: list[float] = context.once({"part": "ceilings", "site": repr(site)}, measure)
    return found


def _coded_cosine(layer: nn.Module, value: Tensor, signal: Tensor) -> float:
    def gradient(entering: Tensor) -> Array:
        weights = list(layer.parameters())
        found = torch.autograd.grad(layer(entering), weights, signal)
        return np.concatenate([one.numpy().ravel() for one in found]).astype(np.float64)

    with torch.enable_grad():
        return cosine(gradient(decode(encode(value, Precision.INT8, "sign"))), gradient(value))
