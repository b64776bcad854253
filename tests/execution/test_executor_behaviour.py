"""What a run returns, what it flags, and how it fails."""

import os
import signal
import sys
import threading
import time
from itertools import pairwise

import pytest
import torch
from torch import nn

from alrsim.cost.cut import cut_graph
from alrsim.cost.stages import build_stages
from alrsim.errors import DeadlockError, ExecutionError, ScheduleError
from alrsim.execution.executor import Batch, Scheduled, dispatch_overhead, execute, execute_all, prepare, sequential
from alrsim.execution.job import Settings
from alrsim.execution.kernels.registry import KERNELS
from alrsim.execution.measuring.calibrate import calibrate, measure_links
from alrsim.execution.programs.program import build_program
from alrsim.execution.session import Limits
from alrsim.execution.workers.thread_workers import core_count, run_lanes
from alrsim.execution.workers.threads import threads
from alrsim.frontend.torch_export import export_model
from alrsim.frontend.torch_model import TorchModel
from alrsim.hardware.machine import abstract_machine
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.rules import RULES, RuleOptions
from alrsim.schedule.schedule import Lane, Schedule
from alrsim.schedulers.registry import schedule
from alrsim.tasks.problem import Problem, cost_key
from alrsim.tasks.taskgraph import Category
from alrsim.timeline.timeline import Timeline

RUN = {"repeats": 1, "warmup": 0, "dispatch_overhead_ns": 0}
OPTIONS = RuleOptions(microbatches=4)


@pytest.fixture
def mlp(subject):
    return subject("mlp", "balanced:2", hidden=8, features=12)


def one_lane(graph):
    return Schedule((Lane("u0", tuple(task.id for task in graph.tasks)),), "one lane")


def bp_problem(one, problem_of, units=2, options=OPTIONS, rule="bp"):
    return problem_of(RULES[rule](one.stages, options), units)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("reduction", ["stack", "accumulate"])
def test_every_kind_that_every_rule_emits_has_a_kernel(subject, problem_of, rule, reduction):
    one = subject("mlp", "layer", hidden=8, features=12)
    for changes in ({}, {"loss_gradient": True, "loss_update": True}, {"first_input_gradient": True}):
        options = RuleOptions(microbatches=2, copies=4, group=2, segments=(1,), reduction=reduction, **changes)
        graph = RULES[rule](one.stages, options)
        assert {task.id.kind for task in graph.tasks} <= set(KERNELS)
        result = execute(one.program, problem_of(graph, 1), one_lane(graph), one.batch(2), options, **RUN)
        assert len(result.timeline.spans) == len(graph.tasks)


@pytest.mark.parametrize("name", ["gpipe", "1f1b", "list"])
def test_the_executor_runs_the_same_schedule_and_returns_the_same_type(mlp, problem_of, name):
    problem = bp_problem(mlp, problem_of)
    chosen = schedule(problem, name)
    result = execute(mlp.program, problem, chosen, mlp.batch(4), OPTIONS, **RUN)
    timeline = result.timeline
    assert isinstance(timeline, Timeline)
    assert timeline.source == "measured"
    assert timeline.schedule_digest == chosen.digest
    for lane in chosen.lanes:
        spans = sorted((span for span in timeline.spans if span.unit == lane.unit), key=lambda span: span.start)
        assert tuple(span.task for span in spans) == lane.tasks
        assert all(first.end <= second.start for first, second in pairwise(spans))
    end = {span.task: span.end for span in timeline.spans}
    start = {span.task: span.start for span in timeline.spans}
    for index, task in enumerate(problem.tasks.tasks):
        for other, _ in problem.tasks.dependencies(index):
            assert end[problem.tasks.tasks[other].id] <= start[task.id]


def test_a_fused_pair_runs_back_to_back_and_changes_no_gradient(mlp, problem_of):
    problem = bp_problem(mlp, problem_of, options=OPTIONS)
    chosen = schedule(problem, "1f1b")
    lane = chosen.lanes[0].tasks
    at = next(i for i in range(len(lane) - 1) if lane[i].kind == "B" and lane[i + 1].kind == "F")
    fused = Schedule(chosen.lanes, "fused", overlaps=((lane[at], lane[at + 1]),))
    plain = execute(mlp.program, problem, chosen, mlp.batch(4), OPTIONS, **RUN)
    result = execute(mlp.program, problem, fused, mlp.batch(4), OPTIONS, **RUN)
    assert all(torch.equal(plain.gradients[name], result.gradients[name]) for name in plain.gradients)
    assert len(result.timeline.spans) == len(problem.tasks.tasks)


def test_losses_are_per_sample_and_their_mean_is_the_steps_loss(mlp):
    graph = RULES["bp"](mlp.stages, OPTIONS)
    batch = mlp.batch(4)
    result = sequential(mlp.program, graph, batch, OPTIONS)
    found = torch.cat([result.losses[f"2L{index}"].flatten() for index in range(4)])
    logits = mlp.model.module(batch.inputs[0])
    expected = nn.functional.cross_entropy(logits, batch.targets, reduction="none")
    torch.testing.assert_close(found, expected.detach())


def test_memory_counts_live_tensor_bytes_and_ends_with_what_is_resident(mlp, problem_of):
    problem = bp_problem(mlp, problem_of)
    parameters = sum(value.nbytes for value in mlp.program.parameters.values())
    for name in ("gpipe", "1f1b"):
        result = execute(mlp.program, problem, schedule(problem, name), mlp.batch(4), OPTIONS, **RUN)
        last = {point.unit: point for point in result.timeline.memory}
        assert sum(point.live[Category.PARAM] for point in last.values()) == parameters
        assert all(set(point.live) == {Category.PARAM, Category.GRAD} for point in last.values())


def test_gpipe_keeps_more_activations_than_1f1b(subject, problem_of):
    one = subject("resnet5", "balanced:2", width=4, image_size=16)
    options = RuleOptions(microbatches=6)
    problem = bp_problem(one, problem_of, options=options)
    peaks = {}
    for name in ("gpipe", "1f1b"):
        result = execute(one.program, problem, schedule(problem, name), one.batch(6), options, **RUN)
        points = [point for point in result.timeline.memory if point.unit == "u0"]
        peaks[name] = max(point.live.get(Category.ACTIVATION, 0) for point in points)
    assert peaks["1f1b"] < peaks["gpipe"]


@pytest.mark.parametrize(
    ("saved", "noise", "share"),
    [("int8", "int8", 4), ("sign1", "sign1", 32), ("bf16", "fp16", 2)],
)
def test_codes_shrink_the_measured_noise_by_their_bits(subject, saved, noise, share):
    one = subject("mlp", "layer", hidden=8, features=12)

    def noise_bytes(plan):
        options = RuleOptions(microbatches=1, copies=4, precision=plan)
        prepared = prepare(one.program, RULES["lr"](one.stages, options), one.batch(1), options)
        entries = prepared.ledger.entries.values()
        return sum(entry.bytes for entry in entries if entry.category is Category.NOISE)

    exact = noise_bytes(PrecisionPlan())
    coded = noise_bytes(PrecisionPlan(saved=Precision(saved), noise=Precision(noise)))
    scales = 4 * 4 * 3  # one fp32 factor for each copy and stage
    assert exact == 4 * 4 * 3 * (8 + 8 + 10)
    assert exact / share <= coded <= exact / share + scales
    assert noise_bytes(PrecisionPlan(noise=Precision.REGENERATED)) == 0


def test_results_that_are_early_are_held_as_temp(mlp, problem_of):
    """Micro-batch 1's gradient before micro-batch 0's: its term must wait for the ordered sum."""
    options = RuleOptions(microbatches=2)
    graph = RULES["bp"](mlp.stages, options)
    tokens = ["0F0", "0F1", "1F0", "1F1", "2L0", "2L1", "1B1", "0B1", "1B0", "0B0", "0U", "1U"]
    by_token = {str(task.id): task.id for task in graph.tasks}
    late = Schedule((Lane("u0", tuple(by_token[token] for token in tokens)),), "late")
    problem = problem_of(graph, 1)
    result = execute(mlp.program, problem, late, mlp.batch(2), options, **RUN)
    reference = sequential(mlp.program, graph, mlp.batch(2), options)
    assert all(torch.equal(result.gradients[name], reference.gradients[name]) for name in reference.gradients)
    during = next(span for span in result.timeline.spans if str(span.task) == "1B0")
    before = [point for point in result.timeline.memory if point.time <= during.start][-1]
    held = sum(value.nbytes for name, value in result.gradients.items())
    assert before.live[Category.TEMP] >= held


@pytest.mark.parametrize("token", ["1F2", "2L0", "0B3", "1U"])
def test_a_task_that_raises_stops_the_run_and_names_its_token(mlp, problem_of, token):
    problem = bp_problem(mlp, problem_of)
    armed = []

    def broken(kernel):
        def run(run_, index, id_):
            if armed and str(id_) == token:
                raise ValueError("boom")
            kernel(run_, index, id_)

        return run

    kernels = {kind: broken(kernel) for kind, kernel in KERNELS.items()}
    before = threading.active_count()
    armed.append(True)
    with pytest.raises(ExecutionError, match="ValueError: boom") as caught:
        execute(mlp.program, problem, schedule(problem, "1f1b"), mlp.batch(4), OPTIONS, kernels=kernels, **RUN)
    assert token in str(caught.value)
    assert threading.active_count() == before


def running_workers() -> list[str]:
    """The executor's threads; the kernels' pool of helpers lives as long as the process."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("alrsim-") and not name.startswith("alrsim-kernel")]


def test_a_failing_worker_wakes_workers_that_wait_for_it(mlp, problem_of):
    graph = RULES["bp"](mlp.stages, OPTIONS)
    chosen = schedule(problem_of(graph, 2), "gpipe")
    lanes = [[(graph.index[task],) for task in lane.tasks] for lane in chosen.lanes]

    def body(index):
        if str(graph.tasks[index].id) == "0F1":
            raise RuntimeError("lost")

    with pytest.raises(ExecutionError, match="lost"):
        run_lanes(graph, lanes, body)
    assert not running_workers()


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_the_run_with_all_threads_joined(mlp):
    graph = RULES["bp"](mlp.stages, OPTIONS)
    lane = [(index,) for index in range(len(graph.tasks))]

    def body(index):
        if index == 1:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)

    with pytest.raises(KeyboardInterrupt):
        run_lanes(graph, [lane], body)
    assert not running_workers()


def test_the_process_gets_its_settings_back(mlp):
    threads, interval = torch.get_num_threads(), sys.getswitchinterval()
    sequential(mlp.program, RULES["bp"](mlp.stages, OPTIONS), mlp.batch(4), OPTIONS)
    assert torch.get_num_threads() == threads
    assert sys.getswitchinterval() == interval


def test_more_busy_units_than_cores_are_flagged(subject, problem_of):
    units = core_count() + 1
    one = subject("mlp", "operator", hidden=8, features=12)
    problem = bp_problem(one, problem_of, units)
    lanes = [[] for _ in range(units)]
    for index, task in enumerate(problem.tasks.tasks):
        lanes[index % units].append(task.id)
    spread = Schedule(tuple(Lane(f"u{unit}", tuple(lane)) for unit, lane in enumerate(lanes)), "spread")
    result = execute(one.program, problem, spread, one.batch(4), OPTIONS, **RUN)
    assert any(flag.startswith("units > cores") for flag in result.timeline.facts.flags)
    alone = bp_problem(one, problem_of, 1)
    quiet = execute(one.program, alone, one_lane(alone.tasks), one.batch(4), OPTIONS, **RUN)
    assert not any(flag.startswith("units > cores") for flag in quiet.timeline.facts.flags)


def test_tasks_that_are_short_against_the_dispatch_overhead_are_flagged(mlp, problem_of):
    problem = bp_problem(mlp, problem_of)
    chosen = schedule(problem, "serial")
    run = {**RUN, "dispatch_overhead_ns": 10**9}
    result = execute(mlp.program, problem, chosen, mlp.batch(4), OPTIONS, **run)
    assert any("20x the dispatch overhead" in flag for flag in result.timeline.facts.flags)


def test_facts_name_the_measurement(mlp, problem_of):
    problem = bp_problem(mlp, problem_of)
    result = execute(
        mlp.program, problem, schedule(problem, "1f1b"), mlp.batch(4), OPTIONS, Settings(seed=5), repeats=4, warmup=1
    )
    facts = result.timeline.facts
    assert facts.torch == torch.__version__
    assert (facts.repeats, facts.warmup, facts.seed, facts.threads) == (4, 1, 5, 1)
    assert len(result.makespans) == 4
    assert facts.makespan_min_ns == min(result.makespans) <= result.timeline.makespan <= max(result.makespans)
    assert facts.makespan_iqr_ns >= 0


def test_calibration_measures_every_stage_kind_and_copies(subject):
    one = subject("mlp", "layer", hidden=8, features=12)
    options = RuleOptions(microbatches=2, copies=4, reduction="accumulate")
    graph = RULES["lr"](one.stages, options)
    seen = []
    costs = calibrate(
        one.program, graph, one.batch(2), options, units=2, repeats=2, progress=lambda *at: seen.append(at)
    )
    keys = {cost_key(task) for task in graph.tasks}
    assert {(0, "F", 1, True), (0, "F", 4, False)} <= keys  # the clean forward is told from the noisy one
    assert set(costs.table) == set(costs.isolated) == keys
    assert all(time > 0 for time in costs.table.values())
    assert seen[-1][0] == seen[-1][1]
    assert set(costs.busy) == set(costs.spread) == set(costs.samples) == keys
    assert all(costs.isolated[key] <= costs.busy[key] for key in keys)
    assert {(link.source, link.target) for link in costs.links} <= {(0, 1), (1, 0)}


def test_overhead_and_links_take_time():
    assert dispatch_overhead(100) > 0
    with threads([], Limits()) as session:
        assert all(link.latency_ns > 0 and link.bandwidth is None for link in measure_links(session, 2))


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        return nn.functional.dropout(self.inner(x), 0.5)


class Folding(nn.Module):
    """Multiplies along the batch dimension, so that copies cannot be stacked in it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)

    def forward(self, x):
        return self.inner(x.t()).t()


def program_of(module, batch=2, cut="layer"):
    model = TorchModel("odd", module, lambda size: (torch.ones(size, 4),), 4)
    exported = export_model(model, batch)
    stages = build_stages(exported.graph, cut_graph(exported.graph, cut), batch=batch)
    return stages, build_program(exported.graph, exported.program, stages)


def test_a_random_operator_is_named_with_its_module_and_the_reason():
    with pytest.raises(
        ExecutionError,
        match=r"operator cannot be executed: aten\.\S+ is random: a forward could not be repeated "
        r"\(first in the model itself, node \w+\)",
    ):
        program_of(Odd())


def test_a_model_that_mixes_samples_cannot_be_stacked_but_says_so():
    stages, program = program_of(Folding())
    options = RuleOptions(copies=3)
    with pytest.raises(ExecutionError, match="cannot run 3 stacked copies"):
        prepare(program, RULES["lr"](stages, options), Batch((torch.ones(2, 4),), torch.zeros(2).long()), options)


@pytest.mark.parametrize("reduction", ["stack", "accumulate"])
def test_batch_norm_in_training_mode_is_refused_under_lr(subject, reduction):
    one = subject("resnet5", "balanced:2", width=4, image_size=16, norm="batch")
    options = RuleOptions(copies=2, reduction=reduction)
    with pytest.raises(ExecutionError, match="mixes the samples of a batch") as caught:
        prepare(one.program, RULES["lr"](one.stages, options), one.batch(1), options)
    assert "conv1.norm" in str(caught.value)
    assert "norm=group" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": PrecisionPlan(activations=Precision.BF16)}, "activations in bf16 cannot be executed"),
        ({"precision": PrecisionPlan(parameters=Precision.INT8)}, "parameters in int8 cannot be executed"),
        ({"precision": PrecisionPlan(saved=Precision.FP8)}, "state cannot be stored as fp8"),
        ({"loss": False}, "LR gradients need the loss tasks"),
    ],
)
def test_what_cannot_be_executed_is_refused(subject, changes, message):
    one = subject("mlp", "layer", hidden=8, features=12)
    options = RuleOptions(copies=2, **changes)
    with pytest.raises(ExecutionError, match=message):
        prepare(one.program, RULES["lr"](one.stages, options), one.batch(1), options)


def test_wrong_data_and_wrong_tasks_are_refused(mlp):
    graph = RULES["bp"](mlp.stages, OPTIONS)
    with pytest.raises(ExecutionError, match=r"expected .* 4 micro-batches of 3"):
        prepare(mlp.program, graph, mlp.batch(3), OPTIONS)
    with pytest.raises(ExecutionError, match="reads 1 inputs, got 0"):
        prepare(mlp.program, graph, Batch((), torch.zeros(12).long()), OPTIONS)
    with pytest.raises(ExecutionError, match="micro-batches"):
        prepare(mlp.program, graph, mlp.batch(2), RuleOptions(microbatches=2))
    with pytest.raises(ExecutionError, match="must be positive"):
        Settings(sigma=0.0)


def test_schedules_that_do_not_fit_are_refused_before_anything_runs(mlp, problem_of):
    problem = bp_problem(mlp, problem_of, 1)
    lane = [task.id for task in problem.tasks.tasks]
    with pytest.raises(ScheduleError, match="missing"):
        execute(mlp.program, problem, Schedule((Lane("u0", tuple(lane[1:])),)), mlp.batch(4), OPTIONS, **RUN)
    with pytest.raises(DeadlockError):
        execute(mlp.program, problem, Schedule((Lane("u0", tuple(reversed(lane))),)), mlp.batch(4), OPTIONS, **RUN)


def test_schedules_run_in_turn_each_with_its_own_repeats(subject):
    one = subject("mlp", "layer", hidden=8, features=12)
    options = RuleOptions(microbatches=2)
    graph = RULES["bp"](one.stages, options)
    prepared = prepare(one.program, graph, one.batch(2), options)
    problem = Problem(graph, abstract_machine(2), tuple((1, 1) for _ in graph.tasks), "unit")
    orders = [schedule(problem, name) for name in ("serial", "list")]
    turns = []
    jobs = [Scheduled(prepared, problem, order) for order in orders]
    results = execute_all(jobs, repeats=3, warmup=1, dispatch_overhead_ns=0, progress=lambda *at: turns.append(at))
    assert turns == [(count, 8) for count in range(1, 9)]
    assert [len(result.makespans) for result in results] == [3, 3]
    assert [result.timeline.schedule_digest for result in results] == [order.digest for order in orders]
    for name, gradient in results[0].gradients.items():
        assert torch.equal(gradient, results[1].gradients[name])
