"""What can go wrong with a worker, and what is left then: an error that names unit and token, the partial timeline, and
nothing else. Faults of whole programs (Ctrl-C, a parent that is killed) are in tests/cli/test_cli_faults.py."""

import gc
import multiprocessing
import os
import resource
import signal
import subprocess
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from alrsim.errors import ExecutionError, OptionError
from alrsim.estimators.kernels.threads import run_all
from alrsim.execution.executor import Scheduled, execute_all, prepare, sequential
from alrsim.execution.executors import EXECUTORS, unavailable
from alrsim.execution.kernels.registry import KERNELS
from alrsim.execution.session import InterruptedRun, Limits, RunError
from alrsim.execution.workers import forking, gloo, process_worker, shared_memory
from alrsim.execution.workers import processes as processes_module
from alrsim.execution.workers import thread_workers as workers
from alrsim.execution.workers.arena import open_arena
from alrsim.execution.workers.forking import Children
from alrsim.execution.workers.processes import ProcessSession, processes
from alrsim.files import load_value, save_value
from alrsim.rules import RULES, RuleOptions
from alrsim.schedule.schedule import Schedule
from alrsim.schedulers.registry import schedule
from alrsim.simulation.engine import simulate
from alrsim.timeline.comparison import Comparison
from alrsim.timeline.timeline import Timeline

pytestmark = pytest.mark.alone
PARENT = os.getpid()
OPTIONS = RuleOptions(microbatches=4)
BOTH = ["threads", "processes", "torchrun"]
FORKED = ["processes", "torchrun"]
POINTS = {"first": "0F0", "middle": "1F2", "backward": "0B1", "last": "1U"}


def boom():
    raise ValueError("boom")


def die():
    assert os.getpid() != PARENT, "this would end the tests"
    os.kill(os.getpid(), signal.SIGKILL)


def stop():
    os.kill(os.getpid(), signal.SIGSTOP)


def hang():
    time.sleep(600)


def sink(depth=0):
    return sink(depth + 1)


class Mute(Exception):  # noqa: N818 - it is a fault, and says so badly
    def __str__(self):
        raise RuntimeError("cannot say")


def mute():
    raise Mute


def allocate():
    if os.getpid() != PARENT:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = (pages + 16384) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        torch.ones(1 << 28)
    else:
        torch.ones(1 << 60)


@pytest.fixture
def job(subject, problem_of):
    """A function: the mlp on two units with a fault in the kernel of one token, which the recording pass is spared."""
    one = subject("mlp", "balanced:2", hidden=8, features=12)
    graph = RULES["bp"](one.stages, OPTIONS)
    problem = problem_of(graph, 2)

    def make(token="", fault=boom, order="1f1b", when=1):
        calls = []

        def with_fault(kernel):
            def run(run_, index, id_):
                if str(id_) == token:
                    calls.append(1)
                    if len(calls) > when:
                        fault()
                kernel(run_, index, id_)

            return run

        kernels = {kind: with_fault(kernel) for kind, kernel in KERNELS.items()}
        prepared = prepare(one.program, graph, one.batch(4), OPTIONS, kernels=kernels)
        return Scheduled(prepared, problem, schedule(problem, order))

    return make


@pytest.fixture(autouse=True)
def nothing_is_left():
    """No process, no thread, no shared memory with a name, no pipe; and a program beside the tests lives on."""
    before, names, beside = children(), shared_names(), subprocess.Popen(["sleep", "600"])
    try:
        yield
        assert beside.poll() is None
    finally:
        beside.kill()
        beside.wait()
    assert set(children()) <= set(before)
    until = time.monotonic() + 5  # other programs may come and go there
    while shared_names() - names and time.monotonic() < until:
        time.sleep(0.05)
    assert shared_names() <= names


def shared_names():
    """Shared memory and semaphores as multiprocessing and torch name them."""
    return {name for name in os.listdir("/dev/shm") if name.startswith(("sem.", "psm_", "torch_"))}


def children():
    """Process numbers of this one's children, zombies too (resource trackers of other tests' libraries among them)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            _, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == os.getpid():
                found.append(int(folder.name))
    return found


def pids():
    return sorted(
        (one.name, one.pid) for one in multiprocessing.active_children() if one.name.startswith("alrsim-unit")
    )


def failing(job, executor, limits=None, repeats=2):
    with pytest.raises(RunError) as caught:
        execute_all([job], executor=executor, limits=limits, repeats=repeats, warmup=0, dispatch_overhead_ns=0)
    return caught.value


def unit_of(job, token):
    return next(lane.unit for lane in job.schedule.lanes if token in map(str, lane.tasks))


def require_partial(error, job, tmp_path, *, absent):
    """The timeline that the error carries says that it is partial, can be kept, and is compared with nothing."""
    line = error.timeline
    assert line is not None
    assert (line.facts.partial, line.facts.tasks) == (True, len(job.prepared.job.graph.tasks))
    assert line.facts.tasks_done == len(line.spans) < line.facts.tasks
    assert absent not in {str(span.task) for span in line.spans}
    assert all(0 <= span.start <= span.end for span in line.spans)
    save_value("timeline", line, tmp_path / "partial.json")
    assert load_value("timeline", Timeline, tmp_path / "partial.json") == line
    with pytest.raises(OptionError, match=r"partial: [0-9]+ of [0-9]+ tasks had ended"):
        Comparison(simulate(replace(job.problem, time_unit="ns"), job.schedule), line)


@pytest.mark.parametrize("token", POINTS.values(), ids=POINTS)
@pytest.mark.parametrize("executor", BOTH)
def test_a_task_that_raises_is_named_with_its_unit(job, tmp_path, executor, token):
    one = job(token)
    error = failing(one, executor)
    assert "ValueError: boom" in error.what
    assert (error.unit, error.token) == (unit_of(one, token), token)
    assert f"task {token}" in str(error)
    if token != "0F0":  # with the first task nothing need have ended
        require_partial(error, one, tmp_path, absent=token)


@pytest.mark.parametrize("token", POINTS.values(), ids=POINTS)
@pytest.mark.parametrize("when", [1, 2])
@pytest.mark.parametrize("executor", FORKED)
def test_a_killed_worker_is_named_with_what_it_was_at(job, tmp_path, executor, token, when):
    one = job(token, die, when=when)
    error = failing(one, executor, repeats=3)
    assert "killed by signal 9" in error.what
    assert (error.unit, error.token) == (unit_of(one, token), token)
    if token != "0F0":
        require_partial(error, one, tmp_path, absent=token)


@pytest.mark.parametrize(("executor", "module"), [("processes", shared_memory), ("torchrun", gloo)])
def test_a_worker_killed_in_a_send_is_named_with_the_task_whose_data_it_sent(job, monkeypatch, executor, module):
    def flatten(_value):
        die()

    monkeypatch.setattr(module, "flatten", flatten)
    error = failing(job(), executor)
    assert "killed by signal 9" in error.what
    assert (error.unit, error.token) == ("u0", "0F0")


@pytest.mark.parametrize("executor", FORKED)
def test_a_worker_killed_while_it_waits_is_named_with_the_task_it_waits_to_run(job, executor):
    """u1 waits for 0F0, which lets it die."""
    one = job("0F0", lambda: kill_unit(1))
    with EXECUTORS[executor]([one], Limits()) as session, pytest.raises(RunError, match="killed by signal 9") as caught:
        session.run(0)
    assert (caught.value.unit, caught.value.token) == ("u1", "1F0")


def kill_unit(unit):
    os.kill(NUMBERS[unit], signal.SIGKILL)
    time.sleep(600)


NUMBERS = multiprocessing.get_context("fork").RawArray("i", 2)


@pytest.fixture(autouse=True)
def targets_are_told(monkeypatch):
    """Workers learn each other's process numbers: some faults come from a neighbour."""
    original = ProcessSession.run

    def run(session, job):
        for index, worker in enumerate(session._children.workers):
            NUMBERS[index] = worker.pid or 0
        return original(session, job)

    monkeypatch.setattr(ProcessSession, "run", run)


@pytest.mark.parametrize("command", ["run", "results", "sample", "overhead", "exchange"])
@pytest.mark.parametrize("executor", FORKED)
def test_a_worker_that_died_between_commands_is_an_error_of_the_next(job, executor, command):
    calls = {"run": (0,), "results": (0,), "sample": (0, 2), "overhead": (10,), "exchange": (0, 1, 64, 2)}
    with EXECUTORS[executor]([job()], Limits()) as session:
        session.run(0)
        (_, first), _ = pids()
        os.kill(first, signal.SIGKILL)
        with pytest.raises(RunError, match="killed by signal 9") as caught:
            getattr(session, command)(*calls[command])
        assert caught.value.unit == "u0"
        with pytest.raises(RunError, match="the session is over"):
            session.run(0)


def test_a_worker_killed_in_the_results_is_an_error(job, monkeypatch):
    monkeypatch.setattr(process_worker, "unit_values", lambda *_: die())
    with pytest.raises(RunError, match="killed by signal 9"):
        execute_all([job()], executor="processes", repeats=1, warmup=0, dispatch_overhead_ns=0)


@pytest.mark.parametrize("executor", BOTH)
def test_a_task_that_hangs_is_given_up_at_the_limit(job, tmp_path, executor):
    release = threading.Event()
    one = job("1F2", release.wait if executor == "threads" else hang)
    error = failing(one, executor, Limits(task_seconds=0.4))
    release.set()
    assert "hung: nothing began or ended for 0.4 s" in error.what
    assert (error.unit, error.token) == ("u1", "1F2")
    assert "`limit`" in error.fix
    require_partial(error, one, tmp_path, absent="1F2")


@pytest.mark.parametrize("executor", FORKED)
def test_a_worker_that_is_stopped_from_outside_hangs_too(job, executor):
    error = failing(job("0B2", stop), executor, Limits(task_seconds=0.4))
    assert "hung" in error.what
    assert (error.unit, error.token) == ("u0", "0B2")


def test_a_worker_that_hangs_is_noticed_although_another_is_through(job, problem_of):
    """Nothing is left to do for u1 when u0 hangs in its update."""
    error = failing(job("0U", hang), "processes", Limits(task_seconds=0.4))
    assert (error.unit, error.token) == ("u0", "0U")


def test_a_worker_that_hangs_is_noticed_although_another_died_behind_its_last_task(job):
    def outlive():
        time.sleep(0.3)
        kill_unit(1)

    error = failing(job("0U", outlive), "processes", Limits(task_seconds=0.6))
    assert "hung" in error.what
    assert (error.unit, error.token) == ("u0", "0U")


def test_a_worker_that_does_not_come_to_a_run_is_given_up(job):
    with processes([job()], Limits(join_seconds=0.4)) as session:
        os.kill(pids()[1][1], signal.SIGSTOP)
        with pytest.raises(RunError, match=r"did not join within 0\.4 s") as caught:
            session.run(0)
    assert caught.value.unit == "u1"


@pytest.mark.parametrize("executor", FORKED)
@pytest.mark.parametrize(("fault", "message"), [(stop, "did not join within 0.4 s"), (die, "killed by signal 9")])
def test_a_worker_that_never_joins_is_named_although_the_others_wait_for_it(job, monkeypatch, executor, fault, message):
    settle = process_worker._settle

    def with_fault(place):
        settle(place)
        if place.unit == 1:
            fault()

    monkeypatch.setattr(process_worker, "_settle", with_fault)
    with pytest.raises(RunError) as caught, EXECUTORS[executor]([job()], Limits(join_seconds=0.4)):
        pass
    assert message in caught.value.what
    assert caught.value.unit == "u1"


def test_a_failing_thread_does_not_wait_for_a_neighbour_in_a_long_task(job, monkeypatch):
    """u1 fails while u0 is in a task that no thread can be got out of."""
    monkeypatch.setattr(workers, "LEAVE_SECONDS", 0.2)
    release, begun = threading.Event(), threading.Event()
    one = job("1F0")
    kernels = dict(one.prepared.kernels)
    inner = kernels["F"]

    def forward(run, index, id_):
        if str(id_) == "0F1":
            begun.set()
            release.wait()
        if str(id_) == "1F0":
            begun.wait()
        inner(run, index, id_)

    kernels["F"] = forward
    error = failing(replace(one, prepared=replace(one.prepared, kernels=kernels)), "threads")
    left = [thread for thread in threading.enumerate() if thread.name == "alrsim-0"]
    release.set()
    for thread in left:
        thread.join()
    assert len(left) == 1
    assert "boom" in error.what


@pytest.mark.parametrize("executor", BOTH)
def test_a_task_that_needs_more_memory_than_there_is_says_so(job, tmp_path, executor):
    one = job("1F2", allocate)
    error = failing(one, executor)
    assert error.what.startswith("out of memory: ")
    assert (error.unit, error.token) == ("u1", "1F2")
    assert "fewer copies" in error.fix
    require_partial(error, one, tmp_path, absent="1F2")


@pytest.mark.parametrize("executor", BOTH)
@pytest.mark.parametrize(("fault", "word"), [(sink, "RecursionError"), (mute, "Mute"), (lambda: exit(3), "SystemExit")])
def test_odd_errors_are_errors_like_others(job, executor, fault, word):
    error = failing(job("1F2", fault), executor)
    assert error.what.startswith(word)
    assert (error.unit, error.token) == ("u1", "1F2")


@pytest.mark.parametrize("executor", BOTH)
def test_of_several_schedules_the_one_that_failed_is_named(job, executor):
    good, bad = job(), job("1F2", order="gpipe")
    with pytest.raises(RunError, match=r"schedule gpipe, unit u1, task 1F2"):
        execute_all([good, bad], executor=executor, repeats=1, warmup=0, dispatch_overhead_ns=0)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("executor", BOTH)
def test_ctrl_c_in_a_run_keeps_the_partial_timeline(job, tmp_path, executor):
    def interrupt():
        os.kill(PARENT, signal.SIGINT)
        time.sleep(0.5)

    one = job("1F2", interrupt)
    with pytest.raises(InterruptedRun) as caught:
        execute_all([one], executor=executor, repeats=2, warmup=0, dispatch_overhead_ns=0)
    assert "0F0" in {str(span.task) for span in caught.value.timeline.spans}
    assert caught.value.timeline.facts.partial


class Later:
    """Raises when it is called for the n-th time."""

    def __init__(self, inner, error, turn):
        self.inner, self.error, self.left = inner, error, turn

    def __call__(self, *arguments, **named):
        self.left -= 1
        if self.left == 0:
            raise self.error
        return self.inner(*arguments, **named)


@pytest.mark.parametrize("turn", [1, 2])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(11, "Resource temporarily unavailable")])
def test_an_opening_that_stops_half_way_leaves_no_worker(job, monkeypatch, error, turn):
    start = Later(multiprocessing.context.ForkProcess.start, error, turn)
    monkeypatch.setattr(multiprocessing.context.ForkProcess, "start", lambda worker: start(worker))
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else ExecutionError
    with pytest.raises(expected), processes([job()], Limits()):
        pass
    assert pids() == []


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_in_the_middle_of_a_fork_is_not_lost(job, monkeypatch):
    original = multiprocessing.context.ForkProcess.start

    def start(worker):
        os.kill(PARENT, signal.SIGINT)
        original(worker)

    monkeypatch.setattr(multiprocessing.context.ForkProcess, "start", start)
    with pytest.raises(KeyboardInterrupt), processes([job()], Limits()):
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert pids() == []


def test_a_first_word_with_the_workers_that_stops_half_way_leaves_no_worker(job, monkeypatch):
    monkeypatch.setattr(processes_module, "clock_offset", Later(processes_module.clock_offset, KeyboardInterrupt(), 2))
    with pytest.raises(KeyboardInterrupt), processes([job()], Limits()):
        pass
    assert pids() == []


def test_a_closing_that_is_interrupted_leaves_no_worker(job, monkeypatch):
    join = Later(Children.join, KeyboardInterrupt(), 1)
    monkeypatch.setattr(Children, "join", lambda children, patience: join(children, patience))
    with pytest.raises(KeyboardInterrupt), processes([job()], Limits()) as session:
        session.run(0)
    assert pids() == []


def test_an_error_of_the_caller_ends_the_session(job):
    with pytest.raises(ZeroDivisionError), processes([job()], Limits()) as session:
        _ = session.run(0).times.end[0] / 0
    assert pids() == []


@pytest.mark.parametrize("executor", FORKED)
def test_sessions_leave_no_file_descriptor_and_no_mapping(job, executor):
    one = job()

    def held():
        gc.collect()
        maps = Path("/proc/self/maps").read_text()
        return len(os.listdir("/proc/self/fd")), maps.count("/dev/zero (deleted)")

    def turn():
        with EXECUTORS[executor]([one], Limits()) as session:
            session.run(0)
        with EXECUTORS[executor]([one], Limits()) as session:
            os.kill(pids()[0][1], signal.SIGKILL)
            with pytest.raises(RunError):
                session.run(0)

    turn()
    before = held()
    for _ in range(4):
        turn()
    assert held() == before


@pytest.mark.parametrize("executor", FORKED)
def test_two_sessions_at_the_same_time_do_not_meet(job, executor):
    jobs = [job(order=order) for order in ("gpipe", "1f1b")]
    expected = [reference(one) for one in jobs]
    with EXECUTORS[executor](jobs[:1], Limits()) as first, EXECUTORS[executor](jobs[1:], Limits()) as second:
        for session in (first, second, first):
            session.run(0)
        os.kill(pids()[-1][1], signal.SIGKILL)
        with pytest.raises(RunError):
            second.run(0)
        first.run(0)
        found = first.results(0).gradients
    assert all(torch.equal(found[name], value) for name, value in expected[0].items())


def reference(one):
    job = one.prepared.job
    return sequential(job.program, job.graph, one.prepared.batch, job.options).gradients


@pytest.mark.parametrize("executor", FORKED)
def test_a_session_lives_in_a_thread_beside_threads_that_print_and_compute(job, executor):
    one, found, done = job(), [], threading.Event()

    def chatter():
        while not done.is_set():
            print("x" * 100, end="")
            torch.ones(64, 64) @ torch.ones(64, 64)

    def use():
        with EXECUTORS[executor]([one], Limits()) as session:
            for _ in range(3):
                session.run(0)
            found.append(session.results(0).gradients)

    beside = [threading.Thread(target=chatter) for _ in range(2)]
    user = threading.Thread(target=use)
    for thread in (*beside, user):
        thread.start()
    user.join()
    done.set()
    for thread in beside:
        thread.join()
    assert all(torch.equal(found[0][name], value) for name, value in reference(one).items())


@pytest.mark.parametrize("executor", FORKED)
def test_a_session_outlives_the_thread_that_opened_it(job, executor):
    with ExitStack() as stack:
        sessions = []

        def open_session():
            sessions.append(stack.enter_context(EXECUTORS[executor]([job()], Limits())))

        thread = threading.Thread(target=open_session)
        thread.start()
        thread.join()
        time.sleep(0.2)
        (session,) = sessions
        session.run(0)
        assert session.results(0).gradients


def test_kernels_with_helper_threads_survive_the_fork(subject, problem_of):
    """The parent's pool of helpers exists, and computes, while workers are forked."""

    one = subject("mlp", "layer", hidden=8, features=12)
    options = RuleOptions(microbatches=2, copies=4)
    graph = RULES["lr"](one.stages, options)
    problem = problem_of(graph, 2)
    job = Scheduled(prepare(one.program, graph, one.batch(2), options), problem, schedule(problem, "lr-free"))
    done, work = threading.Event(), []

    def busy():
        while not done.is_set():
            run_all([lambda: work.append(time.sleep(0.001))] * 8, 2, 1 << 40)

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        with processes([job], Limits()) as session:
            session.run(0)
            found = session.results(0).gradients
    finally:
        done.set()
        thread.join()
    assert work
    assert all(torch.equal(found[name], value) for name, value in reference(job).items())


@pytest.mark.parametrize("executor", BOTH)
def test_results_are_of_the_jobs_own_run_whatever_ran_after_it(subject, problem_of, executor):
    """The losses are made on u0 and read on u1: what u1 received must not change with the next job's messages."""
    one = subject("mlp", "layer", hidden=8, features=12)
    jobs = []
    for microbatches in (2, 3):
        options = RuleOptions(microbatches=microbatches, copies=2)
        graph = RULES["lr"](one.stages, options)
        problem = problem_of(graph, 2)
        found = schedule(problem, "lr-fixed")
        first, second = found.lanes
        swapped = Schedule((replace(second, unit="u0"), replace(first, unit="u1")), "swapped")
        jobs.append(Scheduled(prepare(one.program, graph, one.batch(microbatches), options), problem, swapped))
    with EXECUTORS[executor](jobs, Limits()) as session:
        session.run(0)
        before = session.results(0)
        session.run(1)
        after = session.results(0)
    for what in ("gradients", "parameters", "losses"):
        was, is_ = getattr(before, what), getattr(after, what)
        assert set(was) == set(is_)
        assert all(torch.equal(was[name], is_[name]) for name in was), what


def test_all_sessions_can_be_left_in_any_order(job):
    with ExitStack() as stack:
        sessions = [stack.enter_context(processes([job()], Limits())) for _ in range(3)]
        for session in sessions:
            session.run(0)
        assert len(pids()) == 6
        sessions[1].close()
        sessions[0].run(0)


def test_a_system_that_cannot_fork_says_so_before_anything_else(job, monkeypatch):
    monkeypatch.setattr(forking.multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    for name in FORKED:
        assert unavailable(name) == "this system cannot fork processes"
        with pytest.raises(ExecutionError, match="cannot fork"), EXECUTORS[name]([job()], Limits()):
            pass


def test_messages_that_no_memory_can_hold_are_refused_with_their_size():
    with pytest.raises(ExecutionError, match=r"messages need \S+ TB of shared memory, which the system refuses"):
        open_arena(2, 3, 1, 1 << 60)


def test_a_link_is_not_measured_with_less_than_was_asked_for(job):
    with processes([job()], Limits()) as session, pytest.raises(ExecutionError, match="does not fit into"):
        session.exchange(0, 1, 1 << 30, 2)
