"""The executor ``cuda``: order of accesses and errors on pretended devices, the device itself where there is one.

Nothing here has run on a GPU unless the last tests of this file have: they are skipped without one.
"""

import _thread
import random
import threading
import time
from functools import partial

import pytest
import torch

from alrsim.errors import ExecutionError
from alrsim.execution.executor import Scheduled, execute_prepared, prepare, sequential
from alrsim.execution.executors import EXECUTORS, unavailable
from alrsim.execution.kernels.registry import KERNELS
from alrsim.execution.session import InterruptedRun, Limits, RunError
from alrsim.execution.workers.cuda import cuda
from alrsim.execution.workers.messages import sum_sites
from alrsim.execution.workers.streams import ROUNDS, align, exact, find_cuda
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.rules import RULES, RuleOptions
from alrsim.schedule.schedule import Lane, Schedule
from alrsim.schedulers.registry import schedule

MLP = {"hidden": 6, "features": 8}
INT8 = PrecisionPlan(saved=Precision.INT8, noise=Precision.INT8)
LR = {"microbatches": 2, "copies": 2, "noise": "rademacher"}
METHODS = {
    "gpipe": ("bp", "gpipe", RuleOptions(microbatches=3, optimizer="momentum")),
    "1f1b": ("bp", "1f1b", RuleOptions(microbatches=3)),
    "zb-h1": ("bp-split", "zb-h1", RuleOptions(microbatches=3)),
    "lr-fixed": ("lr", "lr-fixed", RuleOptions(**LR)),
    "lr-free": ("lr", "lr-free", RuleOptions(**LR)),
    "accumulate": ("lr", "list", RuleOptions(**{**LR, "copies": 4, "group": 2, "reduction": "accumulate"})),
    "layerwise": ("lr", "lr-free", RuleOptions(**LR, scope="layerwise")),
    "signs": ("lr", "lr-free", RuleOptions(**LR, input_code="sign", noise_code="sign", precision=INT8)),
}
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this host")


@pytest.fixture
def devices(pretended, monkeypatch):
    """Choose the executor ``cuda`` on so many pretended devices."""
    monkeypatch.setattr("alrsim.execution.job.stage_products", lambda *_: {})  # machine code, of the reference alone

    def choose(count):
        monkeypatch.setitem(EXECUTORS, "cuda", partial(cuda, find=lambda: pretended.PretendedDevice(count)))

    with pretended.pretending():
        yield choose


def job_of(subject, problem_of, method, units=2, **changes):
    rule, scheduler, options = METHODS[method]
    one = subject("mlp", "layer" if rule == "lr" else f"balanced:{units}", **MLP)
    graph = RULES[rule](one.stages, options)
    problem = problem_of(graph, units)
    prepared = prepare(one.program, graph, one.batch(options.microbatches), options, **changes)
    return one, Scheduled(prepared, problem, schedule(problem, scheduler))


def executed(job, **options):
    return execute_prepared(job.prepared, job.problem, job.schedule, executor="cuda", warmup=0, **options)


def assert_same(result, reference):
    for what in ("gradients", "buffers", "parameters", "losses"):
        found, expected = getattr(result, what), getattr(reference, what)
        assert set(found) == set(expected)
        assert all(torch.equal(found[name], expected[name]) for name in expected), what


@pytest.mark.parametrize(
    ("method", "count"), [*((method, 1) for method in METHODS), ("1f1b", 2), ("lr-free", 2), ("accumulate", 2)]
)
def test_streams_compute_what_the_sequential_reference_computes(
    subject, problem_of, autograd, pretended, devices, method, count
):
    devices(count)
    one, job = job_of(subject, problem_of, method)
    result = executed(job, repeats=2)
    options, graph = job.prepared.job.options, job.prepared.job.graph
    batch = one.batch(options.microbatches)
    assert_same(result, sequential(one.program, graph, batch, options))
    if METHODS[method][0] != "lr":
        gradients, _ = autograd(one.model, batch, options.microbatches)
        for name, expected in gradients.items():
            torch.testing.assert_close(result.gradients[name], expected, rtol=1e-5, atol=1e-7)
    assert pretended.CLOCKS.races == []
    assert len(result.timeline.spans) == len(graph.tasks)
    assert result.timeline.facts.executor == "cuda"
    assert result.timeline.facts.devices == count


@pytest.mark.parametrize("count", [1, 3])
def test_spans_obey_lanes_and_data(subject, problem_of, devices, count):
    devices(count)
    _, job = job_of(subject, problem_of, "lr-free", units=3)
    line = executed(job, repeats=1).timeline
    spans = {span.task: span for span in line.spans}
    for lane in job.schedule.lanes:
        for before, after in zip(lane.tasks, lane.tasks[1:], strict=False):
            assert spans[before].end <= spans[after].start
    graph = job.prepared.job.graph
    for index, task in enumerate(graph.tasks):
        for other, _ in graph.dependencies(index):
            assert spans[graph.tasks[other].id].end <= spans[task.id].start
    assert any(transfer.bytes for transfer in line.transfers)
    assert all(0 <= transfer.start <= transfer.end for transfer in line.transfers)


@pytest.mark.parametrize("seed", range(3))
def test_any_order_that_the_data_allows_is_free_of_races(subject, problem_of, pretended, devices, seed):
    devices(1 + seed % 3)
    one, job = job_of(subject, problem_of, "accumulate")
    graph, pick = job.prepared.job.graph, random.Random(seed)
    waiting = {index: {other for other, _ in graph.dependencies(index)} for index in range(len(graph.tasks))}
    lanes = [[] for _ in range(3)]
    while waiting:
        index = pick.choice([index for index, needs in waiting.items() if not needs & waiting.keys()])
        del waiting[index]
        lanes[pick.randrange(3)].append(graph.tasks[index].id)
    chosen = Schedule(tuple(Lane(f"u{unit}", tuple(lane)) for unit, lane in enumerate(lanes)), "random")
    scheduled = Scheduled(job.prepared, problem_of(graph, 3), chosen)
    result = executed(scheduled, repeats=1)
    assert_same(result, sequential(one.program, graph, one.batch(2), job.prepared.job.options))
    assert pretended.CLOCKS.races == []


def everywhere(ledger, placed):
    """Every cotangent is added up on every unit."""
    units = tuple(sorted(set(placed.unit)))
    sites = sum_sites(ledger, placed)
    return {key: units if key[0] == "cotangent" else at for key, at in sites.items()}


@pytest.mark.parametrize("shared", [True, False])
def test_units_that_add_to_the_same_term_have_copies_of_it(
    subject, problem_of, pretended, devices, monkeypatch, shared
):
    """Terms go by reference on one device, and the first one becomes the sum; without copies it is corrupted."""
    devices(1)
    one, job = job_of(subject, problem_of, "accumulate", units=3)
    for place in ("division", "messages"):
        monkeypatch.setattr(f"alrsim.execution.workers.{place}.sum_sites", everywhere)
    if shared:
        graph = job.prepared.job.graph
        assert_same(executed(job, repeats=1), sequential(one.program, graph, one.batch(2), job.prepared.job.options))
        return
    monkeypatch.setattr("alrsim.execution.workers.device_job.Counter", lambda _terms: {})
    with pytest.raises(RunError, match=r"may still read|may not have written"):
        executed(job, repeats=1)


def test_clocks_are_aligned_by_the_shortest_of_several_tries(pretended):
    class Slow(pretended.PretendedDevice):
        tries = 0

        def rest(self):
            self.tries += 1

    class Late:
        def __init__(self, polls):
            self.polls, self.at = polls, time.perf_counter_ns()

        def passed(self):
            self.polls -= 1
            return self.polls < 0

    class Idle:
        def mark(self):
            return Late(20_000 if device.tries != 3 else 0)

    device = Slow()
    mark, host, residual = align(device, Idle())
    assert mark.polls == -1  # of the third try
    assert abs(mark.at - host) <= residual
    assert device.tries == ROUNDS


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("method", ["1f1b", "lr-free"])
def test_a_missing_wait_is_found(subject, problem_of, pretended, devices, monkeypatch, method, count):
    """A mutation: streams that do not wait for the marks that come with the data."""
    devices(count)
    _, job = job_of(subject, problem_of, method)
    monkeypatch.setattr(pretended.PretendedStream, "wait", lambda *_: None)
    with pytest.raises(RunError, match="may not have written yet"):
        executed(job, repeats=1)


def test_memory_that_is_freed_too_early_is_found(subject, problem_of, pretended, devices, monkeypatch):
    """A mutation: the allocator is not told that another stream reads a tensor."""
    devices(1)
    _, job = job_of(subject, problem_of, "1f1b")
    monkeypatch.setattr(pretended.PretendedStream, "keep", lambda *_: None)
    executed(job, repeats=1)
    assert any("is freed while" in race for race in pretended.CLOCKS.races)


def test_a_session_samples_and_measures(subject, problem_of, pretended, devices):
    devices(2)
    jobs = [job_of(subject, problem_of, method)[1] for method in ("gpipe", "lr-free")]
    with EXECUTORS["cuda"](jobs, Limits()) as session:
        for index, job in enumerate(jobs):
            count = len(job.prepared.job.graph.tasks)
            for workers in (1, 2):
                samples = session.sample(index, workers)
                assert len(samples) == workers
                for times in samples:
                    assert len(times.end) == count
                    assert all(0 <= start < end for start, end in zip(times.start, times.end, strict=True))
                    assert all(a <= b for a, b in zip(times.end, times.start[1:], strict=False))
            session.run(index)
            assert set(session.results(index).gradients) == set(job.prepared.job.program.parameters)
        assert len(session.exchange(0, 1, 1 << 10, 3)) == 3
        assert all(one.arrive_ns > 0 for one in session.exchange(1, 0, 1 << 10, 3))
        assert session.overhead(20) > 0
    assert pretended.CLOCKS.races == []


def failing(body):
    """Kernels of which the gradient raises."""

    def kernel(run, task, id_):
        if run.store.recording or id_.stage != 1:
            KERNELS["G"](run, task, id_)
        else:
            body()

    return {**KERNELS, "G": kernel}


def broken():
    raise ValueError("broken")


def full():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80.00 GiB.")


@pytest.mark.parametrize(("body", "what"), [(broken, "ValueError: broken"), (full, "out of memory: CUDA")])
def test_a_task_that_raises_is_named(subject, problem_of, devices, body, what):
    devices(1)
    _, job = job_of(subject, problem_of, "lr-fixed", kernels=failing(body))
    before = set(threading.enumerate())
    with pytest.raises(RunError, match=what) as caught:
        executed(job, repeats=1)
    assert caught.value.token == "1G0.1"
    assert caught.value.unit
    assert caught.value.timeline.facts.partial
    assert 0 < len(caught.value.timeline.spans) < len(job.prepared.job.graph.tasks)
    assert set(threading.enumerate()) <= before


def test_a_task_that_hangs_is_named_within_its_limit(subject, problem_of, devices):
    devices(1)
    _, job = job_of(subject, problem_of, "lr-fixed", kernels=failing(lambda: time.sleep(1.5)))
    with pytest.raises(RunError, match="hung: nothing began or ended for") as caught:
        executed(job, repeats=1, limits=Limits(task_seconds=0.5))
    assert caught.value.token == "1G0.1"


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_a_run(subject, problem_of, devices):
    devices(1)
    _, job = job_of(subject, problem_of, "lr-fixed", kernels=failing(_thread.interrupt_main))
    before = set(threading.enumerate())
    with pytest.raises(InterruptedRun):
        executed(job, repeats=1)
    assert set(threading.enumerate()) <= before


def test_a_backward_away_from_its_forward_is_refused(subject, problem_of, devices):
    devices(1)
    one, job = job_of(subject, problem_of, "gpipe")
    graph = job.prepared.job.graph
    lanes = [
        tuple(task.id for task in graph.tasks if (task.id.kind in "BU") == away) for away in (False, True)
    ]  # fmt: skip
    moved = Schedule((Lane("u0", lanes[0]), Lane("u1", lanes[1])), "moved")
    with pytest.raises(ExecutionError, match="cannot be sent"):
        executed(Scheduled(job.prepared, job.problem, moved), repeats=1)
    assert one.program.device.type == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this host has a CUDA device")
def test_a_host_without_a_gpu_says_so():
    with pytest.raises(ExecutionError) as caught:
        find_cuda()
    assert "CUDA" in caught.value.what
    assert caught.value.field == "executor"
    assert "threads" in caught.value.fix
    assert unavailable("cuda") == caught.value.what


def test_settings_of_torch_are_put_back(subject, problem_of, devices):
    devices(1)
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32
    _, job = job_of(subject, problem_of, "gpipe")
    with EXECUTORS["cuda"]([job], Limits()):
        assert torch.backends.cudnn.deterministic
        assert not torch.backends.cudnn.allow_tf32
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32) == before


@NO_GPU
@pytest.mark.parametrize("method", METHODS)
def test_a_gpu_computes_its_own_sequential_reference(subject, problem_of, autograd, method):
    one, job = job_of(subject, problem_of, method)
    options, graph = job.prepared.job.options, job.prepared.job.graph
    batch = one.batch(options.microbatches)
    result = executed(job, repeats=3)
    if METHODS[method][0] == "lr":
        with exact():
            reference = sequential(one.program.to("cuda:0"), graph, batch.to("cuda:0"), options)
        for name, expected in reference.gradients.items():
            assert torch.equal(result.gradients[name], expected.cpu())
    else:
        gradients, _ = autograd(one.model, batch, options.microbatches)
        for name, expected in gradients.items():
            torch.testing.assert_close(result.gradients[name], expected, rtol=1e-4, atol=1e-6)
    assert result.timeline.facts.allocated_peak_bytes > 0


@NO_GPU
def test_a_gpus_spans_obey_lanes_and_data(subject, problem_of):
    test_spans_obey_lanes_and_data.__wrapped__(subject, problem_of, lambda _: None, 1)


@NO_GPU
def test_links_and_overhead_of_a_gpu(subject, problem_of):
    _, job = job_of(subject, problem_of, "lr-free")
    with EXECUTORS["cuda"]([job], Limits()) as session:
        assert all(one.arrive_ns >= 0 for one in session.exchange(0, 1, 1 << 20, 5))
        assert session.overhead(100) > 0
