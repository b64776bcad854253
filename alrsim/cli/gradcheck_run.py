"""What ``alrsim gradcheck`` does between reading the options and showing the result."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from alrsim.cli.model import LoadedModel
from alrsim.cli.output import progress, warn
from alrsim.cli.parse import MethodName
from alrsim.cli.pipeline import Settings, cut_stages, rule_options, trainable
from alrsim.errors import OptionError
from alrsim.estimators.policy import SigmaRule, WeightCode
from alrsim.graph.stages import StageGraph
from alrsim.rules.options import RuleOptions

if TYPE_CHECKING:
    from alrsim.estimators.variance_law import Array
    from alrsim.execution.executor import Batch
    from alrsim.execution.job import Mask
    from alrsim.execution.job import Settings as Numbers
    from alrsim.execution.programs.program import Program
    from alrsim.quality.choose import Suggestion
    from alrsim.quality.gradcheck import Quality
    from alrsim.quality.sampler import Subject


@dataclass(frozen=True)
class Asked:
    """What was typed, checked.

    Attributes:
        methods: Presets.
        settings: The options that they share; those that were not typed are the preset's.
        suggest: Cosine that a suggested plan aims at.
        mask: ``None``: where the model has losses per position, and noise lies on values.
    """

    methods: tuple[str, ...]
    settings: Settings
    copies: tuple[int, ...]
    data: str | None
    folder: Path | None
    cut: str
    sigma: float
    sigma_rule: str
    draws: int
    train_steps: int
    seed: int
    fresh: bool
    suggest: float | None
    mask: str | None = None
    weight_code: str = "fp32"


@dataclass(frozen=True)
class Checked:
    """What was found."""

    document: dict[str, Any]
    qualities: "list[Quality]"
    suggestion: "Suggestion | None"


def options_of(asked: Asked, stages: StageGraph) -> dict[str, RuleOptions]:
    """Each method's options: its preset's plan on the stages with parameters, changed by what was typed."""
    flags = trainable(stages)
    return {name: rule_options(asked.settings, MethodName(name, "lr", "", name), flags) for name in asked.methods}


def check(loaded: LoadedModel, asked: Asked) -> Checked:
    """Measure.

    Raises:
        ExecutionError: a model that LR cannot estimate, or that cannot be executed.
    """
    import numpy as np

    from alrsim.datasets import default_dataset
    from alrsim.execution.programs.program import build_program
    from alrsim.quality.gradcheck import gradcheck
    from alrsim.quality.reference import true_gradient, warm_start
    from alrsim.quality.sampler import subject_of, with_signal

    assert loaded.torch_model is not None
    dataset = asked.data or default_dataset(loaded.torch_model)
    loaded = _on_graph(loaded, dataset, asked.folder)
    assert loaded.torch_model is not None
    assert loaded.exported is not None
    module = loaded.torch_model.module
    stages = cut_stages(loaded.graph, asked.cut)
    methods = options_of(asked, stages)
    program = build_program(loaded.graph, loaded.exported.program, stages)
    batch = _batches(loaded, dataset, asked)
    masks = _masks(program, stages, methods, asked.mask)
    _refuse_early(program, stages, methods)
    if asked.train_steps:
        with progress(asked.train_steps, "train") as step:
            program = warm_start(
                module, program, lambda at: batch(at + 1), asked.train_steps, progress=lambda at: step(f"step {at + 1}")
            )
    subject = subject_of(program, stages, batch(0))
    loss, gradient = true_gradient(module, program.parameters, subject.batch)
    subject, skipped = with_signal(subject, gradient)
    if skipped:
        warn(skipped_text(stages, skipped))
    truth = np.concatenate([gradient[name].numpy().ravel() for name in subject.names]).astype(np.float64)
    numbers = {name: _numbers(subject, options, asked, masks[name]) for name, options in methods.items()}
    with progress(len(methods) * asked.draws, "gradcheck") as step:
        found = gradcheck(subject, truth, methods, numbers, asked.copies, asked.draws, fresh=asked.fresh, progress=step)
    suggestion = None if asked.suggest is None else _suggest(subject, truth, methods, numbers, asked)
    facts = {
        "stages": len(stages.stages),
        "skipped": list(skipped),
        "dataset": dataset,
        "loss": loss,
        "batch": loaded.samples,
        "model": loaded.name,
    }
    return Checked(_document(facts, asked, found, suggestion), found, suggestion)


def _document(
    facts: Mapping[str, Any],
    asked: Asked,
    found: "list[Quality]",
    suggestion: "Suggestion | None",
) -> dict[str, Any]:
    from alrsim.quality.document import BANDS, quality_document, suggestion_document, table4
    from alrsim.quality.sampler import shares_noise

    return {
        "model": facts["model"],
        "cut": asked.cut,
        "dataset": facts["dataset"],
        "batch": facts["batch"],
        "state": {"train_steps": asked.train_steps, "loss": facts["loss"]},
        "sigma": asked.sigma,
        "sigma_rule": asked.sigma_rule,
        "seed": asked.seed,
        "draws": asked.draws,
        "copies": list(asked.copies),
        "copies_share_noise": not asked.fresh and any(shares_noise(quality.options) for quality in found),
        "bands": BANDS,
        "skipped_stages": facts["skipped"],
        "methods": [quality_document(quality, facts["stages"]) for quality in found],
        "table4": table4(found),
        "suggestion": None if suggestion is None else suggestion_document(suggestion),
    }


def _numbers(subject: "Subject", options: RuleOptions, asked: Asked, mask: "Mask") -> "Numbers":
    """Sigma and seed; a relative sigma becomes one number per stage."""
    from alrsim.execution.job import Settings as Numbers
    from alrsim.execution.kernels.noise_scales import relative_sigmas

    code = cast(WeightCode, asked.weight_code)
    numbers = Numbers(sigma=asked.sigma, seed=asked.seed, weight_code=code, mask=mask)
    if asked.sigma_rule == "fixed":
        return numbers
    program = subject.program
    sigmas = relative_sigmas(program, program.parameters, subject.batch, asked.sigma, weight_noise=options.weight_noise)
    return replace(numbers, sigma=sigmas)


def _suggest(
    subject: "Subject",
    truth: "Array",
    methods: Mapping[str, RuleOptions],
    numbers: "Mapping[str, Numbers]",
    asked: Asked,
) -> "Suggestion":
    """For the first method that has noise on values: its estimator where it has."""
    from alrsim.cli.pipeline import estimator_changes
    from alrsim.estimators.policy import preset
    from alrsim.quality.choose import suggest_plan

    assert asked.suggest is not None
    plans = {
        name: preset(name).plan(trainable(subject.stages), **estimator_changes(asked.settings)) for name in methods
    }
    found = ((name, one) for name, plan in plans.items() for one in reversed(plan) if one.kind == "lr")
    first = next(iter(plans))
    name, chosen = next(found, (first, replace(plans[first][0], kind="lr")))
    rule, code = cast(SigmaRule, asked.sigma_rule), cast(WeightCode, asked.weight_code)
    chosen = replace(chosen, sigma=asked.sigma, sigma_rule=rule, weight_code=code)
    with progress(1, "suggest") as step:
        step("noise of every layer")
        return suggest_plan(subject, chosen, numbers[name], target=asked.suggest, truth=truth)


def _on_graph(loaded: LoadedModel, dataset: str, folder: Path | None) -> LoadedModel:
    """A model on the graph of its data, exported again; the same for data without a graph."""
    from alrsim.datasets import with_graph_of
    from alrsim.frontend.torch_export import export_model

    assert loaded.torch_model is not None
    model = with_graph_of(dataset, loaded.torch_model, folder)
    if model is loaded.torch_model:
        return loaded
    exported = export_model(model, loaded.samples)
    return replace(loaded, graph=exported.graph, torch_model=model, exported=exported)


def _batches(loaded: LoadedModel, dataset: str, asked: Asked) -> "Callable[[int], Batch]":
    """Batch 0 is the one whose gradient is checked, batch ``i`` that of training step ``i``."""
    from alrsim.datasets import DATASETS, load_samples, load_splits, train_batch
    from alrsim.execution.executor import Batch

    model = loaded.torch_model
    assert model is not None
    try:
        if DATASETS[dataset].one_batch is not None:
            load_samples(dataset, model, 1, asked.seed)
            splits = None
        else:
            splits = load_splits(dataset, model, folder=asked.folder, seed=asked.seed)
    except OptionError as error:
        fix = f"{error.fix}; or --data random" if error.where == "--data" else error.fix
        raise OptionError(error.what, where=error.where or "--data", fix=fix) from None

    def batch(step: int) -> Batch:
        if splits is None:
            samples = load_samples(dataset, model, loaded.samples, asked.seed + step)
        else:
            samples = train_batch(splits, loaded.samples, step, asked.seed)
        return Batch(samples.inputs, samples.labels)

    return batch


def skipped_text(stages: StageGraph, skipped: Sequence[int]) -> str:
    """Which stages are left out, and that 'the whole gradient' is without them."""
    names = ", ".join(f"{index} ({stages.stages[index].name})" for index in skipped)
    return (
        f"the true gradient is exactly zero in stage {names}: not compared, and no part of the whole gradient here. "
        "Behind a step function (a spike) autograd finds zero, while noise finds a slope"
    )


def _masks(
    program: "Program", stages: StageGraph, methods: Mapping[str, RuleOptions], asked: str | None
) -> "dict[str, Mask]":
    """The mask of every method: by default ``reach`` where a sample has several losses and noise lies on values.

    Raises:
        OptionError: ``reach`` where it would mask nothing.
    """
    several = prod(program.shapes[program.output][2:]) > 1
    flags = trainable(stages)
    on_values = {
        name: any(flag and stage not in options.weight_noise for stage, flag in enumerate(flags))
        for name, options in methods.items()
    }
    if asked == "reach" and not several:
        raise OptionError(
            "this model has one loss per sample, so every noise element reaches it", where="--mask", fix="leave it out"
        )
    if asked == "reach" and not any(on_values.values()):
        raise OptionError(
            "noise on parameters reaches every loss, so there is nothing to mask", where="--mask", fix="leave it out"
        )
    return {name: "reach" if several and flag and asked != "none" else "none" for name, flag in on_values.items()}


def _refuse_early(program: "Program", stages: StageGraph, methods: Mapping[str, RuleOptions]) -> None:
    """What the executor refuses, before training."""
    from alrsim.execution.job import Settings as Numbers
    from alrsim.execution.job import build_job
    from alrsim.rules import RULES

    for options in methods.values():
        build_job(program, RULES["lr"](stages, options), options, Numbers())


def draw(checked: Checked) -> bytes:
    """The picture of all curves."""
    from alrsim.quality.charts import draw_cosines

    document = checked.document
    state = f"after {document['state']['train_steps']} steps of BP" if document["state"]["train_steps"] else "at init"
    title = f"{document['model']} on {document['dataset']}, {state}: estimated against true gradient"
    rule = " of the values' deviation" if document["sigma_rule"] == "relative" else ""
    note = (
        f"batch {document['batch']}, sigma {document['sigma']:g}{rule}, cut {document['cut']}, "
        f"mean of {document['draws']} draws; bands: 95 %; dashed: fitted law"
    )
    return draw_cosines(checked.qualities, title, note)
