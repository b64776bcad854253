"""``gradcheck``: how close estimated gradients come to the true one, and what a copy buys."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Any, cast

from alrsim.errors import OptionError
from alrsim.estimators.policy import PRESETS, SigmaRule, WeightCode, preset
from alrsim.graph.stages import StageGraph
from alrsim.options import choose, keyword, options_of, parse_list, parse_share
from alrsim.progress import stretch
from alrsim.quality.options import DATA, DataOptions, NoiseOptions, noise_cut
from alrsim.rules.options import RuleOptions
from alrsim.steps.chain import build_tasks, estimator_changes, rule_options, trainable
from alrsim.steps.method import parse_method
from alrsim.steps.model import cut_stages, load_model
from alrsim.steps.options import METHOD, EstimatorOptions, ModelOptions, StepOptions
from alrsim.verbs import verb
from alrsim.warning import warn

if TYPE_CHECKING:
    from alrsim.estimators.policy import Mask
    from alrsim.estimators.variance_law import Array
    from alrsim.execution.job import Settings
    from alrsim.execution.programs.program import Program
    from alrsim.quality.choose import Suggestion
    from alrsim.quality.result import GradcheckResult
    from alrsim.quality.sampler import Subject

POINTS = 16
"""Numbers of copies that a range is measured at, evenly spaced on a logarithmic axis."""

MOST_COPIES = 1_000_000


def noisy_methods() -> tuple[str, ...]:
    """Names of the methods with estimated gradients."""
    return tuple(name for name in PRESETS if name != "bp")


def parse_names(given: Any, name: str) -> tuple[str, ...]:
    """``lr,alr``, or a list of them: methods with estimated gradients, each once.

    Raises:
        OptionError: none, one twice, one that does not exist or has no noise.
    """
    names = parse_list(given if isinstance(given, str) else [getattr(one, "label", one) for one in given], name)
    for one in names:
        choose(one, noisy_methods(), field=name, what="method with estimated gradients")
    return names


def parse_copies(given: Any, name: str) -> tuple[int, ...]:
    """``10..2000``: so many numbers, evenly spaced in their logarithm; ``10,50,200``, or a list: these.

    Raises:
        OptionError: anything else.
    """
    text = given if isinstance(given, str) else ",".join(map(str, [given] if isinstance(given, int) else given))
    spread, fix = ".." in text, "for example 10..2000 or 10,50,200"
    parts = [part.strip() for part in (text.split("..") if spread else text.split(","))]
    if not all(part.isdecimal() for part in parts) or (spread and len(parts) != 2):
        raise OptionError(f"{text!r} is neither a range nor a list of whole numbers", field=name, fix=fix)
    numbers = [int(part) for part in parts]
    if min(numbers) < 1 or max(numbers) > MOST_COPIES:
        raise OptionError(f"{text!r}: a number of copies is 1 to {MOST_COPIES}", field=name, fix=fix)
    if any(later <= earlier for earlier, later in pairwise(numbers)):
        raise OptionError(f"{text!r} does not ascend", field=name, fix=fix)
    if not spread:
        return tuple(numbers)
    low, high = numbers
    ratio = (high / low) ** (1 / (POINTS - 1))
    return tuple(dict.fromkeys(round(low * ratio**step) for step in range(POINTS)))


@dataclass(frozen=True, kw_only=True)
class GradcheckOptions(NoiseOptions, DataOptions, ModelOptions):
    """Options of :func:`gradcheck`."""

    methods: tuple[str, ...] = keyword(
        f"Of {', '.join(noisy_methods())}.", default=("lr", "alr"), metavar="M1,M2", parse=parse_names, panel=METHOD
    )
    copies: tuple[int, ...] = keyword(
        f"A range such as 10..2000 ({POINTS} numbers) or a list.",
        default=parse_copies("10..200", "copies"),
        metavar="C",
        parse=parse_copies,
        panel=METHOD,
    )
    draws: int = keyword("Independent repetitions.", default=10, metavar="K", least=1, panel=METHOD)
    fresh: bool = keyword(
        "New noise for every number of copies, not more of the same: slower.", default=False, panel=METHOD
    )
    suggest: float | None = keyword(
        "Also measure every layer's noise and say which layers are better off with noise on their parameters (ES), "
        "and how many copies each needs for this cosine.",
        default=None,
        metavar="COS",
        parse=parse_share,
        panel=METHOD,
    )
    train_steps: int = keyword("First train with BP and Adam for N steps.", default=0, metavar="N", least=0, panel=DATA)
    seed: int = keyword("Of the noise and the data.", default=0, metavar="N", least=0, panel=DATA)


@verb(GradcheckOptions)
def gradcheck(model: Any, data: Any = None, *, asked: GradcheckOptions) -> "GradcheckResult":
    """Cosine of estimated with true gradients over the number of copies, per layer; the papers' Acc and Sta; the
    effective noise dimension rho of every layer.

    Args:
        model: As :func:`alrsim.load_model` takes it, with torch code.
        data: ``(x, y)``: inputs and class numbers in memory; default: the option ``dataset``.

    Raises:
        OptionError: options that contradict each other, or data that do not fit.
        ExecutionError: a model that LR cannot estimate, or that cannot be executed.

    >>> found = gradcheck("mlp", option={"hidden": "8"}, batch=4, methods="lr", copies=[2, 8], draws=2)
    >>> [curve.label for curve in found["lr"].layers]
    ['0: linear0', '1: linear1', '2: linear']
    """
    refuse(asked)
    from alrsim.execution.job import Settings, build_job
    from alrsim.quality.curves import measure_quality
    from alrsim.quality.data import checked_batches, feed
    from alrsim.quality.reference import true_gradient, warm_start
    from alrsim.quality.result import BANDS, GradcheckResult, State, table4
    from alrsim.quality.sampler import flat, shares_noise, subject_of, with_signal

    fed = feed(load_model(model, option=asked.option, bind=asked.bind), data, asked)
    sized, cut, module = fed.model.at(asked.batch), noise_cut(asked), fed.torch_model.module
    stages = cut_stages(sized.graph, cut)
    methods = options_by_method(asked, stages)
    program = fed.model.program(sized, stages)
    batch = checked_batches(fed, asked, sized.samples, asked.seed)
    masks = masks_of(program, stages, methods, asked.mask)
    for options in methods.values():  # what the executor refuses, before training
        build_job(program, build_tasks(stages, "lr", options), options, Settings())
    program = warm_start(module, program, lambda at: batch(at + 1), asked.train_steps)
    subject = subject_of(program, stages, batch(0))
    loss, gradient = true_gradient(module, program.parameters, subject.batch)
    subject, skipped = with_signal(subject, gradient)
    if skipped:
        warn(skipped_text(stages, skipped))
    truth = flat(subject, gradient)
    numbers = {name: _numbers(subject, options, asked, masks[name]) for name, options in methods.items()}
    found = measure_quality(subject, truth, methods, numbers, asked.copies, asked.draws, fresh=asked.fresh)
    return GradcheckResult(
        model=fed.model.name,
        cut=cut,
        dataset=fed.dataset,
        batch=sized.samples,
        state=State(asked.train_steps, loss),
        **{name: getattr(asked, name) for name in ("sigma", "sigma_rule", "seed", "draws", "copies")},
        copies_share_noise=not asked.fresh and any(shares_noise(options) for options in methods.values()),
        bands=BANDS,
        skipped_stages=skipped,
        methods=tuple(found),
        table4=table4(found),
        suggestion=None if asked.suggest is None else _suggest(subject, truth, numbers, asked),
    )


def refuse(asked: GradcheckOptions) -> None:
    """What makes no sense is refused before anything slow.

    Raises:
        OptionError: the first of it.
    """
    if asked.sigma_rule not in ("fixed", "relative"):
        raise OptionError(
            f"{asked.sigma_rule!r} is a rule of training: a check has one step",
            field="sigma_rule",
            fix="choose from fixed, relative",
        )
    if asked.baseline == "copy-mean" and asked.copies[0] < 2:
        raise OptionError("baseline copy-mean needs at least 2 copies", field="copies", fix="start at 2, or use clean")
    for name in asked.methods:
        rule_options(step_options(asked), parse_method(name))


def step_options(asked: GradcheckOptions) -> StepOptions:
    """Of a step of one micro-batch; its estimator options are those that were given."""
    shared = asked.given & {one.name for one in options_of(EstimatorOptions)}
    given = {name: getattr(asked, name) for name in shared}
    return StepOptions.take({**given, "microbatches": 1, "update": False, "copies": 2})


def options_by_method(asked: GradcheckOptions, stages: StageGraph) -> dict[str, RuleOptions]:
    """Each method's options: its preset's plan on the stages with parameters, changed by what was given."""
    flags = trainable(stages)
    return {name: rule_options(step_options(asked), parse_method(name), flags) for name in asked.methods}


def masks_of(
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
    why = "this model has one loss per sample, so every noise element reaches it" if not several else ""
    if several and not any(on_values.values()):
        why = "noise on parameters reaches every loss, so there is nothing to mask"
    if asked == "reach" and why:
        raise OptionError(why, field="mask", fix="leave it out")
    return {name: "reach" if several and flag and asked != "none" else "none" for name, flag in on_values.items()}


def _numbers(subject: "Subject", options: RuleOptions, asked: GradcheckOptions, mask: "Mask") -> "Settings":
    """Sigma and seed; a relative sigma becomes one number per stage."""
    from alrsim.execution.job import Settings
    from alrsim.execution.kernels.noise_scales import relative_sigmas

    code = cast(WeightCode, asked.weight_code)
    numbers = Settings(sigma=asked.sigma, seed=asked.seed, weight_code=code, mask=mask)
    if asked.sigma_rule == "fixed":
        return numbers
    program = subject.program
    sigmas = relative_sigmas(program, program.parameters, subject.batch, asked.sigma, weight_noise=options.weight_noise)
    return replace(numbers, sigma=sigmas)


def _suggest(
    subject: "Subject", truth: "Array", numbers: "Mapping[str, Settings]", asked: GradcheckOptions
) -> "Suggestion":
    """For the first method that has noise on values: its estimator where it has."""
    from alrsim.quality.choose import suggest_plan

    flags, changes = trainable(subject.stages), estimator_changes(asked)
    plans = {name: preset(name).plan(flags, **changes) for name in asked.methods}
    found = ((name, one) for name, plan in plans.items() for one in reversed(plan) if one.kind == "lr")
    first = asked.methods[0]
    name, chosen = next(found, (first, replace(plans[first][0], kind="lr")))
    rule, code = cast(SigmaRule, asked.sigma_rule), cast(WeightCode, asked.weight_code)
    chosen = replace(chosen, sigma=asked.sigma, sigma_rule=rule, weight_code=code)
    assert asked.suggest is not None
    with stretch(1, "suggest") as step:
        step("noise of every layer")
        return suggest_plan(subject, chosen, numbers[name], target=asked.suggest, truth=truth)


def skipped_text(stages: StageGraph, skipped: Sequence[int]) -> str:
    """Which stages are left out, and that 'the whole gradient' is without them."""
    names = ", ".join(f"{index} ({stages.stages[index].name})" for index in skipped)
    return (
        f"the true gradient is exactly zero in stage {names}: not compared, and no part of the whole gradient here. "
        "Behind a step function (a spike) autograd finds zero, while noise finds a slope"
    )
