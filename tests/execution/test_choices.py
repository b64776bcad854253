"""Plans chosen by measurement: the smaller noise of each layer, and copies that hold the target."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from alrsim.errors import OptionError
from alrsim.estimators.policy import ALR, ALR_RADEMACHER, ES, LR, hybrid_plan
from alrsim.execution.job import Settings
from alrsim.frontend.torch_model import TorchModel
from alrsim.quality.choose import suggest_plan
from alrsim.quality.metrics import cosine
from alrsim.quality.reference import true_gradient
from alrsim.quality.sampler import Sampler, subject_of
from alrsim.rules import RULES
from alrsim.rules.options import RuleOptions
from alrsim.rules.policy import default_precision, plan_options

SMALL = Settings(sigma=0.002, seed=2)
APART = replace(LR, scope="layerwise")


@pytest.fixture(scope="module")
def wide(subject):
    """A convolution with 20 weights and 400 noise elements per sample, and a linear layer with few of either."""
    from alrsim.cost.cut import cut_graph
    from alrsim.cost.stages import build_stages
    from alrsim.execution.executor import Batch
    from alrsim.execution.programs.program import build_program
    from alrsim.frontend.torch_export import export_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        module = torch.nn.Sequential(
            torch.nn.Conv2d(1, 2, 3), torch.nn.Tanh(), torch.nn.AvgPool2d(7), torch.nn.Flatten(), torch.nn.Linear(8, 3)
        )

    def example(batch):
        return (torch.randn(batch, 1, 16, 16, generator=torch.Generator().manual_seed(1)),)

    model = TorchModel("wide", module, example, 3)
    exported = export_model(model, 4)
    stages = build_stages(exported.graph, cut_graph(exported.graph, "layer"), batch=4)
    program = build_program(exported.graph, exported.program, stages)
    found = subject_of(program, program.stages, Batch(example(4), torch.tensor([0, 1, 2, 1])))
    _, gradient = true_gradient(module, program.parameters, found.batch)
    return found, np.concatenate([gradient[name].numpy().ravel() for name in found.names]).astype(np.float64)


@pytest.mark.parametrize("known", [True, False], ids=["with the true gradient", "without it"])
def test_parameters_get_the_noise_where_they_are_fewer_than_values(wide, known):
    found, truth = wide
    suggestion = suggest_plan(found, APART, SMALL, target=0.7, copies=256, truth=truth if known else None)
    first, last = suggestion.layers
    assert (first.kind, last.kind) == ("es", "lr")
    assert first.noise_on_parameters == first.parameters == 20
    assert first.noise_on_output > 2 * first.noise_on_parameters
    assert last.noise_on_output < last.noise_on_parameters
    flags = [one.kind == "es" for one in suggestion.plan]
    copies = [one.copies for one in suggestion.plan]
    assert suggestion.plan == tuple(
        replace(one, copies=count) for one, count in zip(hybrid_plan(flags, APART), copies, strict=True)
    )
    assert [copies[layer.stage] for layer in suggestion.layers] == [layer.copies for layer in suggestion.layers]


@pytest.mark.parametrize("scope", ["layerwise", "joint"])
def test_the_plan_holds_its_target_in_every_layer(wide, scope):
    """Measured with other noise: mean cosine of each layer over 12 runs of the plan, within 0.1 of the target."""
    found, truth = wide
    plan = suggest_plan(found, replace(LR, scope=scope), SMALL, target=0.8, copies=256, truth=truth).plan
    options = plan_options(plan, RuleOptions(update=False))
    options = replace(options, precision=default_precision(options))
    assert RULES["lr"](found.stages, options).tasks
    cosines = []
    for seed in range(12):
        gradient = Sampler(found, options, replace(SMALL, seed=50)).gradient(0, seed)
        cosines.append([cosine(gradient[start:end], truth[start:end]) for start, end in found.parts[:-1]])
    means = np.mean(cosines, axis=0)
    assert (means > 0.8 - 0.1).all()
    if scope == "layerwise":
        assert (means < 0.8 + 0.1).all(), "copies of each layer's own: none is wasted"


@pytest.mark.parametrize("estimator", [ALR, ALR_RADEMACHER], ids=["sign", "threshold"])
def test_coded_inputs_have_a_ceiling_that_is_measured(subject, estimator):
    one = subject("mlp", "layer", 12, hidden=16, features=20)
    found = subject_of(one.program, one.stages, one.batch(1))
    _, gradient = true_gradient(one.model.module, one.program.parameters, found.batch)
    truth = np.concatenate([gradient[name].numpy().ravel() for name in found.names]).astype(np.float64)
    known = suggest_plan(found, estimator, SMALL, target=0.5, copies=1024, truth=truth).layers
    blind = suggest_plan(found, estimator, SMALL, target=0.5, copies=1024).layers
    for first, second in zip(known, blind, strict=True):
        assert first.ceiling == pytest.approx(second.ceiling, abs=0.12)
    assert 0.7 < known[1].ceiling < 0.99
    out_of_reach = suggest_plan(found, estimator, SMALL, target=0.995, copies=64, truth=truth)
    assert out_of_reach.layers[1].kind == "es", "noise on parameters codes no input and has no ceiling"


def test_a_plan_asks_for_no_more_than_it_may(wide):
    found, truth = wide
    suggestion = suggest_plan(found, APART, SMALL, target=0.95, copies=64, most=10, truth=truth)
    assert max(one.copies for one in suggestion.plan) == 10
    assert max(layer.copies or 0 for layer in suggestion.layers) > 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"target": 1.0}, "between 0 and 1"), ({"copies": 2}, "tell no variance"), ({"estimator": ES}, "es")],
)
def test_what_cannot_be_measured_is_refused(wide, changes, message):
    found, _ = wide
    given = {"estimator": APART, **changes}
    with pytest.raises(OptionError, match=message):
        suggest_plan(found, given.pop("estimator"), SMALL, **given)
