"""Executor gradients equal autograd under every schedule."""

import pytest
import torch

from alrsim.execution.executor import execute, sequential
from alrsim.rules import RULES, RuleOptions
from alrsim.schedulers.registry import SCHEDULERS, schedule

BP = [(rule, name) for name, entry in SCHEDULERS.items() for rule in ("bp", "bp-split") if rule in entry.rules]
SMALL = {
    "mlp": {"hidden": 8, "features": 12},
    "resnet5": {"width": 4, "image_size": 16},
    "resnet9": {"width": 4, "classes": 10},
    "resnet12": {"width": 4, "classes": 10},
    "vgg8": {"width": 4},
}


def assert_same_step(result, gradients, buffers):
    scale = max(float(value.abs().max()) for value in gradients.values())
    assert set(result.gradients) == set(gradients)
    for name, expected in gradients.items():
        # A convolution's bias before a batch norm has gradient 0 and rounding noise in both; hence the absolute part.
        torch.testing.assert_close(result.gradients[name], expected, rtol=1e-5, atol=2e-6 * scale, msg=name)
    for name, expected in buffers.items():
        torch.testing.assert_close(result.buffers[name], expected, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize(("rule", "scheduler"), BP)
def test_gradients_and_buffers_equal_autograd_under_every_schedule(subject, problem_of, autograd, rule, scheduler):
    chunks = SCHEDULERS[scheduler].chunks or 1
    one = subject("resnet5", f"balanced:{2 * chunks}", norm="batch", **SMALL["resnet5"])
    options = RuleOptions(microbatches=4)
    graph = RULES[rule](one.stages, options)
    problem = problem_of(graph, 2)
    chosen = schedule(problem, scheduler)
    result = execute(one.program, problem, chosen, one.batch(4), options, repeats=1, warmup=0, dispatch_overhead_ns=0)
    assert_same_step(result, *autograd(one.model, one.batch(4), 4))
    reference = sequential(one.program, graph, one.batch(4), options)
    assert all(torch.equal(result.gradients[name], reference.gradients[name]) for name in reference.gradients)
    assert all(torch.equal(result.buffers[name], reference.buffers[name]) for name in reference.buffers)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("rule", ["bp", "bp-split"])
def test_every_model_of_the_issue_equals_autograd(subject, problem_of, autograd, name, rule):
    norm = {} if name == "mlp" else {"norm": "batch" if rule == "bp" else "group"}
    one = subject(name, "balanced:3", 2, **norm, **SMALL[name])
    options = RuleOptions(microbatches=2)
    problem = problem_of(RULES[rule](one.stages, options), 2)
    chosen = schedule(problem, "list")
    result = execute(one.program, problem, chosen, one.batch(2), options, repeats=1, warmup=0, dispatch_overhead_ns=0)
    assert_same_step(result, *autograd(one.model, one.batch(2), 2))


@pytest.mark.parametrize("cut", ["operator", "layer", "module"])
def test_any_cut_equals_autograd(subject, autograd, cut):
    one = subject("resnet5", cut, norm="batch", **SMALL["resnet5"])
    options = RuleOptions(microbatches=2)
    for rule in ("bp", "bp-split"):
        result = sequential(one.program, RULES[rule](one.stages, options), one.batch(2), options)
        assert_same_step(result, *autograd(one.model, one.batch(2), 2))


@pytest.mark.parametrize(
    "changes", [{"loss": False}, {"loss_gradient": True, "loss_update": True}, {"first_input_gradient": True}]
)
def test_loss_cells_and_input_gradients_change_no_gradient(subject, autograd, changes):
    one = subject("resnet5", "balanced:2", **SMALL["resnet5"])
    options = RuleOptions(microbatches=2, **changes)
    for rule in ("bp", "bp-split"):
        result = sequential(one.program, RULES[rule](one.stages, options), one.batch(2), options)
        assert_same_step(result, *autograd(one.model, one.batch(2), 2))


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_the_update_is_torchs_first_step_and_leaves_the_program_alone(subject, autograd, optimizer):
    one = subject("mlp", "balanced:2", **SMALL["mlp"])
    options = RuleOptions(microbatches=2, optimizer=optimizer)
    before = {name: value.clone() for name, value in one.program.parameters.items()}
    result = sequential(one.program, RULES["bp"](one.stages, options), one.batch(2), options)
    gradients, _ = autograd(one.model, one.batch(2), 2)
    for name, value in before.items():
        leaf = torch.nn.Parameter(value.clone())
        leaf.grad = gradients[name]
        step = {
            "sgd": lambda p: torch.optim.SGD([p], 0.01),
            "momentum": lambda p: torch.optim.SGD([p], 0.01, momentum=0.9),
            "adam": lambda p: torch.optim.Adam([p], 0.01),
        }[optimizer](leaf)
        step.step()
        torch.testing.assert_close(result.parameters[name], leaf.detach(), rtol=1e-4, atol=1e-6)
        assert torch.equal(one.program.parameters[name], value)
