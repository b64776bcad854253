"""Training: exact against a plain torch loop, the same bits under any schedule, after a kill, and resumed."""

import copy
import os
import signal
import subprocess
import sys
from dataclasses import fields, replace
from io import BytesIO

import pytest
import torch
from torch.nn import functional as F

from alrsim.datasets import UNLABELLED, train_batch
from alrsim.errors import AlrsimError, ExecutionError, FileError, OptionError
from alrsim.estimators.monitor import NOTHING
from alrsim.execution.step import step_gradients
from alrsim.quality.reference import true_gradient
from alrsim.training.checkpoint import FORMAT, Checkpoint, load_checkpoint, previous, save_checkpoint, sealed
from alrsim.training.evaluate import evaluate
from alrsim.training.job import TrainJob
from alrsim.training.learner import halves
from alrsim.training.loop import initial_state, run_training
from alrsim.training.place import Placement
from alrsim.training.setup import open_training

SMALL = TrainJob(
    "mlp", method="lr", model_options={"hidden": "8"}, copies=4, batch=12, microbatches=2, steps=5, eval_every=2
)
METHODS = {
    "bp": replace(SMALL, method="bp", copies=1),
    "lr": SMALL,
    "alr-layerwise": replace(SMALL, method="alr", changes={"scope": "layerwise"}),
    "lr-rademacher": replace(SMALL, method="lr-rademacher", group=2),
    "hybrid": replace(SMALL, method="hybrid", changes={"baseline": "antithetic"}),
}


def run(job, placement=None):
    training = open_training(job, placement=placement)
    return training, run_training(training, initial_state(training))


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def without_time(rows):
    return [replace(row, seconds=0.0) for row in rows]


@pytest.mark.parametrize("optimizer", ["adam", "momentum"])
def test_bp_is_a_plain_torch_loop(optimizer):
    """The oracle: autograd through the uncut module, torch's optimizer, the same batches."""
    job = replace(METHODS["bp"], optimizer=optimizer, rate=0.01, rate_schedule="step", rate_every=2, weight_decay=1e-3)
    training, state = run(job)
    module = copy.deepcopy(training.model.module)
    plain = (
        torch.optim.Adam(module.parameters(), lr=0.01, weight_decay=1e-3)
        if optimizer == "adam"
        else torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-3)
    )
    rates = torch.optim.lr_scheduler.StepLR(plain, 2, 0.5)
    losses = []
    for step in range(5):
        samples = train_batch(training.splits, 12, step, 0)
        plain.zero_grad()
        loss = F.cross_entropy(module(*samples.inputs), samples.labels)
        loss.backward()
        losses.append(float(loss.detach()))
        plain.step()
        rates.step()
    for name, value in module.named_parameters():
        torch.testing.assert_close(state.parameters[name].detach(), value.detach(), rtol=1e-4, atol=1e-6)
    assert [row.step for row in state.rows] == [0, 2, 4, 5]
    assert state.rows[1].train_loss == pytest.approx(sum(losses[:2]) / 2, rel=1e-5)
    assert state.rows[2].train_loss == pytest.approx(sum(losses[2:4]) / 2, rel=1e-5)
    assert state.rows[-1].rate == pytest.approx(0.01 * 0.25)
    assert state.rows[-1].forwards == 5
    with torch.no_grad():
        logits = module(*training.splits.prepare(training.splits.test).inputs)
    right = (logits.argmax(1) == training.splits.test.labels).float().mean()
    assert state.rows[-1].test_accuracy == pytest.approx(float(right))
    assert state.rows[-1].test_loss == pytest.approx(
        float(F.cross_entropy(logits, training.splits.test.labels)), rel=1e-4
    )


@pytest.mark.parametrize("name", METHODS)
def test_no_schedule_changes_a_bit(name):
    job = METHODS[name]
    _, reference = run(job)
    assert any(bool((value != 0).any()) for value in reference.parameters.values())
    exact = [Placement("list", 2), Placement("1f1b", 3), Placement("zb-h1", 3)]
    placements = exact if name == "bp" else [Placement("lr-fixed", 2), Placement("lr-free", 3), Placement("list", 3)]
    for placement in placements:
        _, state = run(job, placement)
        assert same(state.parameters, reference.parameters), placement
        assert without_time(state.rows) == without_time(reference.rows), placement


def test_sign_updates_move_every_weight_by_the_rate():
    job = replace(METHODS["bp"], optimizer="sgd", rate=0.5, direction="sign", steps=1)
    training, state = run(job)
    start = training.program.parameters
    _, truth = true_gradient(training.model.module, start, training.batch(0))
    for name, value in state.parameters.items():
        clear = truth[name].abs() > 1e-7
        moved = (value - start[name]).detach()
        torch.testing.assert_close(moved[clear], -0.5 * truth[name].sign()[clear], rtol=0, atol=1e-6)


def test_steps_have_noise_of_their_own_and_streams_too():
    training = open_training(SMALL)
    learner, batch = training.method.learn, training.batch(0)
    program = training.program

    def gradients(step, stream=0):
        return learner(program.parameters, program.buffers, batch, step, 4, stream).gradients

    assert same(gradients(3), gradients(3))
    assert not same(gradients(3), gradients(4))
    assert not same(gradients(3), gradients(3, 1))


def test_a_step_changes_nothing_that_it_is_given():
    training = open_training(replace(METHODS["bp"], model="resnet5", model_options=RESNET))
    learner, batch, program = training.method.learn, training.batch(0), training.program
    before = {name: value.detach().clone() for name, value in program.parameters.items()}
    kept = {name: value.clone() for name, value in program.buffers.items()}
    found = learner(program.parameters, program.buffers, batch, 0)
    assert same({name: value.detach() for name, value in program.parameters.items()}, before)
    assert same(dict(program.buffers), kept)
    assert found.clean
    assert found.losses.shape == (12,)
    moved = [name for name in kept if "running" in name and not torch.equal(found.buffers[name], kept[name])]
    assert moved, "batch norm's statistics move"


RESNET = {"width": "4", "in_channels": "1", "image_size": "16", "norm": "batch"}


def test_the_mean_of_the_halves_is_the_mean_of_two_independent_steps():
    training = open_training(SMALL)
    learner, batch, program = training.method.learn, training.batch(0), training.program
    found, split = halves(learner, program.parameters, program.buffers, batch, 2, 4)
    parts = [learner(program.parameters, program.buffers, batch, 2, 2, stream).gradients for stream in (0, 1)]
    flat = [torch.cat([part[name].flatten().double() for name in parts[0]]) for part in parts]
    for name, value in found.gradients.items():
        torch.testing.assert_close(value, (parts[0][name] + parts[1][name]) / 2)
    assert split.product == pytest.approx(float(flat[0] @ flat[1]))
    assert split.first == pytest.approx(float(flat[0] @ flat[0]))


@pytest.mark.parametrize("copies", [16, 64, 256])
def test_the_monitor_finds_the_cosine_with_the_true_gradient(copies):
    """On an MLP, the mean over 30 steps of a fixed model, within 0.05."""
    changes = {"sigma": 0.01, "scope": "layerwise"}
    training = open_training(replace(SMALL, model_options={"hidden": "16"}, changes=changes))
    learner, batch, program = training.method.learn, training.batch(0), training.program
    _, truth = true_gradient(training.model.module, program.parameters, batch)
    flat = torch.cat([truth[name].flatten() for name in truth]).double()
    sums, cosines = NOTHING, []
    for step in range(30):
        found, split = halves(learner, program.parameters, program.buffers, batch, step, copies)
        sums += split
        estimate = torch.cat([found.gradients[name].flatten() for name in truth]).double()
        cosines.append(float(torch.cosine_similarity(estimate, flat, 0)))
    assert sums.cosine == pytest.approx(sum(cosines) / len(cosines), abs=0.05)


def test_copies_are_steered_towards_the_target():
    job = replace(SMALL, copies=2, steps=12, monitor=1, target_cosine=0.9, copies_max=8, microbatches=1)
    _, state = run(job)
    assert state.copies == 8
    assert len(state.decisions) == 2
    assert state.decisions[0].startswith("step 3: cosine ")
    assert "2 -> 4 copies" in state.decisions[0]
    assert state.rows[-1].cosine is not None
    assert state.rows[-1].forwards == 3 * 2 * 2 + 3 * 2 * 3 + 6 * 2 * 5, "two halves with a clean forward each"


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    """Through a schedule on the way, and with the monitor's state; the log too."""
    job = replace(SMALL, steps=9, monitor=2, target_cosine=0.5, rate_schedule="cosine", optimizer="momentum", rate=0.05)
    _, reference = run(job)
    path = tmp_path / "run.pt"
    first = open_training(job)
    run_training(
        first, initial_state(first), save=lambda state: save_checkpoint(path, job, state), stop=stopped_after(3)
    )
    second = open_training(job, placement=Placement("lr-free", 2))
    state = initial_state(second)
    load_checkpoint(path, job, state)
    assert state.step == 3
    run_training(second, state)
    assert same(state.parameters, reference.parameters)
    assert without_time(state.rows) == without_time(reference.rows)
    assert state.decisions == reference.decisions


def stopped_after(steps):
    asked = iter([False] * steps + [True])
    return lambda: next(asked)


def test_a_killed_run_resumes_exactly(tmp_path):
    """SIGKILL in a real process at the end of its seventh step, between two checkpoints."""
    path = tmp_path / "run.pt"
    script = (
        "import os, signal, sys\n"
        "from alrsim.training import loop\n"
        "step = loop._step\n"
        "def killed(training, state):\n"
        "    step(training, state)\n"
        "    if state.step == 7: os.kill(os.getpid(), signal.SIGKILL)\n"
        "loop._step = killed\n"
        "import alrsim as al\n"
        "small = {'option': {'hidden': '8'}, 'batch': 12, 'microbatches': 1, 'steps': 9, 'eval_every': 2}\n"
        "al.train('mlp', method='lr', copies=4, checkpoint=sys.argv[1], **small)\n"
    )
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    job = TrainJob(
        "mlp", method="lr", model_options={"hidden": "8", "seed": "0"}, copies=4, batch=12, steps=9, eval_every=2
    )
    training, reference = run(job)
    state = initial_state(training)
    load_checkpoint(path, job, state)
    assert state.step == 6
    run_training(training, state)
    assert same(state.parameters, reference.parameters)
    assert without_time(state.rows) == without_time(reference.rows)


def test_two_generations_and_nothing_half_written(tmp_path):
    training = open_training(METHODS["bp"])
    path = tmp_path / "run.pt"
    run_training(training, initial_state(training), save=lambda state: save_checkpoint(path, training.job, state))
    state = initial_state(training)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileError, match="cut off") as error:
        load_checkpoint(path, training.job, state)
    assert str(previous(path)) in str(error.value)
    load_checkpoint(previous(path), training.job, state)
    assert state.step == 4
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(FileError, match="cut off, or no checkpoint"):
        load_checkpoint(path, training.job, initial_state(training))
    torch.save({"weights": torch.ones(2)}, path)
    with pytest.raises(FileError, match=r"is no alrsim\.checkpoint/3"):
        load_checkpoint(path, training.job, initial_state(training))
    with pytest.raises(FileError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "none.pt", training.job, initial_state(training))
    assert {file.name for file in tmp_path.iterdir()} == {"run.pt", "run.pt.previous"}


def test_a_flipped_bit_is_refused_and_the_checkpoint_before_is_offered(tmp_path):
    training = open_training(METHODS["lr"])
    path = tmp_path / "run.pt"
    run_training(training, initial_state(training), save=lambda state: save_checkpoint(path, training.job, state))
    whole, before = path.read_bytes(), previous(path).read_bytes()
    state = initial_state(training)
    load_checkpoint(path, training.job, state)
    tensors = [*state.parameters.values(), *state.buffers.values()]
    tensors += [value for one in state.optimizer.state.values() for value in one.values() if torch.is_tensor(value)]
    places = []
    for tensor in tensors:  # where its bytes are in the file
        start = whole.find(tensor.detach().contiguous().numpy().tobytes())
        assert start > 0
        places += [start, start + tensor.numel() * tensor.element_size() - 1]
    assert len(places) > 8
    for place in {*places, *range(0, len(whole), max(1, len(whole) // 50))}:
        for bit in (0, 3, 7):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            with pytest.raises(FileError) as error:
                load_checkpoint(path, training.job, state)
            assert f"mv {previous(path)} {path}" in error.value.fix
    previous(path).write_bytes(before[:-1])
    with pytest.raises(FileError) as error:
        load_checkpoint(path, training.job, state)
    assert error.value.fix == "begin anew"


def edit(path, change):
    """A checkpoint with other fields, and a checksum that is right."""
    document = torch.load(BytesIO(path.read_bytes().partition(b"\n")[2]), weights_only=True)
    change(document)
    payload = BytesIO()
    torch.save(document, payload)
    path.write_bytes(sealed(payload.getvalue()))


FIELDS = [field.name for field in fields(Checkpoint)]
WORDS = {"format", "digest", "log_sigma"}


def first_name(document):
    return next(iter(document["parameters"]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        *((lambda document, name=name: document.pop(name), name) for name in FIELDS),
        *((lambda document, name=name: document.update({name: "x"}), name) for name in FIELDS if name not in WORDS),
        (lambda document: document["rows"][0].pop("step"), "rows.0.step"),
        (lambda document: document.update(totals=[1.0]), "totals"),
        (lambda document: document.update(parameters={}), "parameters"),
        (lambda document: document["parameters"].update({first_name(document): torch.ones(1)}), "not of shape"),
        (lambda document: document["optimizer"].pop("param_groups"), "optimizer: "),
        (lambda document: document.update(optimizer={"state": {}, "param_groups": []}), "optimizer: "),
    ],
)
def test_an_edited_field_is_refused_by_its_name(tmp_path, change, words):
    training = open_training(SMALL)
    path = tmp_path / "run.pt"
    run_training(training, initial_state(training), save=lambda state: save_checkpoint(path, training.job, state))
    edit(path, change)
    with pytest.raises(FileError, match=words):
        load_checkpoint(path, SMALL, initial_state(training))


def test_a_checkpoint_that_would_run_code_is_not_read(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "owned"),))

    path = tmp_path / "evil.pt"
    payload = BytesIO()
    torch.save({"format": FORMAT, "digest": Evil()}, payload)
    path.write_bytes(sealed(payload.getvalue()))
    training = open_training(METHODS["bp"])
    with pytest.raises(FileError):
        load_checkpoint(path, training.job, initial_state(training))
    assert not (tmp_path / "owned").exists()


def test_another_job_is_refused_by_what_differs(tmp_path):
    path = tmp_path / "run.pt"
    training = open_training(SMALL)
    save_checkpoint(path, SMALL, initial_state(training))
    other = replace(SMALL, rate=0.5, changes={"sigma": 0.1}, seed=3)
    with pytest.raises(FileError) as error:
        load_checkpoint(path, other, initial_state(training))
    for words in ("lr was 0.001, is 0.5", "sigma was None, is 0.1", "seed was 0, is 3"):
        assert words in str(error.value)
    assert "copies was" not in str(error.value)
    longer = replace(SMALL, steps=50, eval_every=7)
    load_checkpoint(path, longer, initial_state(training))
    cosine = replace(SMALL, rate_schedule="cosine")
    save_checkpoint(path, cosine, initial_state(training))
    with pytest.raises(FileError, match="steps was 5, is 50"):
        load_checkpoint(path, replace(cosine, steps=50), initial_state(training))


def test_a_diverged_run_stops_and_says_so():
    job = replace(METHODS["bp"], optimizer="sgd", rate=1e30, steps=20)
    with pytest.raises(ExecutionError, match="the loss of step"):
        run(job)


def test_nodes_without_a_label_count_neither_in_loss_nor_in_accuracy():
    job = TrainJob("gcn", data="synthetic-graph", method="bp", model_options=GRAPH, batch=2, steps=1, eval_every=1)
    training = open_training(job)
    program, splits = training.program, training.splits
    labels = splits.test.labels.clone()
    labels[:, ::3] = UNLABELLED
    part = replace(splits.test, labels=labels)
    score = evaluate(training.model.module, program.parameters, program.buffers, splits, part)
    logits = training.model.module(*part.inputs).detach().transpose(1, 2).reshape(-1, 3)
    known = labels.flatten() != UNLABELLED
    assert 0 < score.samples == int(known.sum()) < known.numel()
    right = logits.argmax(1)[known] == labels.flatten()[known]
    assert score.accuracy == pytest.approx(float(right.float().mean()))
    assert score.loss == pytest.approx(float(F.cross_entropy(logits[known], labels.flatten()[known])), rel=1e-5)


GRAPH = {"nodes": "24", "features": "16", "hidden": "4", "classes": "3"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"copies": 3, "monitor": 2}, "3 is odd"),
        ({"target_cosine": 0.5}, "monitor"),
        ({"group": 3}, "do not divide 4"),
        ({"copies": 2, "monitor": 2, "changes": {"baseline": "copy-mean"}}, "half that the monitor"),
        (
            {"monitor": 2, "target_cosine": 0.5, "changes": {"baseline": "copy-mean"}},
            "may fall to 2",
        ),
        (
            {"copies": 2, "monitor": 2, "changes": {"baseline": "antithetic", "sigma_rule": "learned"}},
            "2 antithetic pairs",
        ),
        ({"segments": (1,)}, "no other method"),
        ({"method": "segments"}, "segments"),
        ({"monitor": 2, "target_cosine": 1.5}, "between 0 and 1"),
        ({"batch": 13}, "cannot be split evenly"),
        ({"rate": float("nan")}, "lr"),
        ({"steps": 0}, "steps"),
        ({"monitor": 2, "target_cosine": 0.5, "copies_min": 9, "copies_max": 4}, "no range"),
    ],
)
def test_jobs_that_make_no_sense_are_refused(change, words):
    with pytest.raises(OptionError) as error:
        replace(SMALL, **change)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("job", "placement"),
    [
        (replace(SMALL, method="nothing"), None),
        (replace(METHODS["bp"], monitor=2, copies=2), None),
        (replace(METHODS["bp"], method="fa", cut="block"), Placement("lr-fixed", 2)),
        (replace(METHODS["bp"], method="hsic", cut="block", changes={"sigma": 0.1}), None),
        (SMALL, Placement("zb-h1", 3)),
    ],
)
def test_what_does_not_go_together_is_refused(job, placement):
    with pytest.raises(AlrsimError):
        open_training(job, placement=placement)


def test_wrong_data_are_refused_by_the_step():
    training = open_training(SMALL)
    learner = training.method.learn
    ready = learner.at(4)
    batch = training.batch(0)
    with pytest.raises(ExecutionError, match="shape"):
        step_gradients(
            ready.prepared,
            None,
            parameters=training.program.parameters,
            buffers=training.program.buffers,
            batch=replace(batch, targets=batch.targets[:-1]),
            step=0,
        )


NODES = TrainJob(
    "gcn", data="synthetic-graph", method="lr", model_options=GRAPH, batch=4, microbatches=2, copies=4, steps=2
)


def test_losses_per_node_are_masked_by_default_and_no_schedule_changes_a_bit():
    training, state = run(NODES)
    assert training.method.mask == "reach"
    assert same(state.parameters, run(replace(NODES, mask="reach"))[1].parameters)
    assert same(state.parameters, run(NODES, Placement("lr-free", 2))[1].parameters)
    assert not same(state.parameters, run(replace(NODES, mask="none"))[1].parameters)
    assert open_training(SMALL).method.mask == "none", "one loss per sample"
    assert open_training(replace(NODES, method="bp", copies=1)).method.mask == "none"


def test_masked_training_gradients_are_nearer_to_the_true_one():
    cosines = {}
    for mask in ("none", "reach"):
        training = open_training(replace(NODES, mask=mask, copies=16))
        program, batch = training.program, training.batch(0)
        _, truth = true_gradient(training.model.module, program.parameters, batch)
        flat = torch.cat([truth[name].flatten() for name in truth]).double()
        found = []
        for step in range(10):
            step_found = training.method.learn(program.parameters, program.buffers, batch, step, 16).gradients
            estimate = torch.cat([step_found[name].flatten() for name in truth]).double()
            found.append(float(torch.cosine_similarity(estimate, flat, 0)))
        cosines[mask] = sum(found) / len(found)
    assert cosines["reach"] > 1.2 * cosines["none"] > 0


def test_the_last_segment_is_exact_and_the_ones_before_are_not():
    job = replace(SMALL, method="segments", segments=(1,), copies=4)
    training = open_training(job)
    program, batch = training.program, training.batch(0)
    _, truth = true_gradient(training.model.module, program.parameters, batch)
    found = training.method.learn(program.parameters, program.buffers, batch, 0, 4).gradients
    first, *rest = (set(code.parameters) for code in program.at(1))
    for name in set().union(*rest):
        torch.testing.assert_close(found[name], truth[name], rtol=1e-4, atol=1e-6)
    for name in first:
        assert not torch.allclose(found[name], truth[name], rtol=0.1)


@pytest.mark.parametrize("rule", ["relative", "balanced"])
def test_noise_scales_from_data_are_measured_once(rule):
    job = replace(SMALL, changes={"sigma_rule": rule, "sigma": 0.05})
    training, state = run(job)
    sigma = training.method.sigma
    assert len(set(sigma)) == len(sigma) == 3
    assert state.sigma is None, "they stay as they began"
    _, other = run(SMALL)
    assert not same(state.parameters, other.parameters)
    if rule == "relative":
        logits = training.model.module(*training.batch(0).inputs)
        half = logits[: job.batch // 2].detach()
        assert sigma[-1] == pytest.approx(0.05 * float(half.std()), rel=1e-4), "of the first micro-batch"


def test_learned_noise_scales_descend_and_are_resumed(tmp_path):
    changes = {"sigma_rule": "learned", "baseline": "antithetic", "sigma": 0.3}
    job = replace(SMALL, changes=changes, steps=6, sigma_rate=0.1, monitor=3)
    training, reference = run(job)
    start = torch.full((3,), 0.3, dtype=torch.float64).log()
    assert bool((reference.log_sigma != start).all())
    assert bool(((reference.log_sigma - start).abs() <= 6 * 0.1 + 1e-9).all()), "Adam moves by at most its rate"
    path = tmp_path / "run.pt"
    run_training(
        training, initial_state(training), save=lambda state: save_checkpoint(path, job, state), stop=stopped_after(3)
    )
    state = initial_state(training)
    load_checkpoint(path, job, state)
    run_training(training, state)
    assert torch.equal(state.log_sigma, reference.log_sigma)
    assert same(state.parameters, reference.parameters)
