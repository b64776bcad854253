"""The storage tracker against hand counts, the ledger against the tracker, and both against torch's MemTracker."""

import copy
import json
import mmap

import numpy as np
import pytest
import torch
from torch.autograd.graph import get_gradient_edge
from torch.distributed._tools.mem_tracker import MemTracker
from torch.profiler import ProfilerActivity, profile

from alrsim.allocation import beside, listening
from alrsim.estimators.codes import encode
from alrsim.execution.executor import Batch, execute_prepared, prepare
from alrsim.execution.kernels.losses import sample_losses
from alrsim.execution.kernels.store import KEPT
from alrsim.execution.measuring.rss import peak_rss, reset_peak_rss
from alrsim.execution.measuring.tracking import made_bytes, measure_scratch, metering, task_scratch, tracked_peak
from alrsim.execution.prepared import new_run, task_body
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.rules import RULES, RuleOptions
from alrsim.schedulers.registry import schedule
from alrsim.tasks.problem import cost_key
from alrsim.timeline.facts import PROCESS
from alrsim.timeline.memory import peak_memory

CPU = torch.device("cpu")
SMALL = {"width": 4, "image_size": 16}
WORDS = {"vocabulary": 20, "embedding": 6, "hidden": 8, "sequence": 4}
NODES = 1


def prepared_step(subject, name, cut, rule="bp", microbatches=2, batch=3, sizes=None, **options):
    """A prepared job with labels that fit the model."""
    one = subject(name, cut, batch, **(sizes or {}))
    chosen = RuleOptions(microbatches=microbatches, **options)
    graph = RULES[rule](one.stages, chosen)
    samples = one.program.batch * microbatches
    inputs = tuple(one.model.example(samples))
    with torch.no_grad():
        shape = one.model.module(*one.model.example(batch)).shape
    targets = torch.zeros((samples, *shape[2:]), dtype=torch.long)
    return one, prepare(one.program, graph, Batch(inputs, targets), chosen)


class TestTheMeter:
    def test_counts_a_storage_from_its_operator_to_its_last_reference(self):
        with metering([], CPU) as meter:
            first = torch.ones(100)
            meter.mark()
            second = first + first
            assert (meter.mark(), second.numel()) == (800, 100)
            del second
            assert (meter.mark(), meter.peak()) == (400, 400)

    def test_counts_no_view_and_no_result_in_place_twice(self):
        with metering([], CPU) as meter:
            value = torch.ones(100)
            part = value.view(10, 10)[2:]
            value.add_(1)
            del value
            assert meter.mark() == 400, "the view keeps it"
            del part
            assert meter.mark() == 0

    def test_keeps_the_peak_of_what_is_gone(self):
        with metering([], CPU) as meter:
            (torch.ones(100) + 1).sum()
            assert (meter.peak(), meter.mark()) == (800, 0)

    def test_counts_nothing_that_was_there_before(self):
        value = torch.ones(100)
        with metering([value], CPU) as meter:
            kept = value.view(10, 10).mul_(2)
            assert (meter.mark(), kept.numel()) == (0, 100)

    def test_sees_what_autograd_saves_and_what_backward_makes(self):
        weight = torch.ones(100, requires_grad=True)
        with metering([weight], CPU) as meter:
            loss = (weight.exp() * weight.exp()).sum()
            assert meter.mark() == 800 + 4, "two results of exp are saved, their product is not"
            (gradient,) = torch.autograd.grad(loss, [weight])
            assert meter.peak() > 804
            del loss
            assert (meter.mark(), gradient.numel()) == (400, 100)

    def test_counts_numpys_memory_once_torch_works_on_it_or_somebody_says_so(self):
        with metering([], CPU) as meter:
            value = torch.from_numpy(np.zeros(100, dtype=np.float32)).view(10, 10)
            assert meter.mark() == 400
            beside(1000)
            assert (meter.peak(), meter.mark()) == (1400, 400)
            del value


CASES = {
    "mlp uncut": ("mlp", "balanced:1", "bp", {}, {}),
    "mlp split": ("mlp", "layer", "bp-split", {}, {}),
    "mlp lr": ("mlp", "layer", "lr", {}, {"copies": 4}),
    "mlp es": ("mlp", "layer", "lr", {}, {"copies": 4, "weight_noise": (0, 1, 2)}),
    "mlp adam": ("mlp", "layer", "bp", {}, {"optimizer": "adam"}),
    "batch norm": ("resnet5", "balanced:2", "bp", {**SMALL, "norm": "batch"}, {}),
    "resnet5 uncut": ("resnet5", "balanced:1", "bp", SMALL, {}),
    "resnet5 blocks": ("resnet5", "block", "bp-split", SMALL, {}),
    "resnet5 lr": ("resnet5", "layer", "lr", SMALL, {"copies": 4, "group": 2}),
    "resnet5 lr of blocks": ("resnet5", "block", "lr", SMALL, {"copies": 4, "reduction": "accumulate", "group": 2}),
    "resnet5 pairs": ("resnet5", "layer", "lr", SMALL, {"copies": 4, "baseline": "antithetic"}),
    "resnet5 layer-wise": ("resnet5", "layer", "lr", SMALL, {"copies": 2, "scope": "layerwise"}),
    "segments": ("resnet5", "balanced:3", "segments", SMALL, {"copies": 2, "segments": (1,)}),
    "rnn": ("rnn", "layer", "bp", WORDS, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_what_lives_between_tasks_is_what_the_ledger_says_to_the_byte(subject, case):
    name, cut, rule, sizes, options = CASES[case]
    _, prepared = prepared_step(subject, name, cut, rule, sizes=sizes, **options)
    tracked = tracked_peak(prepared)
    count = len(prepared.job.graph.tasks)
    assert [*tracked.before, tracked.after] == [_expected(prepared, index) for index in range(count + 1)]


def _expected(prepared, task):
    """Bytes before a task, from who writes and reads what; results of the run stay."""
    live = 0
    for key, entry in prepared.ledger.entries.items():
        views = [other for other in prepared.ledger.entries.values() if other.base == key]
        last = max((reader for one in (entry, *views) for reader in one.readers), default=-1)
        if 0 <= entry.producer < task and entry.base is None and (key[0] in KEPT or last >= task):
            live += entry.bytes
    for key, total in prepared.ledger.sums.items():
        first, size = total.terms[0]
        if key[0] != "grad" and first < task and (key[0] in KEPT or max(total.readers, default=-1) >= task):
            live += size
    return live


@pytest.mark.parametrize("case", CASES)
def test_buffers_and_scratch_make_the_tracked_peak_to_the_byte(subject, case):
    name, cut, rule, sizes, options = CASES[case]
    _, prepared = prepared_step(subject, name, cut, rule, sizes=sizes, **options)
    tracked, made, scratch = tracked_peak(prepared), made_bytes(prepared), measure_scratch(prepared)
    tasks = prepared.job.graph.tasks
    modelled = [tracked.before[i] + made[i] + scratch[cost_key(task)] for i, task in enumerate(tasks)]
    assert all(peak <= most for peak, most in zip(tracked.peaks, modelled, strict=True))
    exact = {cost_key(task) for i, task in enumerate(tasks) if tracked.peaks[i] == modelled[i]}
    assert exact == {cost_key(task) for task in tasks}
    assert any(size > 0 for size in scratch.values())
    each = [tracked.before[i] + made[i] + size for i, size in enumerate(task_scratch(prepared))]
    assert each == list(tracked.peaks)
    if options.get("scope") != "layerwise":  # forwards of unlike instances have one key there
        assert max(modelled) == tracked.peak


def test_the_measured_timeline_has_the_tracked_peak(subject, problem_of):
    one, prepared = prepared_step(subject, "resnet5", "layer", "lr", sizes=SMALL, copies=4)
    problem = problem_of(prepared.job.graph, 1)
    plan = schedule(problem, "serial")
    found = execute_prepared(prepared, problem, plan, repeats=1, warmup=0, dispatch_overhead_ns=0)
    (measured,) = peak_memory(found.timeline).values()
    residents = 2 * sum(value.nbytes for value in one.program.parameters.values())
    inputs = sum(value.nbytes for value in prepared.batch.inputs)
    losses = sum(entry.bytes for key, entry in prepared.ledger.entries.items() if key[0] == "loss")
    tracked = tracked_peak(prepared).peak
    # Losses are results, which the run hands out; inputs leave the step with their last reader.
    assert residents + tracked - losses <= measured <= residents + inputs + tracked
    assert found.timeline.facts.peak_rss_bytes[PROCESS] > measured


MODELS = {
    "mlp": ("mlp", {}, 3),
    "resnet5": ("resnet5", SMALL, 3),
    "resnet5 with batch norm": ("resnet5", {**SMALL, "norm": "batch"}, 3),
    "vgg8": ("vgg8", {}, 2),
    "rnn": ("rnn", WORDS, 3),
    "gru": ("gru", WORDS, 3),
    "lstm": ("lstm", WORDS, 3),
    "gcn": ("gcn", {}, NODES),
    "gat": ("gat", {}, NODES),
}


@pytest.mark.parametrize("case", MODELS)
def test_under_bp_the_peak_of_an_uncut_model_is_mem_trackers(subject, problem_of, case):
    name, sizes, batch = MODELS[case]
    one, prepared = prepared_step(
        subject, name, "balanced:1", "bp", microbatches=1, batch=batch, sizes=sizes, update=False
    )
    problem = problem_of(prepared.job.graph, 1)
    plan = schedule(problem, "serial")
    found = execute_prepared(prepared, problem, plan, repeats=1, warmup=0, dispatch_overhead_ns=0)
    (ours,) = peak_memory(found.timeline).values()
    module = copy.deepcopy(one.model.module).train()
    # Adjacency, running statistics and labels are there all the time and are in none of our categories.
    others = sum(value.nbytes for value in (*module.buffers(), prepared.batch.targets))
    # Running statistics of a micro-batch begin at zeros of their own, which autograd keeps, so that micro-batches can
    # be added up in one order whatever the schedule.
    own = sum(value.nbytes for key, value in module.named_buffers() if "running" in key)
    assert ours + others == _mem_tracker_peak(module, prepared.batch) + own


def _mem_tracker_peak(module, batch):
    """Forward, gradient of the loss, backward, and the gradients added to ones that were there, as the executor does:
    nothing is held that it does not hold."""
    parameters = [value for value in module.parameters() if value.requires_grad]
    for value in parameters:
        value.grad = torch.zeros_like(value)
    tracker = MemTracker()
    tracker.track_external(module, *batch.inputs, batch.targets, *(value.grad for value in parameters))
    with tracker:
        logits = module(*batch.inputs)
        edge, leaf = get_gradient_edge(logits), logits.detach().requires_grad_()
        del logits
        losses = sample_losses(leaf, batch.targets)
        (signal,) = torch.autograd.grad(losses.sum() / len(batch.targets), [leaf])
        del losses, leaf
        for value, gradient in zip(parameters, torch.autograd.grad([edge], parameters, [signal]), strict=True):
            value.grad.add_(gradient)
    return tracker.get_tracker_snapshot("peak")[CPU]["Total"]


@pytest.mark.parametrize(("name", "sizes"), [("mlp", {}), ("resnet5", SMALL), ("rnn", WORDS)])
def test_what_waits_for_the_backward_is_the_same_however_the_model_is_cut(subject, name, sizes):
    waiting = {}
    for cut in ("balanced:1", "balanced:2", "layer", "block", "operator"):
        _, prepared = prepared_step(subject, name, cut, "bp", microbatches=1, sizes=sizes)
        tasks = prepared.job.graph.tasks
        first = next(index for index, task in enumerate(tasks) if task.id.kind == "B")
        waiting[cut] = tracked_peak(prepared).before[first]
    assert len(set(waiting.values())) == 1, waiting


def test_scratch_is_measured_once_for_a_prepared_job(subject, monkeypatch):
    _, prepared = prepared_step(subject, "mlp", "layer")
    first = dict(measure_scratch(prepared))
    monkeypatch.setattr("alrsim.execution.measuring.tracking.tracked_peak", lambda _: pytest.fail("measured again"))
    assert dict(measure_scratch(prepared)) == first


def test_the_peak_of_resident_memory_begins_again_where_the_system_lets_it():
    size = 64 << 20
    with mmap.mmap(-1, size) as held:  # not from the heap, which keeps what is freed
        held.write(b"1" * size)
        high = peak_rss()
        assert high > size
    if reset_peak_rss():
        assert peak_rss() < high - size // 2


def test_a_view_of_an_input_belongs_to_its_own_micro_batch(subject):
    _, prepared = prepared_step(subject, "snn", "operator", microbatches=3)
    views = {key: entry.base for key, entry in prepared.ledger.entries.items() if entry.base is not None}
    flat = {key: base for key, base in views.items() if base[0] == "input"}
    assert len(flat) == 3
    assert all(key[2] == base[2] for key, base in flat.items())


@pytest.mark.parametrize(("code", "heard"), [("sign", 8192 + 1024), ("threshold", 4 * 8192)])
def test_bits_say_what_numpy_holds_while_they_are_packed(code, heard):
    said = []
    with listening(said.append):
        encode(torch.randn(2, 4096), Precision.SIGN1, code)
    assert said == [heard]


def test_a_task_that_packs_bits_has_what_numpy_holds_in_its_peak(subject, monkeypatch):
    bits = PrecisionPlan(saved=Precision.SIGN1, noise=Precision.SIGN1)
    options = {"copies": 4, "input_code": "sign", "noise_code": "sign", "noise": "rademacher", "precision": bits}
    _, prepared = prepared_step(subject, "resnet5", "layer", "lr", sizes=SMALL, **options)
    before, said = tracked_peak(prepared), []
    with listening(said.append):
        tracked_peak(prepared)
    assert max(said) > 0
    monkeypatch.setattr("alrsim.execution.kernels.products.beside", lambda size: beside(size + before.peak))
    after = tracked_peak(prepared)
    assert before.before == after.before
    assert after.peak > before.peak


@pytest.mark.parametrize(("name", "sizes"), [("mlp", {}), ("rnn", {}), ("lstm", WORDS)])
def test_without_convolutions_torchs_own_allocator_had_the_same_peak(subject, tmp_path, name, sizes):
    """Convolutions allocate inside their operators, which no dispatch shows: there the allocator has more. Under a
    dispatch mode autograd adds the gradients of a value with several readers, as an LSTM has, into a new tensor: there
    the tracker (as MemTracker) has more."""
    _, prepared = prepared_step(subject, name, "balanced:2", sizes=sizes)
    run = new_run(prepared, recording=False)
    body = task_body(prepared, run)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        for index in range(len(prepared.job.graph.tasks)):
            body(index)
    profiled.export_chrome_trace(str(tmp_path / "trace.json"))
    events = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))["traceEvents"]
    moves = [one["args"] for one in events if one.get("name") == "[memory]"]
    before = moves[0]["Total Allocated"] - moves[0]["Bytes"]
    peak, tracked = max(move["Total Allocated"] for move in moves) - before, tracked_peak(prepared).peak
    assert 0.9 * tracked < peak < tracked if name == "lstm" else peak == tracked
