"""One suite over the whole registry of executors: gradients, timelines, sessions. What a host cannot run is skipped."""

from dataclasses import replace

import pytest
import torch

from alrsim.execution.executor import Scheduled, execute_prepared, prepare, sequential
from alrsim.execution.executors import EXECUTORS, unavailable
from alrsim.execution.session import Limits
from alrsim.execution.workers.streams import exact
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.rules import RULES, RuleOptions
from alrsim.schedulers.registry import SCHEDULERS, schedule
from alrsim.simulation.engine import simulate
from alrsim.timeline.comparison import Comparison

HERE = [
    pytest.param(name, marks=pytest.mark.skipif(bool(unavailable(name)), reason=unavailable(name) or "runs"))
    for name in EXECUTORS
]
SMALL = {"width": 4, "image_size": 16}
INT8 = PrecisionPlan(saved=Precision.INT8, noise=Precision.INT8)
BITS = PrecisionPlan(saved=Precision.SIGN1, noise=Precision.SIGN1)
METHODS = {
    "gpipe": ("bp", "gpipe", RuleOptions(microbatches=4)),
    "1f1b": ("bp", "1f1b", RuleOptions(microbatches=4)),
    "zb-h1": ("bp-split", "zb-h1", RuleOptions(microbatches=4)),
    "lr-fixed": ("lr", "lr-fixed", RuleOptions(microbatches=3, copies=2)),
    "lr-free": ("lr", "lr-free", RuleOptions(microbatches=3, copies=2)),
    "groups": ("lr", "list", RuleOptions(microbatches=2, copies=4, group=2)),
    "accumulate": ("lr", "list", RuleOptions(microbatches=2, copies=4, group=2, reduction="accumulate")),
    "alr": ("lr", "lr-free", RuleOptions(microbatches=3, copies=2, precision=INT8, noise_code="sign")),
    "bits": (
        "lr",
        "lr-free",
        RuleOptions(microbatches=3, copies=2, precision=BITS, noise_code="sign", input_code="sign"),
    ),
    "layerwise": ("lr", "lr-fixed", RuleOptions(microbatches=2, copies=2, scope="layerwise")),
    "segments": ("segments", "list", RuleOptions(microbatches=2, copies=2, segments=(2,))),
    "momentum": ("bp", "1f1b", RuleOptions(microbatches=2, optimizer="momentum")),
}


def prepared_job(subject, problem_of, method, units=2):
    rule, scheduler, options = METHODS[method]
    one = subject("resnet5", "balanced:4" if rule != "lr" else "layer", norm="none", **SMALL)
    if SCHEDULERS[scheduler].chunks:
        one = subject("resnet5", f"balanced:{units}", norm="none", **SMALL)
    graph = RULES[rule](one.stages, options)
    problem = problem_of(graph, units)
    batch = one.batch(options.microbatches)
    return one, batch, Scheduled(prepare(one.program, graph, batch, options), problem, schedule(problem, scheduler))


@pytest.mark.parametrize("executor", HERE)
@pytest.mark.parametrize("method", METHODS)
def test_an_executor_computes_what_the_sequential_reference_computes(subject, problem_of, autograd, executor, method):
    one, batch, job = prepared_job(subject, problem_of, method)
    result = execute_prepared(
        job.prepared, job.problem, job.schedule, executor=executor, repeats=2, warmup=0, dispatch_overhead_ns=0
    )
    place = "cuda:0" if executor == "cuda" else "cpu"  # another device rounds otherwise
    with exact():
        reference = sequential(one.program.to(place), job.prepared.job.graph, batch.to(place), job.prepared.job.options)
    assert set(result.gradients) == set(reference.gradients)
    for what in ("gradients", "buffers", "parameters", "losses"):
        found, expected = getattr(result, what), getattr(reference, what)
        assert set(found) == set(expected)
        assert all(torch.equal(found[name], expected[name].cpu()) for name in expected), what
    if method in ("gpipe", "1f1b", "zb-h1"):
        gradients, _ = autograd(one.model, batch, job.prepared.job.options.microbatches)
        scale = max(float(value.abs().max()) for value in gradients.values())
        for name, expected in gradients.items():
            rtol, atol = (1e-5, 2e-6) if place == "cpu" else (1e-4, 2e-5)
            torch.testing.assert_close(result.gradients[name], expected, rtol=rtol, atol=atol * scale)
    line = result.timeline
    assert len(line.spans) == len(job.prepared.job.graph.tasks)
    assert {span.task for span in line.spans} == {task.id for task in job.prepared.job.graph.tasks}
    assert line.facts.executor == executor
    assert line.facts.clock_skew_ns >= 0
    assert Comparison(simulate(replace(job.problem, time_unit="ns"), job.schedule), line).measured is line


@pytest.mark.parametrize("executor", HERE)
@pytest.mark.parametrize("method", ["1f1b", "lr-free"])
def test_an_executor_obeys_lanes_and_data(subject, problem_of, executor, method):
    _, _, job = prepared_job(subject, problem_of, method)
    line = execute_prepared(
        job.prepared, job.problem, job.schedule, executor=executor, repeats=1, warmup=0, dispatch_overhead_ns=0
    ).timeline
    spans = {span.task: span for span in line.spans}
    for lane in job.schedule.lanes:
        for before, after in zip(lane.tasks, lane.tasks[1:], strict=False):
            assert spans[before].end <= spans[after].start
            assert spans[before].unit == lane.unit
    graph = job.prepared.job.graph
    for index, task in enumerate(graph.tasks):
        for other, _ in graph.dependencies(index):
            assert spans[graph.tasks[other].id].end <= spans[task.id].start
    for transfer in line.transfers:
        assert 0 <= transfer.start <= transfer.end
        assert transfer.source != transfer.target


@pytest.mark.parametrize("executor", HERE)
def test_a_session_runs_jobs_in_turn_and_samples_and_measures(subject, problem_of, executor):
    jobs = [prepared_job(subject, problem_of, method)[2] for method in ("gpipe", "lr-free")]
    with EXECUTORS[executor](jobs, Limits()) as session:
        for _ in range(2):
            for index, job in enumerate(jobs):
                times = session.run(index).times
                assert len(times.end) == len(job.prepared.job.graph.tasks)
                assert all(0 <= start < end for start, end in zip(times.start, times.end, strict=True))
        for index, job in enumerate(jobs):
            assert set(session.results(index).gradients) == set(job.prepared.job.program.parameters)
        for workers in (1, 2):
            samples = session.sample(0, workers)
            assert len(samples) == workers
            for times in samples:  # reference order on every unit
                assert all(a <= b for a, b in zip(times.end, times.start[1:], strict=False))
        found = session.exchange(0, 1, 1 << 16, 5)
        assert len(found) == 5
        assert all(one.send_ns >= 0 and one.arrive_ns >= 0 for one in found)
        assert session.overhead(50) > 0
        assert session.facts.executor == executor
