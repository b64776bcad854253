"""Feedback alignment and the HSIC bottleneck against closed forms, brute force and backpropagation."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from alrsim.errors import ExecutionError
from alrsim.execution.step import StepResult
from alrsim.experiments.feedback import direct_feedback, sequential_feedback
from alrsim.experiments.hsic import bottleneck, centred, gaussian_kernel, nhsic, normalised
from alrsim.experiments.staged import local_macs


def run(learner, one, microbatches=1) -> StepResult:
    return learner(one.program.parameters, one.program.buffers, one.batch(microbatches), 0)


def linear_pair():
    from alrsim.frontend.torch_model import TorchModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        module = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))
    return TorchModel("pair", module, lambda batch: (torch.ones(batch, 6),), 4)


@pytest.fixture(scope="module")
def pair():
    """Two linear layers, one per stage."""
    from alrsim.cost.cut import cut_graph
    from alrsim.cost.stages import build_stages
    from alrsim.execution.executor import Batch
    from alrsim.execution.programs.program import build_program
    from alrsim.frontend.torch_export import export_model

    model = linear_pair()
    exported = export_model(model, 3)
    stages = build_stages(exported.graph, cut_graph(exported.graph, "layer"))
    program = build_program(exported.graph, exported.program, stages)
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(3, 6, generator=generator)
    return model, program, Batch((inputs,), torch.tensor([0, 3, 1]))


def test_direct_feedback_is_the_projected_error_times_the_input(pair):
    """Nokland 2016: dW1 = (B e) x', dW2 = e h', with e = (softmax - onehot)/m."""
    _, program, batch = pair
    learner = direct_feedback(program, 1, seed=3)
    found = learner(program.parameters, program.buffers, batch, 0)
    weights = {name: value.detach() for name, value in program.parameters.items()}
    hidden = batch.inputs[0] @ weights["0.weight"].T + weights["0.bias"]
    logits = hidden @ weights["1.weight"].T + weights["1.bias"]
    error = (logits.softmax(1) - nn.functional.one_hot(batch.targets, 4)) / 3
    (matrix,) = learner.matrices.values()
    expected = {
        "0.weight": (error @ matrix).T @ batch.inputs[0],
        "0.bias": (error @ matrix).sum(0),
        "1.weight": error.T @ hidden,
        "1.bias": error.sum(0),
    }
    assert set(found.gradients) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found.gradients[name], value)
    torch.testing.assert_close(found.losses, nn.functional.cross_entropy(logits, batch.targets, reduction="none"))


def test_direct_feedback_by_the_true_weights_is_backpropagation(subject, autograd):
    one = subject("mlp", "block", hidden=8, features=12, depth=1)
    learner = direct_feedback(one.program, 2, seed=0)
    (name,) = learner.matrices
    true = replace(learner, matrices={name: one.program.parameters["linear.weight"].detach()})
    expected, _ = autograd(one.model, one.batch(2), 1)
    found = run(true, one, 2).gradients
    random = run(learner, one, 2).gradients
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value)
    assert not torch.allclose(random["layers.linear0.weight"], expected["layers.linear0.weight"], rtol=0.1)
    torch.testing.assert_close(random["linear.weight"], expected["linear.weight"])


@pytest.mark.parametrize(
    ("name", "options"),
    [("mlp", {"hidden": 8, "features": 12, "depth": 3}), ("resnet5", {"width": 4, "image_size": 16})],
)
def test_sequential_feedback_by_the_true_weights_is_backpropagation(subject, autograd, name, options):
    one = subject(name, "layer", **options)
    learner = sequential_feedback(one.program, 1, seed=0)
    true = replace(learner, weights={key: value.detach() for key, value in one.program.parameters.items()})
    expected, _ = autograd(one.model, one.batch(1), 1)
    found = run(true, one).gradients
    random = run(learner, one).gradients
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-6)
    first = next(iter(expected))
    assert torch.cosine_similarity(random[first].flatten(), expected[first].flatten(), 0) < 0.9


def test_a_stage_without_one_linear_map_has_no_feedback_matrix(subject):
    one = subject("resnet5", "layer", width=4, image_size=16, norm="group")
    with pytest.raises(ExecutionError, match="linear map"):
        sequential_feedback(one.program, 1, 0)


def test_local_rules_refuse_batch_norm(subject):
    one = subject("resnet5", "block", width=4, image_size=16, norm="batch")
    with pytest.raises(ExecutionError, match="batch norm"):
        direct_feedback(one.program, 1, 0)


def brute_force_kernel(values, sigma):
    rows = values.flatten(1)
    size = rows.shape[1]
    kernel = torch.empty(len(rows), len(rows), dtype=rows.dtype)
    for i, first in enumerate(rows):
        for j, second in enumerate(rows):
            kernel[i, j] = torch.exp(-((first - second) ** 2).sum() / (2 * sigma**2 * size))
    return kernel


def test_hsic_is_the_trace_of_double_centred_kernels():
    """Against sums over all pairs, with H written out and the inverse taken."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(7, 2, 3, generator=generator, dtype=torch.float64)
    second = torch.randn(7, 4, generator=generator, dtype=torch.float64)
    count, epsilon, sigma = 7, 1e-2, 1.5
    centre = torch.eye(count, dtype=torch.float64) - 1 / count
    ratios = []
    for value in (first, second):
        kernel = brute_force_kernel(value, sigma)
        torch.testing.assert_close(gaussian_kernel(value, sigma), kernel)
        middle = centre @ kernel @ centre
        torch.testing.assert_close(centred(kernel), middle)
        ratios.append(middle @ torch.linalg.inv(middle + epsilon * count * torch.eye(count, dtype=torch.float64)))
    expected = sum(ratios[0][i, j] * ratios[1][j, i] for i in range(count) for j in range(count))
    found = nhsic(*(normalised(gaussian_kernel(value, sigma), epsilon) for value in (first, second)))
    assert float(found) == pytest.approx(float(expected), rel=1e-9)
    assert 0 < float(found) < count - 1


def test_the_bottleneck_descends_its_own_objective(subject):
    """The gradient of a stage is the slope of nHSIC(Z, X) - beta nHSIC(Z, Y), by finite differences in fp64."""
    one = subject("mlp", "block", batch=12, hidden=6, features=12, depth=1)
    learner = bottleneck(one.program, 1, {"beta": 3.0, "sigma": 2.0})
    batch = one.batch(1)
    gradient = run(learner, one).gradients["layers.linear0.weight"].double()
    known = nn.functional.one_hot(batch.targets, one.model.classes).double()
    inputs, labels = (normalised(gaussian_kernel(value, 2.0)) for value in (batch.inputs[0].double(), known))
    bias = one.program.parameters["layers.linear0.bias"].detach().double()

    def objective(weight):
        hidden = torch.relu(batch.inputs[0].double() @ weight.T + bias)
        own = normalised(gaussian_kernel(hidden, 2.0))
        return float(nhsic(own, inputs) - 3.0 * nhsic(own, labels))

    weight = one.program.parameters["layers.linear0.weight"].detach().double()
    direction = torch.randn(weight.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    slope = (objective(weight + 1e-6 * direction) - objective(weight - 1e-6 * direction)) / 2e-6
    assert float((gradient * direction).sum()) == pytest.approx(slope, rel=1e-3, abs=1e-6)


def test_the_read_out_of_a_local_rule_learns_from_the_loss(subject, autograd):
    one = subject("mlp", "block", hidden=8, features=12)
    expected, _ = autograd(one.model, one.batch(1), 1)
    found = run(bottleneck(one.program, 1, {}), one).gradients
    torch.testing.assert_close(found["linear.weight"], expected["linear.weight"])


def test_a_local_step_costs_two_forwards_and_the_weight_gradients(subject):
    one = subject("mlp", "block", hidden=8, features=12)
    step, once = local_macs(one.program)
    assert step == 3 * once
