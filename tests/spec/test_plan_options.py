"""From a method to the options of its rule."""

from dataclasses import replace

import pytest

from alrsim.errors import OptionError
from alrsim.estimators.policy import AES, ALR, ES, LR, PRESETS, Estimator, Plan, preset
from alrsim.graph.stages import chain
from alrsim.hardware.precision import Precision
from alrsim.rules import RULES, RuleOptions
from alrsim.rules.policy import default_precision, plan_options, plan_rule, refuse_discrete_noise

BP = Estimator("bp")
STAGES = 4


def letters(plan: Plan, base: RuleOptions) -> list[str]:
    """Kinds of task of every stage, behind its number."""
    tasks = RULES[plan_rule(plan)](chain(STAGES), plan_options(plan, base))
    return sorted({f"{task.id.stage}{task.id.kind}" for task in tasks.tasks if task.id.kind in "BCG"})


@pytest.mark.parametrize("name", PRESETS)
def test_every_method_becomes_a_step_in_which_every_stage_has_its_gradient(name: str) -> None:
    plan = preset(name).plan([True] * STAGES, copies=2)
    tasks = RULES[plan_rule(plan)](chain(STAGES), plan_options(plan, RuleOptions()))
    assert {task.id.stage for task in tasks.tasks if task.id.kind in "BG"} == set(range(STAGES))
    assert (name == "bp") == (plan_rule(plan) == "bp")


def test_a_hybrid_has_noise_on_the_parameters_of_its_first_stages_in_both_reductions() -> None:
    plan = preset("hybrid").plan([True] * STAGES, copies=2, reduction="accumulate")
    assert plan_options(plan, RuleOptions()).weight_noise == (0, 1)
    assert letters(plan, RuleOptions()) == ["0G", "1G", "2C", "2G", "3C", "3G"]


def test_the_code_of_a_hybrids_input_is_that_of_its_lr_stages() -> None:
    options = plan_options((AES, replace(AES, input_code="plain"), ALR, ALR), RuleOptions())
    assert (options.input_code, options.noise_code) == ("sign", "sign")
    alone = plan_options((AES,) * STAGES, RuleOptions())
    assert (alone.input_code, alone.weight_noise) == ("plain", (0, 1, 2, 3))


@pytest.mark.parametrize("name", PRESETS)
def test_stages_without_parameters_change_no_option_of_a_method(name: str) -> None:
    whole = plan_options(preset(name).plan([True] * STAGES, copies=2), RuleOptions())
    parted = plan_options(preset(name).plan([True, False, True, False, True, True], copies=2), RuleOptions())
    # ES lies on the first two stages with parameters; on one without it has nothing to lie on.
    moved = {(0, 1): (0, 2), (0, 1, 2, 3): (0, 2, 4, 5)}
    assert replace(whole, weight_noise=moved.get(whole.weight_noise, whole.weight_noise)) == parted


def test_stages_that_keep_their_input_have_one_code_whatever_stands_in_front() -> None:
    with pytest.raises(OptionError, match="stage 1 has input_code plain, stage 3 sign"):
        plan_options((ES, LR, LR, replace(LR, input_code="sign")), RuleOptions())


def test_exact_stages_at_the_end_are_one_segment_that_reaches_the_loss() -> None:
    plan = (ES, LR, BP, BP)
    assert plan_rule(plan) == "segments"
    assert plan_options(plan, RuleOptions()).segments == (1, 2)
    assert letters(plan, RuleOptions()) == ["0G", "1G", "2B", "3B"]


def test_an_exact_stage_in_front_of_an_estimated_one_is_refused() -> None:
    with pytest.raises(OptionError, match="stage 0 has an exact gradient, but a stage behind it is estimated"):
        plan_rule((BP, LR, LR, LR))


@pytest.mark.parametrize(
    ("field", "value"),
    [("noise", "laplace"), ("baseline", "none"), ("noise_code", "sign"), ("reduction", "accumulate")],
)
def test_stages_of_one_step_agree_on_what_their_forwards_share(field: str, value: str) -> None:
    other = replace(LR, **{field: value})  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=rf"stage 1 has {field} .*, stage 3 {value}"):
        plan_options((BP, LR, LR, other), RuleOptions())


def test_unlike_copies_need_layer_wise_noise() -> None:
    more, less = replace(LR, copies=4, scope="layerwise"), replace(LR, copies=2, scope="layerwise")
    options = plan_options((more, less, BP, BP), RuleOptions(copies=2, group=2))
    assert options.stage_copies == (4, 2, 4, 4)
    tasks = RULES["segments"](chain(STAGES), options)
    assert [str(task.id) for task in tasks.tasks if task.id.kind == "G"] == ["0G0.1", "0G0.2", "1G0.3"]
    with pytest.raises(OptionError, match="cannot have copies of their own"):
        plan_options((replace(more, scope="joint"), replace(less, scope="joint")), RuleOptions())


@pytest.mark.parametrize(
    ("name", "saved", "noise"),
    [
        ("lr", Precision.FP32, Precision.FP32),
        ("es", Precision.FP32, Precision.FP32),
        ("alr", Precision.INT8, Precision.INT8),
        ("a-hybrid", Precision.INT8, Precision.INT8),
        ("lr-rademacher", Precision.SIGN1, Precision.REGENERATED),
        ("lr-laplace", Precision.FP32, Precision.INT8),
        ("lr-hadamard", Precision.FP32, Precision.REGENERATED),
    ],
)
def test_every_method_keeps_its_state_in_the_format_of_its_codes(name: str, saved: Precision, noise: Precision) -> None:
    plan = default_precision(plan_options(preset(name).plan([True] * STAGES), RuleOptions()))
    assert (plan.saved, plan.noise) == (saved, noise)


def test_two_point_noise_in_front_of_a_step_is_refused_and_noise_with_a_density_is_not() -> None:
    for kind in ("rademacher", "hadamard"):
        with pytest.raises(OptionError, match=f"{kind} noise takes two values only(.|\n)*behind stage 1"):
            refuse_discrete_noise(RuleOptions(noise=kind), (1, 2), "snn")  # type: ignore[arg-type]
        refuse_discrete_noise(RuleOptions(noise=kind), (), "mlp")  # type: ignore[arg-type]
    for kind in ("gauss", "laplace", "sobol"):
        refuse_discrete_noise(RuleOptions(noise=kind), (1, 2), "snn")  # type: ignore[arg-type]
