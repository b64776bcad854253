"""Every learner keeps the contract: all gradients, finite, repeatable, nothing given is changed."""

import pytest
import torch

from alrsim.estimators.policy import PRESETS
from alrsim.training.job import TrainJob
from alrsim.training.setup import default_cut, open_training
from alrsim.training.table import LEARNERS


@pytest.fixture(scope="module", params=sorted(LEARNERS))
def training(request):
    plan = PRESETS["hybrid"].plan([True] * 3, copies=4) if request.param == "plan" else None
    job = TrainJob(
        "mlp",
        method=request.param,
        model_options={"hidden": "8"},
        copies=1 if request.param == "bp" else 4,
        batch=10,
        cut=default_cut(request.param, None),
        plan=plan,
        segments=(1,) if request.param == "segments" else None,
        copies_max=8,
    )
    return open_training(job)


def test_a_learner_gives_every_gradient_and_changes_nothing(training):
    program, batch, learn = training.program, training.batch(0), training.method.learn
    before = {name: value.detach().clone() for name, value in program.parameters.items()}
    first = learn(program.parameters, program.buffers, batch, 1, training.job.copies)
    again = learn(program.parameters, program.buffers, batch, 1, training.job.copies)
    assert set(first.gradients) == set(program.parameters)
    for name, value in first.gradients.items():
        assert value.shape == program.parameters[name].shape
        assert bool(value.isfinite().all())
        assert bool((value != 0).any()), name
        assert torch.equal(value, again.gradients[name])
        assert torch.equal(program.parameters[name].detach(), before[name])
    assert first.losses.shape == (10,)
    assert bool(first.losses.isfinite().all())


def test_a_learner_says_what_a_step_costs(training):
    one = training.method.cost(training.job.copies)
    assert one.forwards >= 1
    assert one.work >= one.forwards
    if training.method.noisy:
        more = training.method.cost(2 * training.job.copies)
        assert more.forwards > one.forwards
        assert more.work > one.work


def test_a_few_steps_of_a_learner_lower_the_loss_of_their_batch(training):
    """Descent on one batch by steps of one length for every parameter, with many copies."""
    program, batch, learn = training.program, training.batch(0), training.method.learn
    copies = 32 if training.method.noisy else 1
    parameters = {name: value.detach().clone() for name, value in program.parameters.items()}
    losses = []
    for step in range(12):
        found = learn(parameters, program.buffers, batch, step, copies)
        losses.append(float(found.losses.mean()))
        for name, gradient in found.gradients.items():
            parameters[name] = parameters[name] - 0.1 * gradient / gradient.norm()
    assert losses[-1] < losses[0]
