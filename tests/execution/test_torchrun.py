"""Ranks of a program that torchrun started, here forked for most tests (importing torch takes seconds), and started by
torchrun itself for the rest. Ranks that a session forks: test_ranks_of_a_session.py and the suites of all executors."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

import pytest
import torch

import alrsim as al
from alrsim.cost.costs import HostLoad, LinkFit, MeasuredCosts, costs_from_json, costs_to_json
from alrsim.errors import AlrsimError, ExecutionError, OptionError
from alrsim.execution.executor import Scheduled, execute_all, prepare, sequential
from alrsim.execution.kernels.registry import KERNELS
from alrsim.execution.measuring.calibrate import calibrate_session, calibration_job
from alrsim.execution.session import InterruptedRun, Limits, RunError
from alrsim.execution.workers import rank_session as session_module
from alrsim.execution.workers import ranks as ranks_module
from alrsim.execution.workers.agreement import same_on_all_ranks
from alrsim.execution.workers.ranks import join
from alrsim.execution.workers.torchrun import torchrun
from alrsim.hardware.precision import Precision, PrecisionPlan
from alrsim.rules import RULES, RuleOptions
from alrsim.schedulers.registry import SCHEDULERS, schedule
from alrsim.steps.measuring import Running, join_ranks, running_of
from alrsim.steps.options import RunOptions

HERE = Path(__file__).parent
INT8 = PrecisionPlan(saved=Precision.INT8, noise=Precision.INT8)
METHODS = {
    "1f1b": ("bp", "1f1b", RuleOptions(microbatches=4)),
    "zb-h1": ("bp-split", "zb-h1", RuleOptions(microbatches=4)),
    "lr-free": ("lr", "lr-free", RuleOptions(microbatches=3, copies=2)),
    "alr": ("lr", "lr-free", RuleOptions(microbatches=3, copies=2, precision=INT8, noise_code="sign")),
    "accumulate": ("lr", "list", RuleOptions(microbatches=2, copies=4, group=2, reduction="accumulate")),
}
FAULTS = {
    "raise": lambda: (_ for _ in ()).throw(ValueError("boom")),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "hang": lambda: time.sleep(600),
    "memory": lambda: torch.ones(1 << 60),
    "interrupt": lambda: os.kill(os.getpid(), signal.SIGINT),
}


def job_of(subject, problem_of, method, units=2, fault=""):
    rule, scheduler, options = METHODS[method]
    one = subject("mlp", f"balanced:{units}", hidden=8, features=12) if rule != "lr" else subject("mlp", "layer")
    assert SCHEDULERS[scheduler]
    graph = RULES[rule](one.stages, options)
    problem = problem_of(graph, units)
    batch = one.batch(options.microbatches)
    kernels = {kind: faulty(kernel, "1B1", FAULTS[fault]) for kind, kernel in KERNELS.items()} if fault else KERNELS
    prepared = prepare(one.program, graph, batch, options, kernels=kernels)
    return one, batch, Scheduled(prepared, problem, schedule(problem, scheduler))


def faulty(kernel, token, fault):
    def run(step, index, id_):
        if str(id_) == token and not step.store.recording:
            fault()
        kernel(step, index, id_)

    return run


def as_ranks(folder, count, body, present=None, patience=180):
    """Fork ``count`` ranks; what ``body`` returned on each (an error as text), or the number of a signal; and how long
    it took. No rank may outlive this."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = {}
    start = time.monotonic()
    for rank in range(count) if present is None else present:
        child = os.fork()
        if not child:
            status = 1
            try:
                os.environ.update(RANK=str(rank), WORLD_SIZE=str(count), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
                signal.signal(signal.SIGINT, signal.default_int_handler)
                torch.set_num_threads(1)  # the pool of threads does not survive a fork
                try:
                    found = body(rank)
                except (RunError, InterruptedRun) as error:
                    unit, token = getattr(error, "unit", ""), getattr(error, "token", "")
                    done = error.timeline.facts.tasks_done if error.timeline else 0
                    found = {"error": str(error), "unit": unit, "token": token, "done": done}
                except AlrsimError as error:
                    found = {"error": str(error)}
                (folder / f"{rank}.json").write_text(json.dumps(found))
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        children[rank] = child
    found = {}
    try:
        while children and time.monotonic() - start < patience:
            for rank, child in list(children.items()):
                done, status = os.waitpid(child, os.WNOHANG)
                if done:
                    del children[rank]
                    code = os.waitstatus_to_exitcode(status)
                    found[rank] = code if code else json.loads((folder / f"{rank}.json").read_text())
            time.sleep(0.01)
        assert not children, f"ranks {list(children)} did not end"
    finally:
        for child in children.values():
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    return found, time.monotonic() - start


def together(body):
    """A body after which ranks wait for each other: rank 0 holds the store, so that it must not be gone first."""

    def whole(rank):
        found = body(rank)
        same_on_all_ranks(None)
        ranks_module.leave()
        return found

    return whole


@pytest.mark.parametrize("transport", ["buffered", "rendezvous"])
def test_ranks_compute_what_the_sequential_reference_computes(subject, problem_of, tmp_path, transport):
    jobs = {name: job_of(subject, problem_of, name) for name in METHODS}
    expected = {
        name: sequential(one.program, job.prepared.job.graph, batch, job.prepared.job.options)
        for name, (one, batch, job) in jobs.items()
    }

    def body(rank):
        session_module._meeting = lambda cuda: transport == "rendezvous"
        found = execute_all(
            [job for *_, job in jobs.values()], executor="torchrun", repeats=2, warmup=0, dispatch_overhead_ns=0
        )
        report = {}
        for name, one in zip(jobs, found, strict=True):
            for what in ("gradients", "parameters", "buffers", "losses"):
                ours, theirs = getattr(one, what), getattr(expected[name], what)
                if set(ours) != set(theirs) or not all(torch.equal(ours[key], theirs[key]) for key in theirs):
                    report[name] = what
            spans = {span.task: span for span in one.timeline.spans}
            graph = jobs[name][2].prepared.job.graph
            if set(spans) != {task.id for task in graph.tasks}:
                report[name] = "spans"
            for index, task in enumerate(graph.tasks):
                for other, _ in graph.dependencies(index):
                    if spans[graph.tasks[other].id].end > spans[task.id].start:
                        report[name] = f"{task.id} began too early"
            report[f"{name} makespans"] = one.makespans
        return report

    found, _ = as_ranks(tmp_path, 2, together(body))
    assert found[0] == found[1]  # records are gathered: every rank has the whole timeline
    assert set(found[0]) == {f"{name} makespans" for name in METHODS}


def test_a_session_calibrates_the_same_costs_on_all_ranks_and_units_without_work_wait(subject, problem_of, tmp_path):
    _, _, job = job_of(subject, problem_of, "1f1b")

    def body(rank):
        with torchrun([calibration_job(job.prepared, 2)], Limits()) as session:
            costs = calibrate_session(session, [job.prepared], executor="torchrun", units=2, repeats=2)
            times = session.sample(0, 1)
            exchanges = session.exchange(1, 2, 1 << 18, 5)
            assert same_on_all_ranks({"from": rank}) == {"from": 0}
        (same,) = (costs_from_json(one) for one in same_on_all_ranks([costs_to_json(one) for one in costs]))
        return {
            "same": sorted(map(str, same.isolated.items())),
            "own": sorted(map(str, costs[0].isolated.items())),
            "links": len(costs[0].links),
            "overhead": costs[0].dispatch_overhead_ns,
            "workers": len(times),
            "order": all(a <= b for a, b in zip(times[0].end, times[0].start[1:], strict=False)),
            "exchanges": [(one.send_ns, one.arrive_ns) for one in exchanges],
        }

    found, _ = as_ranks(tmp_path, 3, together(body))
    assert found[0] == found[1] == found[2]
    assert found[0]["same"] == found[0]["own"]
    assert found[0]["links"] == 2
    assert found[0]["overhead"] > 0
    assert found[0]["workers"] == 1
    assert found[0]["order"]
    assert len(found[0]["exchanges"]) == 5
    assert all(0 < send <= arrive for send, arrive in found[0]["exchanges"])


def test_clocks_of_different_hosts_are_brought_to_that_of_rank_0(subject, problem_of, tmp_path):
    _, _, job = job_of(subject, problem_of, "1f1b")
    real = time.perf_counter_ns

    def body(rank):
        ranks_module._host = lambda: f"host{rank}"
        if rank:  # five seconds ahead
            time.perf_counter_ns = lambda: real() + 5_000_000_000
        (found,) = execute_all([job], executor="torchrun", repeats=2, warmup=0, dispatch_overhead_ns=0)
        line = found.timeline
        spans, graph = {span.task: span for span in line.spans}, job.prepared.job.graph
        early = [
            spans[graph.tasks[other].id].end - spans[task.id].start
            for index, task in enumerate(graph.tasks)
            for other, _ in graph.dependencies(index)
        ]
        return {"early": max(early), "skew": line.facts.clock_skew_ns, "makespan": line.makespan}

    found, _ = as_ranks(tmp_path, 2, together(body))
    assert found[0] == found[1]
    assert 0 < found[0]["skew"] < 1_000_000_000
    assert found[0]["makespan"] < 5_000_000_000
    assert found[0]["early"] <= 2 * found[0]["skew"]  # in order, but for what the clocks may be wrong by


@pytest.mark.parametrize("fault", ["raise", "kill", "stop", "hang", "memory", "interrupt"])
def test_a_rank_that_fails_ends_the_run_and_is_named_with_its_token(subject, problem_of, tmp_path, fault):
    _, _, job = job_of(subject, problem_of, "1f1b", fault=fault)

    def body(rank):
        execute_all(
            [job], executor="torchrun", limits=Limits(task_seconds=1.0), repeats=1, warmup=0, dispatch_overhead_ns=0
        )

    found, _ = as_ranks(tmp_path, 2, body)
    told = found[0]
    if fault == "interrupt":
        assert told["error"] == "interrupted"
        assert found[1]["error"] == "interrupted"
    else:
        assert (told["unit"], told["token"]) == ("u1", "1B1")
        word = {"raise": "boom", "kill": "gone", "memory": "out of memory"}.get(fault, "hung: nothing began or ended")
        assert word in told["error"]
        if fault in ("kill", "stop", "hang"):
            assert found[1] == -signal.SIGKILL
        else:
            assert found[1] == told
    assert 0 < told["done"] < len(job.prepared.job.graph.tasks)  # the partial timeline has what both ranks had done


def test_a_rank_that_never_joins_is_named_in_time(tmp_path):
    found, seconds = as_ranks(tmp_path, 3, lambda rank: join(1.0) and None, present=[0, 2])
    texts = [one["error"] for one in found.values() if isinstance(one, dict)]
    assert len(texts) == 1  # told once
    assert "rank 1 never joined" in texts[0]
    assert seconds >= 1


def test_ranks_that_prepared_different_jobs_are_refused(subject, problem_of, tmp_path):
    jobs = [job_of(subject, problem_of, name)[2] for name in ("1f1b", "zb-h1")]

    def body(rank):
        with torchrun([jobs[rank]], Limits()):
            return

    found, _ = as_ranks(tmp_path, 2, body)
    assert all("different schedules or data" in one["error"] for one in found.values())


def test_more_units_than_ranks_is_one_clear_error(subject, problem_of, tmp_path):
    _, _, job = job_of(subject, problem_of, "1f1b")

    def body(rank):
        with torchrun([job], Limits()):
            return

    found, _ = as_ranks(tmp_path, 1, body)
    assert "2 units, but torchrun started 1 rank\n" in found[0]["error"]
    assert "--nproc-per-node 2" in found[0]["error"]


def test_without_torchrun_joining_its_ranks_says_how_to_start(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ExecutionError, match="torchrun did not start this process"):
        join(1.0)


def test_another_number_of_ranks_than_units_is_refused(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(OptionError, match="2 units, but torchrun started 3 ranks"):
        join_ranks(Running("torchrun", Limits(), repeats=1, seed=0), 2)


def test_a_foreign_torchrun_is_refused_before_anybody_joins(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(ranks_module, "join", lambda _seconds: pytest.fail("joined"))
    monkeypatch.setattr(ranks_module, "_open_store", lambda *_args, **_options: pytest.fail("connected"))
    for verb in (al.execute, al.compare, al.calibrate):
        chosen = {"execute": {"method": "bp:1f1b"}, "compare": {"measure": True}}.get(verb.__name__, {})
        with pytest.raises(OptionError, match="whoever reaches them can run code as you"):
            verb("mlp", units=2, batch=8, executor="torchrun", **chosen)
    assert running_of(RunOptions.take({"executor": "torchrun", "trust_network": True})).executor == "torchrun"
    monkeypatch.delenv("RANK")
    assert running_of(RunOptions.take({"executor": "torchrun"})).executor == "torchrun"  # it forks its own


def test_measured_costs_survive_json():
    key = (1, "F", 2, False)
    link = LinkFit(0, 1, 5, 7, 1e9, 0.1, ((1, 2, 3), (4, 5, 6)))
    load = HostLoad(0.5, 0.25)
    costs = MeasuredCosts(
        {key: 3}, {key: 4}, 9, (link,), "torchrun", 2, 2, 5, {key: 0.5}, {key: 8}, load, {key: 7}, ("a",)
    )
    assert costs_from_json(json.loads(json.dumps(costs_to_json(costs)))) == costs


def launched(*arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


def test_torchrun_with_two_ranks_gives_the_bits_of_the_sequential_reference(tmp_path):
    program = launched(str(HERE / "rank_program.py"), str(tmp_path / "report"))
    _, errors = program.communicate(timeout=300)
    assert program.returncode == 0, errors
    reports = [json.loads((tmp_path / f"report.{rank}").read_text()) for rank in range(2)]
    assert reports[0] == reports[1]
    for name in ("bp:1f1b", "alr:lr-free"):
        report = reports[0][name]
        assert report["gradients"]
        assert report["parameters"]
        assert report["spans"] == report["tasks"]
        assert report["units"] == ["u0", "u1"]
        assert report["facts"]["executor"] == "torchrun"
        assert report["facts"]["ranks"] == 2


def test_control_c_under_torchrun_ends_all_ranks(tmp_path):
    program = launched(str(HERE / "rank_program.py"), str(tmp_path / "report"), "hang")
    marker, until = tmp_path / "report.hangs", time.monotonic() + 200
    while not marker.exists() and time.monotonic() < until and program.poll() is None:
        time.sleep(0.05)
    assert marker.exists()
    program.send_signal(signal.SIGINT)
    try:
        program.communicate(timeout=60)  # torchrun itself would kill after 30 s
    finally:
        with suppress(OSError):
            program.kill()
    assert program.returncode != 0
    assert ranks_of(str(tmp_path)) == []


def test_one_command_forks_its_own_ranks(tmp_path):
    line = tmp_path / "line.json"
    command = [sys.executable, "-m", "alrsim", "execute", "mlp", "--method", "bp:1f1b", "--executor", "torchrun"]
    done = subprocess.run(
        [*command, "--batch", "8", "--repeats", "1", "-o", str(line)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("idle_fraction") == 1
    assert json.loads(line.read_text())["value"]["facts"]["executor"] == "torchrun"
    assert ranks_of(str(line)) == []


def ranks_of(word):
    """Processes whose command line has the word."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if word in (folder / "cmdline").read_bytes().decode(errors="replace"):
                found.append(folder.name)
    return found
